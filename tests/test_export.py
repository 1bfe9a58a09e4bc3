"""Exported networks, run by onnxruntime, against the networks themselves: answers, gates, interventions."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY

from csam_lite import UNet
from csam_lite.cli import main
from csam_lite.common.errors import InputError
from csam_lite.core.gates import override_gates, record_gates
from csam_lite.course.toys import ToyNetwork
from csam_lite.data.dataset import find_dataset
from csam_lite.inference import kept
from csam_lite.inference.export import export, exported_bytes, onnx_program
from csam_lite.inference.predict import network_input
from csam_lite.training.build import build_network
from csam_lite.training.config import Config
from csam_lite.training.facts import Facts
from csam_lite.training.run import Run, load_run, pretrained, save_description

onnxruntime = pytest.importorskip("onnxruntime", reason="no onnxruntime: pip install -e '.[web]'")
pytest.importorskip("onnxscript", reason="no onnxscript: pip install -e '.[web]'")


class Exported:
    """An exported network and its description, as another program uses them."""

    def __init__(self, path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.description = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))

    def answer(self, x, replaced=None):
        """Probabilities (S, K, H, W) and {(csam, gate): values} of x (S, C, H, W).

        replaced: {(csam, gate): a number, or an array with NaN where the gate stays}.
        """
        feeds = {"x": x[None].numpy()}
        for gate in self.description["gates"]:
            shape = [len(x) if length == "S" else length for length in gate["shape"]]
            value = (replaced or {}).get((gate["csam"], gate["name"]), np.nan)
            value = np.broadcast_to(np.asarray(value, np.float32), shape)
            feeds[gate["factor"]] = np.isnan(value).astype(np.float32)
            feeds[gate["offset"]] = np.nan_to_num(value).astype(np.float32)
        names = [self.description["output"]["name"], *(gate["output"] for gate in self.description["gates"])]
        probabilities, *gates = self.session.run(names, feeds)
        keys = [(gate["csam"], gate["name"]) for gate in self.description["gates"]]
        return probabilities, dict(zip(keys, gates))


def own_answer(network, x, replaced=None):
    with torch.no_grad(), override_gates(network, replaced or {}), record_gates(network) as record:
        probabilities = network(x[None])[0].softmax(1).numpy()
    return probabilities, record


def assert_same(exported, network, x, replaced=None):
    """Probabilities within 1e-3, the same mask in every voxel, the same gates."""
    probabilities, gates = exported.answer(x, replaced)
    expected, record = own_answer(network, x, replaced)
    assert probabilities.shape == expected.shape
    np.testing.assert_allclose(probabilities, expected, atol=1e-3)
    np.testing.assert_array_equal(probabilities.argmax(1), expected.argmax(1))
    assert set(gates) == {(csam, name) for csam, named in record.items() for name in named if "_" not in name}
    for (csam, name), values in gates.items():
        np.testing.assert_allclose(values, record[csam][name].values[0], atol=1e-5)
    return expected.argmax(1)


def untrained(folder, channels=("T2", "ADC"), num_slices=7, **options):
    config = Config("nowhere", str(folder), **{**TINY, **options})
    facts = Facts(list(channels), {1: "PZ", 2: "TZ"}, num_slices, 1.2, {"train": [], "val": [], "test": []})
    save_description(folder, config, facts)
    return Run(folder, config, facts, build_network(config, facts).eval())


@pytest.fixture(scope="module")
def shipped(shipped_network):
    return Exported(shipped_network)


@pytest.fixture(scope="module")
def volumes(phantoms):
    """T2 of two phantoms on the shipped network's grid."""
    dataset, run = find_dataset(phantoms).only_channels(["T2"]), pretrained()
    return [network_input(run, dataset.read(case)) for case in dataset.cases[:2]]


@pytest.mark.parametrize("slices", [1, 2, 8, 20, 24])
def test_the_shipped_network_on_phantoms_at_every_depth(shipped, volumes, slices):
    network = pretrained().network.cpu()
    for volume in volumes:
        x = torch.cat([volume, volume.flip(0)])[:slices]
        as_trained = assert_same(shipped, network, x)
        hand = np.full(slices, np.nan, np.float32)
        hand[slices // 2] = 0.0
        ramp = np.linspace(0, 1, network.widths[2], dtype=np.float32)
        replaced = {("csam.1", "slice"): 1.0, ("csam.2", "semantic"): ramp, ("csam.0", "positional"): 0.3,
                    ("csam.0", "slice"): hand}
        changed = assert_same(shipped, network, x, replaced)
        assert (changed != as_trained).any() or not as_trained.any()


def test_interventions_change_the_mask(shipped, volumes):
    """Else the comparison above would say little."""
    _, gates = shipped.answer(volumes[0])
    replacements = {}, {("csam.0", "slice"): 1.0}
    masks = [shipped.answer(volumes[0], replaced)[0].argmax(1) for replaced in replacements]
    assert masks[0].any() and (masks[0] != masks[1]).sum() > 50
    _, closed = shipped.answer(volumes[0], {("csam.0", "slice"): 0.25})
    assert (closed["csam.0", "slice"] == 0.25).all() and not (gates["csam.0", "slice"] == 0.25).any()


@pytest.mark.parametrize("options", [
    dict(network="unetpp", uncertain=True), dict(network="unet2d"), dict(network="unet3d"),
    dict(network="self_attention"), dict(neighbours=1, gate_form="normalised"),
    dict(attention="slice", gate_form="residual"), dict(attention="semantic+positional"), dict(attention="none")],
    ids=lambda options: "-".join(map(str, options.values())))
def test_every_network_is_exported(options, tmp_path):
    run = untrained(tmp_path / "run", **options)
    exported = Exported(export(run, tmp_path / "network.onnx")[0])
    for slices in (1, 3, 7):
        x = torch.randn(slices, 2, 32, 32)
        assert_same(exported, run.network, x)
        gates = exported.description["gates"]
        if gates:
            last = gates[-1]
            assert_same(exported, run.network, x, {(last["csam"], last["name"]): 0.2})


def test_a_network_of_one_slice(tmp_path):
    run = untrained(tmp_path / "run", num_slices=1)
    assert_same(Exported(export(run, tmp_path / "network.onnx")[0]), run.network, torch.randn(1, 2, 32, 32))


def test_the_command_and_the_description(run, tmp_path, capsys):
    out = tmp_path / "network.onnx"
    assert main(["export", str(run.folder), str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["network.json", "network.onnx"]
    exported, again = Exported(out), load_run(run.folder)
    description = exported.description
    assert description["channels"] == ["T2", "ADC"] and description["labels"] == {"1": "PZ", "2": "TZ"}
    assert description["pixels"] == 32 and description["spacing"] == run.facts.spacing
    assert description["slices"] == {"least": 1, "most": run.facts.num_slices}
    stored = json.loads((run.folder / "config.json").read_text(encoding="utf-8"))
    assert description["csam_lite"] == stored["csam_lite"]
    names = {"x"} | {gate[end] for gate in description["gates"] for end in ("factor", "offset")}
    assert {given.name for given in exported.session.get_inputs()} == names
    for given in exported.session.get_outputs()[1:1 + len(description["gates"])]:
        gate = next(gate for gate in description["gates"] if gate["output"] == given.name)
        assert given.shape == gate["shape"] and len(gate["axes"]) == len(gate["shape"])
    assert_same(exported, again.network.cpu(), torch.randn(5, 2, 32, 32))


def test_what_cannot_be_exported_is_said_in_one_line(tmp_path, capsys, monkeypatch):
    run = untrained(tmp_path / "run")
    with pytest.raises(InputError, match="end in .onnx"):
        export(run, tmp_path / "network.pt")
    with pytest.raises(InputError, match="sampling released"):
        export(untrained(tmp_path / "drawn", uncertain=True, sampling="released"), tmp_path / "network.onnx")
    assert main(["export", str(tmp_path / "none"), str(tmp_path / "network.onnx")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be written"):
        export(run, tmp_path / "file" / "network.onnx")
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(InputError, match=r'needs onnxscript; .*pip install -e "\.\[web\]"'):
        export(run, tmp_path / "network.onnx")
    assert not list(tmp_path.glob("*.onnx")) and not list(tmp_path.glob("*.json"))


def test_of_an_export_that_fails_the_cause_is_named(monkeypatch):
    def blocked(*_, **__):
        raise ValueError("no such operator\nand more")

    monkeypatch.setattr(torch.export, "export", blocked)
    with pytest.raises(InputError, match=r"UNet: torch cannot export it as ONNX \(no such operator\); write its forward"):
        onnx_program(small(), (4, 1, 16, 16))


def small(seed=0, **options):
    torch.manual_seed(seed)
    return UNet(1, 2, num_slices=4, base_channels=4, levels=2, **options).eval()


def test_a_network_is_known_by_its_weights_and_options(monkeypatch):
    """The same in another process; another where anything differs; none where code without a version, or a hook, takes part."""
    key = kept.key_of(small(), (4, 1, 8, 8))
    code = "from test_export import kept, small; print(kept.key_of(small(), (4, 1, 8, 8)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == key
    others = [small(1), small(uncertain=True), small(attention="slice"), small().train()]
    assert len({key, kept.key_of(small(), (3, 1, 8, 8)), *(kept.key_of(other, (4, 1, 8, 8)) for other in others)}) == 6

    class Own(UNet):
        pass

    assert kept.key_of(Own(1, 2, num_slices=4, base_channels=4, levels=2)) is None
    assert kept.key_of(ToyNetwork(1)) is None  # its code is in a room whose version the hash lacks
    for name in kept.VERSIONS:
        with monkeypatch.context() as other:
            other.setattr(kept, "version", lambda asked, name=name: "another" if asked == name else version(asked))
            assert kept.key_of(small(), (4, 1, 8, 8)) != key
    hooked = small()
    hooked.register_forward_hook(lambda module, inputs, output: output * 0)
    assert kept.key_of(hooked) is None


@pytest.mark.parametrize("state", ["kept", "damaged", "cut", "cannot be written"])
def test_an_export_is_made_once(state, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if state == "cannot be written":
        (tmp_path / "csam_lite").write_text("no folder", encoding="utf-8")
    made = []

    class Program:
        def save(self, path, external_data):
            Path(path).write_bytes(b"an export\n of many bytes")

    monkeypatch.setattr("csam_lite.inference.export.onnx_program", lambda *given: made.append(given) or (Program(), {"slices": {"most": 4}}))
    first = exported_bytes(small(), (4, 1, 8, 8))
    for path in (tmp_path / "csam_lite").glob("exports/*"):
        content = bytearray(path.read_bytes())
        content[-9] ^= state == "damaged"
        path.write_bytes(content[:90] if state == "cut" else content)
    assert exported_bytes(small(), (4, 1, 8, 8)) == first == (b"an export\n of many bytes", {"slices": {"most": 4}})
    assert len(made) == (1 if state == "kept" else 2)


def test_the_cache_of_exports_stays_small(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for k in range(kept.MOST + 3):
        kept.keep(f"{k}", (b"\n%d" % k, {"k": k}))
        os.utime(tmp_path / "csam_lite/exports" / f"{k}.onnx", (k, k))
    assert len(list((tmp_path / "csam_lite/exports").iterdir())) == kept.MOST
    assert kept.read("2") is None and kept.read("5") == (b"\n5", {"k": 5})
