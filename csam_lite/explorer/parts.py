"""An exported network in parts, so that a page computes again only what an intervention changes.

Every tensor of the network depends on the gates of some CSAMs and on no others. In a U-Net the path down
depends on none, and the last block on all. Nodes that depend on the same CSAMs make one part, a network of
its own. A program runs the parts in their order, keeps what each of them answers, and after a gate has
changed runs those parts again that depend on its CSAM.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from csam_lite.common.errors import missing

if TYPE_CHECKING:
    import onnx


class Part(NamedTuple):
    """A part as an ONNX file. It reads and answers tensors under their names in the whole network.

    csams: those on whose gates its answers depend.
    """

    onnx: bytes
    inputs: list[str]
    outputs: list[str]
    csams: list[str]


def parts_of(network: bytes, facts: Mapping) -> list[Part]:
    """The parts of an ONNX file that `export` wrote, in an order in which they can be run.

    facts: the description beside it. Raises InputError where onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise missing("page", "onnx", "web") from error
    model = onnx.load_from_string(network)
    graph, none = model.graph, frozenset()
    csam_of = {gate[end]: gate["csam"] for gate in facts["gates"] for end in ("factor", "offset")}
    needs = {name: frozenset([csam]) for name, csam in csam_of.items()}  # name of a tensor -> CSAMs
    groups: dict[frozenset[str], list[onnx.NodeProto]] = {}
    for node in graph.node:
        # The exporter takes the number of slices from the shape of a gate, which is none of its values.
        of_shape = node.op_type == "Shape" and node.input[0] in csam_of
        csams = none if of_shape else none.union(*(needs.get(name, none) for name in _read_by(node)))
        groups.setdefault(csams, []).append(node)
        needs |= dict.fromkeys(node.output, csams)
    # What a part reads depends on some of its CSAMs and on no others.
    ordered = dict(sorted(groups.items(), key=lambda group: len(group[0])))
    return [_part(model, nodes, csams) for csams, nodes in ordered.items()]


def _part(model: onnx.ModelProto, nodes: list[onnx.NodeProto], csams: frozenset[str]) -> Part:
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
    return Part(whole.SerializeToString(), inputs, outputs, sorted(csams))


def _read_by(node: onnx.NodeProto) -> Iterator[str]:
    """Names of the tensors that a node reads, and that the graphs within it read."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from _read_by(inner)
