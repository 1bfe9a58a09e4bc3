"""An exported network in parts, so that a page computes again only what an intervention changes.

Every tensor of the network depends on some gates and on no others. In a U-Net the path down depends on none,
and the last block on all. Nodes that depend on the same gates make one part, a network of its own. A program
runs the parts in their order, keeps what each of them answers, and after a gate has changed runs those parts
again that depend on it. Most parts of a 2.5D network treat each slice alone, so that a change in one slice
takes a run over that slice only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from csam_lite.common.errors import missing

if TYPE_CHECKING:
    import onnx
    import onnxruntime


class Part(NamedTuple):
    """A part as an ONNX file. It reads and answers tensors under their names in the whole network.

    gates    names of the outputs of those gates on which its answers depend
    slices   of a part that answers each slice from the same slice of what it reads: name of a tensor -> the
             axis of the slices, for all answers and for what has one; else empty
    """

    onnx: bytes
    inputs: list[str]
    outputs: list[str]
    gates: list[str]
    slices: dict[str, int]


def parts_of(network: bytes, facts: Mapping) -> list[Part]:
    """The parts of an ONNX file that `export` wrote, in an order in which they can be run.

    facts: the description beside it. Raises InputError where onnx or onnxruntime is not installed.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise missing("page", error.name or "onnx", "web") from error
    model = onnx.load_from_string(network)
    groups: dict[frozenset[str], list[onnx.NodeProto]] = {}
    for node, gates in zip(model.graph.node, _gates_of_nodes(model.graph, facts)):
        groups.setdefault(gates, []).append(node)
    # What a part reads depends on some of its gates and on no others.
    ordered = dict(sorted(groups.items(), key=lambda group: len(group[0])))
    parts = [_part(model, nodes, gates) for gates, nodes in ordered.items()]
    [x] = (value for value in model.graph.input if value.name == facts["input"]["name"])
    if not x.type.tensor_type.shape.dim[1].dim_param or facts["slices"]["most"] < 3:
        return parts  # of one depth: it cannot be asked about some of the slices
    return [part._replace(slices=axes) for part, axes in zip(parts, _slice_axes(parts, facts))]


def _gates_of_nodes(graph: onnx.GraphProto, facts: Mapping) -> list[frozenset[str]]:
    """The gates on which each node depends. A node that reads nothing but what replaces a gate, for example
    to give it other axes, is counted to the one that reads it."""
    none: frozenset[str] = frozenset()
    gate_of = {gate[end]: gate["output"] for gate in facts["gates"] for end in ("factor", "offset")}
    needs = {name: frozenset([gate]) for name, gate in gate_of.items()}  # name of a tensor -> gates
    given = {*gate_of, *(weight.name for weight in graph.initializer)}
    found = []
    for node in graph.node:
        read = list(_read_by(node))
        # The exporter takes the number of slices from the shape of a gate, which is none of its values.
        of_shape = node.op_type == "Shape" and node.input[0] in gate_of
        gates = none if of_shape else none.union(*(needs.get(name, none) for name in read))
        found.append(gates)
        needs |= dict.fromkeys(node.output, gates)
        if gates and given.issuperset(read):
            given |= set(node.output)
    readers: dict[str, set[frozenset[str]]] = {}  # name of a tensor -> gates of those nodes that read it
    for i, node in reversed(list(enumerate(graph.node))):
        of = readers.get(node.output[0], set())
        if node.output[0] in given and len(of) == 1:
            [found[i]] = of
        for name in _read_by(node):
            readers.setdefault(name, set()).add(found[i])
    return found


def _slice_axes(parts: list[Part], facts: Mapping) -> list[dict[str, int]]:
    """`slices` of each part, found by trial: volumes of three and of two slices tell the axis, and two slices
    that are seen alone must have the answers that they had among three."""
    import onnxruntime

    rng, picked = np.random.default_rng(0), [2, 0]
    shapes = {facts["input"]["name"]: facts["input"]["shape"]}
    shapes |= {gate[end]: gate["shape"] for gate in facts["gates"] for end in ("factor", "offset")}
    three, two = ({name: rng.normal(size=[S if n == "S" else n for n in shape]).astype(np.float32)
                   for name, shape in shapes.items()} for S in (3, 2))
    found = []
    for part in parts:
        session = onnxruntime.InferenceSession(part.onnx)
        for tensors in (three, two):
            tensors |= _answer(session, part, tensors)
        axes = {name: axis for name in (*part.inputs, *part.outputs)
                if (axis := _changed_axis(three[name].shape, two[name].shape)) is not None}
        is_apart = axes.keys() >= set(part.outputs) and all(
            set(three[name].shape[:axis]) <= {1} for name, axis in axes.items())  # a slice lies in one piece
        if is_apart:
            seen = {name: three[name].take(picked, axes[name]) if name in axes else three[name]
                    for name in part.inputs}
            again = _answer(session, part, seen)
            is_apart = all(np.allclose(again[name], three[name].take(picked, axes[name]), 1e-4, 1e-5)
                           for name in part.outputs)
        found.append(axes if is_apart else {})
    return found


def _answer(session: onnxruntime.InferenceSession, part: Part,
            tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    given = {name: tensors[name] for name in part.inputs}
    return dict(zip(part.outputs, session.run(part.outputs, given)))


def _changed_axis(three: tuple[int, ...], two: tuple[int, ...]) -> int | None:
    """The axis that is 3 in one shape and 2 in the other, if it is the only one in which they differ."""
    differ = [axis for axis, pair in enumerate(zip(three, two)) if pair[0] != pair[1]]
    is_one = len(three) == len(two) and len(differ) == 1
    return differ[0] if is_one and (three[differ[0]], two[differ[0]]) == (3, 2) else None


def _part(model: onnx.ModelProto, nodes: list[onnx.NodeProto], gates: frozenset[str]) -> Part:
    import onnx

    graph, own = model.graph, {name for node in nodes for name in node.output}
    read = {name: None for node in nodes for name in _read_by(node)}  # in their order
    ids = {id(node) for node in nodes}
    wanted = {name for node in graph.node if id(node) not in ids for name in _read_by(node)}
    wanted |= {value.name for value in graph.output}
    weights = [weight for weight in graph.initializer if weight.name in read]
    known = {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}
    constant = {weight.name for weight in weights}
    inputs = [name for name in read if name in known and name not in own | constant]
    outputs = [name for node in nodes for name in node.output if name in wanted]
    part = onnx.helper.make_graph(nodes, "part", [known[name] for name in inputs],
                                  [known[name] for name in outputs], weights)
    whole = onnx.helper.make_model(part, opset_imports=model.opset_import, ir_version=model.ir_version)
    return Part(whole.SerializeToString(), inputs, outputs, sorted(gates), {})


def _read_by(node: onnx.NodeProto) -> Iterator[str]:
    """Names of the tensors that a node reads, and that the graphs within it read."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from _read_by(inner)
