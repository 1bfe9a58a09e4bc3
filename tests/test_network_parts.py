"""The parts of an exported network: together they are the network, and each depends on what it says."""

import sys

import numpy as np
import pytest
import torch

from csam_lite import UNet, UNetPlusPlus
from csam_lite.common.errors import InputError
from csam_lite.explorer.network_parts import parts_of
from csam_lite.inference.export import onnx_program

onnxruntime = pytest.importorskip("onnxruntime", reason="no onnxruntime: pip install -e '.[web]'")
NETWORKS = {
    "U-Net": lambda: UNet(1, 3, num_slices=6, base_channels=4, levels=3),
    "drawn gates": lambda: UNet(2, 2, num_slices=6, base_channels=4, levels=3, uncertain=True),
    "U-Net++": lambda: UNetPlusPlus(1, 3, num_slices=6, base_channels=4, levels=3),
    "no gates": lambda: UNet(1, 2, num_slices=6, base_channels=4, levels=2, attention="none"),
}


def exported(network, tmp_path, depth=6, any_depth=True):
    program, facts = onnx_program(network.eval(), (depth, network.down[0][0].in_channels if isinstance(network, UNet) else 1, 16, 24), any_depth)
    program.save(str(tmp_path / "network.onnx"), external_data=False)
    return (tmp_path / "network.onnx").read_bytes(), facts


def given(facts, S, rng):
    """Tensors for all inputs, with gates that are changed a little."""
    shapes = {facts["input"]["name"]: facts["input"]["shape"]}
    shapes |= {gate[end]: gate["shape"] for gate in facts["gates"] for end in ("factor", "offset")}
    return {name: rng.normal(size=[S if n == "S" else n for n in shape]).astype(np.float32) for name, shape in shapes.items()}


def run_parts(sessions, parts, tensors):
    """All tensors; each part may read what is given and what a part before it has answered."""
    tensors = dict(tensors)
    for session, part in zip(sessions, parts):
        tensors |= zip(part.outputs, session.run(part.outputs, {name: tensors[name] for name in part.inputs}))
    return tensors


@pytest.mark.parametrize("case", NETWORKS)
def test_parts_are_the_network_and_depend_on_what_they_say(case, tmp_path, seed):
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    onnx, facts = exported(NETWORKS[case](), tmp_path)
    parts, whole = parts_of(onnx, facts), onnxruntime.InferenceSession(onnx)
    sessions = [onnxruntime.InferenceSession(part.onnx) for part in parts]
    names = [output.name for output in whole.get_outputs()]
    for S in (6, 3, 1):
        tensors = given(facts, S, rng)
        found = run_parts(sessions, parts, tensors)
        for name, values in zip(names, whole.run(names, tensors)):
            np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-5, err_msg=name)
    S, gates = 6, sorted(gate["output"] for gate in facts["gates"])
    tensors = given(facts, S, rng)
    before = run_parts(sessions, parts, tensors)
    for gate in gates:
        other = tensors | {name: values for name, values in given(facts, S, rng).items() if name.startswith(f"{gate}/")}
        after = run_parts(sessions, parts, other)
        for part in parts:
            changes = any((before[name] != after[name]).any() for name in part.outputs)
            assert changes == (gate in part.gates), (gate, part.gates)
    assert [part.gates for part in parts if "probabilities" in part.outputs] == [gates]
    assert len(parts) <= 2 * len(gates) + 1
    assert sum(len(part.onnx) for part in parts) < len(onnx) + 10_000 * len(parts)  # no weight is there twice
    picked = [4, 1]
    for session, part in zip(sessions, parts):
        if part.slices:  # these slices alone have the answers that they have among all
            seen = {name: before[name].take(picked, part.slices[name]) if name in part.slices else before[name] for name in part.inputs}
            for name, values in zip(part.outputs, session.run(part.outputs, seen)):
                np.testing.assert_allclose(values, before[name].take(picked, part.slices[name]), rtol=1e-4, atol=1e-5)
    # Where gates are computed slices meet; where a slice gate acts, and in all convolutions behind it, they do not.
    apart = [gate for gate in gates if gate.endswith("/slice")]
    for part in parts:
        assert bool(part.slices) == (not gates or any(gate in part.gates for gate in apart)), part.gates


def test_a_network_of_one_depth_and_one_without_onnx(tmp_path, monkeypatch):
    onnx, facts = exported(NETWORKS["U-Net"](), tmp_path, any_depth=False)
    parts = parts_of(onnx, facts)
    assert len(parts) > 3 and not any(part.slices for part in parts)
    for package in ("onnxruntime", "onnx"):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(InputError, match=f"page: needs {package}; in the clone, run: pip install"):
            parts_of(onnx, facts)
