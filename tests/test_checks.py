"""Every check of the course rejects wrong answers, accepts unlike right ones, and knows the untouched stub (answers/ holds both)."""

import importlib
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from csam_lite.common.errors import InputError
from csam_lite.course import checks

ANSWERS = {name: importlib.import_module(f"answers.{name}") for name in checks.__all__}
CHECKS = [(module, name) for module, answers in ANSWERS.items() for name in answers.WRONG]
# Mistakes that end in an error of torch or Python; all others must be found by their values.
RAISES = {"n00.slice_gate: gate on the last axes", "n00.slice_gate: gate on the channels", "n04.slice_gate: raises", "n04.slots: raises",
          "n04.finds_cut: raises", "n08.per_patient: raises",
          "n06.prior_bias: masks of four axes only",
          "n05.gate_level: four axes in", "n05.plug: csam behind the whole network"}
NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def cases(kind):
    """(check, answer) of all answers of a kind, "WRONG" or "RIGHT"."""
    return [pytest.param(getattr(getattr(checks, module), name), answer, id=f"{module}.{name}: {what}")
            for module, name in CHECKS for what, answer in getattr(ANSWERS[module], kind)[name].items()]


def test_a_slice_that_is_left_empty_is_wrong_whatever_lies_in_the_memory():
    def forgets_the_last_slice(F, gate):
        out = torch.empty_like(F)
        out[:, :-1] = (F * gate[:, :, None, None, None])[:, :-1]  # the rest may hold the right values from the call before
        return out

    assert checks.n00.slice_gate(forgets_the_last_slice) is False
    assert torch.isnan(checks.answer(lambda: torch.empty(3))).all() and not torch.are_deterministic_algorithms_enabled()


def test_every_check_that_a_notebook_calls_has_answers():
    called = {found for path in NOTEBOOKS.glob("*.ipynb") for found in re.findall(r"checks\.(n\d\d)\.(\w+)\(", path.read_text(encoding="utf-8"))}
    called -= {("n00", "machine")}  # it asks the machine, not the reader: test_machine.py
    for module, name in called ^ set(CHECKS):
        where = f"tests/answers/{module}.py: add" if (module, name) in called else f"notebooks/{module[1:]}_*.ipynb: call"
        pytest.fail(f"{where} checks.{module}.{name} (CONTRIBUTING.md, An exercise)", pytrace=False)


@pytest.mark.parametrize("module, name", CHECKS)
def test_there_are_enough_answers(module, name):
    by_value = [what for what in ANSWERS[module].WRONG[name] if f"{module}.{name}: {what}" not in RAISES]
    assert len(by_value) >= 4, f"tests/answers/{module}.py: WRONG[{name!r}] needs four answers that the values give away"
    assert len(ANSWERS[module].RIGHT[name]) >= 2, f"tests/answers/{module}.py: RIGHT[{name!r}] needs two answers"


@pytest.mark.parametrize("one, answer", cases("WRONG"))
def test_a_wrong_answer_is_rejected_for_its_value(one, answer, request, capsys):
    assert one(answer) is False
    said = capsys.readouterr().out
    assert said.startswith("[FAIL]")
    assert ("your code raised" in said) is (request.node.callspec.id in RAISES)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("one, answer", cases("RIGHT"))
def test_a_right_answer_is_accepted(one, answer, seed):
    torch.manual_seed(seed)
    assert one(answer) is True


def volume_by_volume(network, x, s):
    influence = ANSWERS["n01"].RIGHT["influence"]["zeros"]
    return max(influence(network, volume[None], s) for volume in x)


def in_float64(mean, diag, factor):
    return ANSWERS["n04"].RIGHT["draw"]["draw_by_cholesky"](mean.double(), diag.double(), factor.double())


@pytest.mark.parametrize("module, name, answer", [
    ("n00", "dice", lambda a, b: Fraction(2 * int((a & b).sum()), int(a.sum() + b.sum()))),
    ("n01", "spacing", lambda affine: np.linalg.norm(affine[:3, 2::-1], axis=0)[::-1]),
    ("n01", "influence", volume_by_volume),
    ("n03", "by_hand", lambda: [part.tolist() for part in ANSWERS["n03"].RIGHT["by_hand"]["mean at the pixel"]()]),
    ("n04", "draw", in_float64),
    ("n06", "one_cycle", lambda done: Fraction(ANSWERS["n06"].RIGHT["one_cycle"]["formula"](done))),
])
def test_another_number_type_or_another_loop_is_right_too(module, name, answer, capsys):
    assert getattr(getattr(checks, module), name)(answer) is True, capsys.readouterr().out


def test_right_and_wrong_stay_so_on_the_inputs_of_another_seed(monkeypatch, capsys):
    monkeypatch.setenv("CSAM_LITE_SEED", "12")
    torch.manual_seed(0)
    for kind, verdict in (("RIGHT", True), ("WRONG", False)):
        for case in cases(kind):
            check, answer = case.values
            assert check(answer) is verdict, f"{case.id}: {capsys.readouterr().out}"


class Recorder:
    """Answers as `right` does and remembers each result, or gives the remembered results in the same order."""

    def __init__(self, right=None, results=()):
        self.right, self.results, self.place = right, list(results), 0

    def __call__(self, *inputs):
        if self.right is not None:
            self.results.append(self.right(*inputs))
            return self.results[-1]
        self.place += 1
        return self.results[(self.place - 1) % len(self.results)]


# weights set by hand, for any input: the answer takes none
CONSTANT = {("n02", "by_hand"), ("n03", "by_hand")}


@pytest.mark.parametrize("module, name", [check for check in CHECKS if check not in CONSTANT])
def test_remembered_results_fail_on_the_inputs_of_another_seed(module, name, monkeypatch, capsys):
    check, right = getattr(getattr(checks, module), name), next(iter(ANSWERS[module].RIGHT[name].values()))
    recorder = Recorder(right)
    torch.manual_seed(0)
    assert check(recorder) is True and recorder.results
    monkeypatch.setenv("CSAM_LITE_SEED", "7")
    assert check(Recorder(results=recorder.results)) is False, f"{module}.{name}: {capsys.readouterr().out}"


def test_a_seed_that_is_no_number_is_refused(monkeypatch):
    monkeypatch.setenv("CSAM_LITE_SEED", "seven")
    with pytest.raises(InputError, match="CSAM_LITE_SEED=seven: give a whole number"):
        checks.n00.slice_gate(lambda F, gate: F)


@pytest.mark.parametrize("untouched", [lambda *inputs: None, lambda *inputs: ..., None, ...], ids=["None", "...", "no function", "ellipsis"])
@pytest.mark.parametrize("module, name", CHECKS)
def test_an_untouched_stub_is_told_what_to_do(module, name, untouched, capsys):
    assert getattr(getattr(checks, module), name)(untouched) is None
    assert "nothing is returned yet; complete the cell" in capsys.readouterr().out


def test_a_failed_property_is_named_also_without_docstrings():
    """`python -OO` removes them, and what a check says must not depend on it."""
    code = "from csam_lite.course import checks; checks.n00.dice(lambda a, b: 0.5); checks.n00.dice(lambda a, b: ...)"
    said = [subprocess.run([sys.executable, *flags, "-c", code], capture_output=True, encoding="utf-8", check=True).stdout
            for flags in ([], ["-OO"])]
    assert said[0] == said[1] and "[FAIL] dice: A mask agrees with itself" in said[1] and "[..] dice" in said[1]


@pytest.mark.parametrize("module, name, what, says", [
    ("n00", "gate_shapes", "numbers, not shapes", 'expected a tuple of five numbers under "semantic"'),
    ("n01", "thick_slices", "rounded to whole numbers", "keeps whole numbers only"),
    ("n02", "semantic_attention", "in place", "do not change it in place"),
    ("n03", "positional_attention", "in place", "do not change it in place"),
    ("n04", "slice_gate", "gradient of the mean cut", "on the gradient in x"),
    ("n04", "draw", "coin flips", "the noise is standard normal"),
    ("n04", "finds_cut", "the last parameter only", "whose first layer alone is cut"),
    ("n00", "dice", "written into b", "The inputs stay as they were\n       b looked at afterwards: at .* expected 1, found 0; do not change it in place"),
    ("n08", "per_patient", "writes into the rows", "The inputs stay as they were\n       rows looked at afterwards"),
    ("n00", "dice", "a list", "expected the number 1, found a list of 2"),
    ("n02", "statistics", "a dict", "expected 2 parts, the maximum, the mean; found a dict"),
    ("n02", "statistics", "stacked on axis 1", r"found a Tensor of the shape \(1, 2, 2\)"),
    ("n02", "statistics", "the mean detached", "part 2 of the output does not depend on x"),
    ("n03", "maps", "the maximum never below 0", "a maximum can be negative"),
    ("n01", "thick_slices", "added up in 16 bits", "too large for int16"),
    ("n09", "same_grid", "the distance", "expected True, found the number 0; return True or False"),
    ("n09", "volume_ml", "labels added up", "expected 2.0, found 3.0"),
])
def test_a_message_names_the_mistake(module, name, what, says, capsys):
    getattr(getattr(checks, module), name)(ANSWERS[module].WRONG[name][what])
    assert re.search(says, capsys.readouterr().out)
