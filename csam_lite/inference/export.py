"""A trained network as an ONNX file, for programs without Python: a page in a browser, another language, a
phone.

OUT.onnx reads one volume on the network's grid, and answers class probabilities, gates, for a drawn gate the
normal distribution of its draws, and the feature maps that each CSAM reads. Each gate has two inputs, so that
a program can replace it:

    gate <- gate * factor + offset          factor 1, offset 0: as computed;  factor 0, offset v: v instead

OUT.json beside it says what the file reads and answers, and what a program needs to prepare a scan.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import warnings
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from csam_lite.common.errors import InputError, first_line, missing
from csam_lite.common.files import temporary_folder, whole_file
from csam_lite.core.attention import CSAM, Attention
from csam_lite.core.gates import record_gates
from csam_lite.core.windows import drawn_gates
from csam_lite.inference import kept
from csam_lite.training.run import Run, stored_version

OPSET = 20  # of the ONNX operators; onnxruntime-web of 2025 and newer knows it


class Gate(NamedTuple):
    """A gate of an exported network: its CSAM, its name, its axes without B, for example "S", their lengths,
    and whether training draws it."""

    csam: str
    name: str
    axes: str
    shape: tuple[int, ...]
    drawn: bool = False

    @property
    def output(self) -> str:
        """Its name among the outputs. Its inputs have the names of `inputs`."""
        return f"{self.csam}/{self.name}"

    @property
    def inputs(self) -> tuple[str, str]:
        """Names of the factor and of the offset."""
        return f"{self.output}/factor", f"{self.output}/offset"

    @property
    def normal(self) -> dict[str, str]:
        """Of a drawn gate, names of the outputs with the mean (S,) and the covariance (S, S) of its draws,
        before the sigmoid."""
        return {part: f"{self.output}_{part}" for part in ("mean", "covariance")} if self.drawn else {}


class ReplaceableGates(nn.Module):
    """A network whose gates are outputs and can be replaced through inputs.

    forward: x (1, S, Cin, H, W), then the factor and the offset of each gate, in the gate's own shape, for
    example (S,) -> probabilities (S, K, H, W), then each gate as the network used it, in its own shape, then
    mean (S,) and covariance (S, S) of each drawn gate, then what each CSAM reads, (S, C, h, w)
    """

    def __init__(self, network: nn.Module, gates: list[Gate]) -> None:
        super().__init__()
        self.network, self.gates = network, gates

    def forward(self, x: torch.Tensor, *controls: torch.Tensor) -> tuple[torch.Tensor, ...]:
        used, normals, read = {}, {}, {}  # gates; their draws; features by the name of their CSAM

        def replace_by(gate: Gate, attention: Attention, factor: torch.Tensor,
                       offset: torch.Tensor) -> Callable:
            pooled = (0, *attention.pooled)  # B, too, has the length 1

            def hook(module, inputs, output):
                replaced = output * _unsqueeze(factor, pooled) + _unsqueeze(offset, pooled)
                used[gate] = replaced.squeeze(pooled)
                return replaced
            return hook

        def keep(csam: str) -> Callable:
            def hook(module, inputs):
                read[csam] = inputs[0][0]
            return hook

        def keep_normal(gate: Gate) -> Callable:
            def hook(module, inputs, output):  # in a draw, the noise of training scales the deviation
                normals[gate] = output.mean[0], output.covariance[0] * module.noise**2
            return hook

        with ExitStack() as hooks:
            for csam in _csams(self.gates):
                hook = self.network.get_submodule(csam).register_forward_pre_hook(keep(csam))
                hooks.callback(hook.remove)
            for gate, factor, offset in zip(self.gates, controls[::2], controls[1::2]):
                csam = self.network.get_submodule(gate.csam)
                attention = next(module for module in csam.attentions if module.name == gate.name)
                replace = replace_by(gate, attention, factor, offset)
                hook = attention.gate.register_forward_hook(replace)
                hooks.callback(hook.remove)
                if gate.drawn:
                    hook = attention.normal.register_forward_hook(keep_normal(gate))
                    hooks.callback(hook.remove)
            probabilities = self.network(x).softmax(2)[0]
        gates, features = (used[gate] for gate in self.gates), (read[csam] for csam in _csams(self.gates))
        drawn = (part for gate in self.gates if gate.drawn for part in normals[gate])
        return probabilities, *gates, *drawn, *features


def export(run: Run, path: str | Path) -> tuple[Path, Path]:
    """Write the network of `run` as `path`, for example "network.onnx", and its description as .json beside
    it.

    Returns the two paths. The number of slices is free, from 1 to the depth for which the network was built;
    deeper volumes are read in windows, as `csam_lite.core.windows` does. Raises InputError where onnx is not
    installed, where the name does not end in .onnx, for a network that draws its gates even in evaluation,
    where a file cannot be written, or where the .json would replace a file of something else.
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise InputError(f"{path}: a network is exported as ONNX; let the name end in .onnx")
    described = path.with_suffix(".json")
    _check_replaceable(described)
    C, P = len(run.facts.channels), run.config.pixels
    onnx, interface = exported_bytes(run.network, (run.facts.num_slices, C, P, P))
    with whole_file(path) as network_part, whole_file(described) as json_part:
        network_part.write_bytes(onnx)
        facts = description(run) | interface
        facts["sha256"] = checksum(onnx, facts)
        json_part.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return path, described


def _check_replaceable(described: Path) -> None:
    """Raises InputError where a file has the name of the description and is none, such as a run's
    config.json."""
    try:
        is_ours = '"opset"' in described.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return  # none is there, or writing will tell
    if not is_ours:
        raise InputError(f"{described}: is there and describes no exported network, and would be replaced; "
                         "choose another name")


def checksum(onnx: bytes, facts: dict) -> str:
    """The sha256 of an exported network and its description together, in hexadecimal. It finds damage, and
    two files that do not belong together."""
    rest = {name: value for name, value in facts.items() if name != "sha256"}
    return hashlib.sha256(onnx + json.dumps(rest, sort_keys=True).encode()).hexdigest()


def exported_bytes(network: nn.Module, shape: tuple[int, int, int, int],
                   any_depth: bool = True) -> tuple[bytes, dict]:
    """As `onnx_program`, but the content of the file; from the user's cache where it was made before.

    Raises InputError as `onnx_program` does, and where onnx is not installed or the network draws its gates
    even in evaluation.
    """
    _check_exportable(network)
    key = kept.key_of(network, shape, any_depth)
    if (exported := kept.read(key)) is not None:
        return exported
    program, interface = onnx_program(network, shape, any_depth)
    with temporary_folder() as folder:
        program.save(str(folder / "network.onnx"), external_data=False)
        exported = (folder / "network.onnx").read_bytes(), interface
    kept.keep(key, exported)
    return exported


def onnx_program(network: nn.Module, shape: tuple[int, int, int, int],
                 any_depth: bool = True) -> tuple[torch.onnx.ONNXProgram, dict]:
    """A network on volumes (S, Cin, H, W) of this shape, as ONNX, and the description of its inputs and
    outputs.

    any_depth: on volumes of 1 to S slices. Raises InputError for a network that torch cannot export.
    """
    network = copy.deepcopy(network).cpu().eval()
    for module in network.modules():
        if isinstance(module, CSAM):
            module.fast = False  # the fast path relies on gates above 0, and a replaced gate may be anything
    x = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    gates, classes = _gates_of(network, x)
    controls = [make(gate.shape) for gate in gates for make in (torch.ones, torch.zeros)]
    S = shape[0]
    slices = torch.export.Dim("S", min=1, max=S) if any_depth and S > 1 else None
    # {} and not None, because torch takes a tuple of None alone for no description
    free = tuple({gate.axes.index("S"): slices} if "S" in gate.axes else {}
                 for gate in gates for _ in gate.inputs)
    shapes = ({1: slices}, free) if gates else ({1: slices},)
    normals = [name for gate in gates for name in gate.normal.values()]
    outputs = ["probabilities", *(gate.output for gate in gates), *normals, *map(_features, _csams(gates))]
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                ReplaceableGates(network, gates), (x, *controls), dynamo=True, verbose=False,
                opset_version=OPSET, input_names=["x", *(name for gate in gates for name in gate.inputs)],
                output_names=outputs, dynamic_shapes=shapes if slices else None)
    except Exception as error:  # of torch's exporter, or of a module that it cannot follow
        cause: BaseException = error  # torch wraps it into pages of advice
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise InputError(f"{type(network).__name__}: torch cannot export it as ONNX ({first_line(cause)}); "
                         "write its forward without steps that depend on values") from error
    return program, _interface(shape, classes, gates)


def _check_exportable(network: nn.Module) -> None:
    """Raises InputError where onnx is not installed, and for a network that draws its gates even in
    evaluation."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise missing("export", error.name or "onnx", "web") from error
    if any(attention.normal.sampling == "released" for attention in drawn_gates(network)):
        raise InputError("export: the network draws its slice gates even in evaluation (sampling released), "
                         "so that no two answers agree; export a run with --sampling reparameterised")


def _gates_of(network: nn.Module, x: torch.Tensor) -> tuple[list[Gate], int]:
    """The gates of `network` on a volume x (1, S, Cin, H, W), in the order in which they act, and how many
    classes it answers."""
    with record_gates(network) as record, torch.no_grad():
        classes = network(x).shape[2]
    attentions = [(name, attention) for name, csam in network.named_modules()
                  if isinstance(csam, CSAM) and name in record for attention in csam.attentions]
    return [Gate(name, attention.name, attention.axes.removeprefix("B"),
                 record[name][attention.name].values.shape[1:],
                 getattr(attention, "normal", None) is not None) for name, attention in attentions], classes


def description(run: Run) -> dict:
    """What a program must know to prepare a scan for the exported network and to read its masks, for
    JSON."""
    return {
        "csam_lite": stored_version(run.folder), "opset": OPSET,
        "channels": run.facts.channels,
        "labels": {str(value): name for value, name in run.facts.labels.items()},
        "pixels": run.config.pixels, "spacing": run.facts.spacing,
        "planes": run.facts.planes, "through_plane": run.facts.through_plane, "in_plane": run.facts.in_plane,
        "preparation": {
            "grid": "slices as they are; each is resampled (bilinear, antialiased) to `spacing` mm and "
                    "centred in `pixels` x `pixels`, cropped or padded",
            "intensities": "of each channel, within the image: clipped to the percentiles, then brought to "
                           "mean 0 and standard deviation 1; outside of the image the lower percentile",
            "percentiles": [0.5, 99.5]}}


def _interface(shape: tuple[int, int, int, int], classes: int, gates: list[Gate]) -> dict:
    """The inputs and outputs of a network on volumes of this shape, (S, C, H, W), for JSON."""
    S, C, H, W = shape
    return {
        "slices": {"least": 1, "most": S},
        "input": {"name": "x", "axes": "BSCHW", "shape": [1, "S", C, H, W]},
        "output": {"name": "probabilities", "axes": "SKHW", "shape": ["S", classes, H, W]},
        "gates": [_gate(gate) for gate in gates],
        "features": [{"csam": csam, "axes": "SCHW", "output": _features(csam)} for csam in _csams(gates)]}


def _csams(gates: list[Gate]) -> list[str]:
    """The names of the CSAMs that have gates, each once, in the order in which they act."""
    return list(dict.fromkeys(gate.csam for gate in gates))


def _features(csam: str) -> str:
    """The name of what a CSAM reads, among the outputs."""
    return f"{csam}/features"


def _gate(gate: Gate) -> dict:
    factor, offset = gate.inputs
    shape = ["S" if axis == "S" else length for axis, length in zip(gate.axes, gate.shape)]
    return {"csam": gate.csam, "name": gate.name, "axes": gate.axes, "shape": shape,
            "output": gate.output, "factor": factor, "offset": offset, "normal": gate.normal}


def _unsqueeze(values: torch.Tensor, dims: tuple[int, ...]) -> torch.Tensor:
    """`values` with the dimensions `dims`, in ascending order, of length 1."""
    for dim in dims:
        values = values.unsqueeze(dim)
    return values


@contextmanager
def _quiet():
    """Without the exporter's notes on its own work. Errors are raised all the same."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
