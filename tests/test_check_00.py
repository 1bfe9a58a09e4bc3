"""The checks of 00_start_here reject wrong answers and accept unlike right ones."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from csam_lite.check import n00


def untouched(*inputs):
    ...


def shapes(semantic="B1C11", positional="B11HW", slice="BS111"):
    def function(B, S, C, H, W):
        sizes = {"B": B, "S": S, "C": C, "H": H, "W": W, "1": 1}
        texts = {"semantic": semantic, "positional": positional, "slice": slice}
        return {gate: tuple(sizes[letter] for letter in text) for gate, text in texts.items()}
    return function


def loop_over_slices(F, gate):
    out = torch.empty_like(F)
    for b in range(F.shape[0]):
        for s in range(F.shape[1]):
            out[b, s] = gate[b, s] * F[b, s]
    return out


def in_place(F, gate):
    F *= gate[:, :, None, None, None]
    return F


def sets_dice(a, b):
    a, b = ({tuple(at) for at in np.argwhere(mask)} for mask in (a, b))
    return 2 * len(a & b) / (len(a) + len(b))


WRONG = {
    "gate_shapes": {
        "semantic and slice exchanged": shapes(semantic="BS111", slice="B1C11"),
        "positional differs by slice": shapes(positional="BS1HW"),
        "positional differs by channel": shapes(positional="B1CHW"),
        "slice on the channel axis": shapes(slice="B1S11"),
        "axes of size 1 left out": shapes("BC", "BHW", "BS"),
        "numbers of one example": lambda B, S, C, H, W: shapes()(2, 5, 3, 7, 4),
        "no dict": lambda B, S, C, H, W: (B, 1, C, 1, 1),
        "a part still open": lambda B, S, C, H, W: shapes()(B, S, C, H, W) | {"slice": ...},
    },
    "slice_gate": {
        "gate on the last axes": lambda F, gate: F * gate,
        "gate on the channels": lambda F, gate: F * gate[:, None, :, None, None],
        "gate of the first volume for all": lambda F, gate: F * gate[:1, :, None, None, None],
        "added": lambda F, gate: F + gate[:, :, None, None, None],
        "sigmoid again": lambda F, gate: F * gate.sigmoid()[:, :, None, None, None],
        "in place": in_place,
        "gate returned": lambda F, gate: gate[:, :, None, None, None],
    },
    "dice": {
        "intersection over union": lambda a, b: (a & b).sum() / (a | b).sum(),
        "without the factor 2": lambda a, b: (a & b).sum() / (a.sum() + b.sum()),
        "part of the first mask": lambda a, b: (a & b).sum() / a.sum(),
        "accuracy": lambda a, b: (a == b).mean(),
        "mean over slices": lambda a, b: np.mean([2 * (x & y).sum() / max(x.sum() + y.sum(), 1) for x, y in zip(a, b) if (x | y).any()]),
        "sum of booleans": lambda a, b: 2 * (a & b).sum() / (a + b).sum(),
        "a list": lambda a, b: [1.0, 0.0],
    },
}
RIGHT = {
    "gate_shapes": {"tuples": shapes(), "torch.Size": lambda *sizes: {gate: torch.Size(s) for gate, s in shapes()(*sizes).items()}},
    "slice_gate": {
        "broadcast": lambda F, gate: F * gate[:, :, None, None, None],
        "einsum": lambda F, gate: torch.einsum("bschw,bs->bschw", F, gate),
        "loops": loop_over_slices,
    },
    "dice": {
        "formula": lambda a, b: 2 * (a & b).sum() / (a.sum() + b.sum()),
        "sets": sets_dice,
        "torch, with a small number below": lambda a, b: 2 * torch.tensor(a & b).sum() / (torch.tensor(a).sum() + torch.tensor(b).sum() + 1e-6),
    },
}


def cases(answers):
    return [pytest.param(name, function, id=f"{name}: {what}") for name, of_check in answers.items() for what, function in of_check.items()]


@pytest.mark.parametrize("name, function", cases(WRONG))
def test_rejects(name, function, capsys):
    assert getattr(n00, name)(function) is False
    assert "[FAIL]" in capsys.readouterr().out


@pytest.mark.parametrize("name, function", cases(RIGHT))
def test_accepts(name, function, capsys):
    assert getattr(n00, name)(function) is True


@pytest.mark.parametrize("name", WRONG)
def test_leaves_an_untouched_stub_alone(name, capsys):
    assert getattr(n00, name)(untouched) is None
    assert getattr(n00, name)(...) is None
    assert "complete the cell above first" in capsys.readouterr().out


def test_machine_is_fine_here(capsys):
    assert n00.machine() is True
    out = capsys.readouterr().out
    assert "[FAIL]" not in out and out.count("[OK]") == len(n00.FLOORS) + 4


@pytest.mark.parametrize("floors, says", [({"torch": "99.0"}, "torch>=99.0"), ({"no_such_package": "1.0"}, "no_such_package>=1.0")])
def test_machine_names_the_mend(floors, says, capsys):
    assert n00.machine(floors) is False
    out = capsys.readouterr().out
    assert out.count("[FAIL]") == 1 and says in out.split("mend:")[1]


def test_machine_needs_a_folder_it_can_write(tmp_path, capsys):
    assert n00.machine({}, folder=tmp_path / "none") is False
    assert "[FAIL] working folder" in capsys.readouterr().out


def test_floors_are_those_of_the_package():
    listed = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]["dependencies"]
    floors = dict(line.split(">=") for line in listed)
    assert n00.FLOORS == {name: floors[name] for name in n00.FLOORS}


def test_versions_are_compared_as_numbers():
    assert n00._numbers("2.13.0+cpu") == (2, 13, 0) > n00._numbers("2.8")
    assert n00._numbers("3.0rc1") >= n00._numbers("2.9")
