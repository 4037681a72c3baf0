"""ONNX graphs without what no runtime reads: an exporter says 80 KB of a 4 KB network, such as whence each node is."""

from collections import Counter
from collections.abc import Iterator
from itertools import chain, count, product
from string import ascii_letters, digits
from typing import Final

import onnx
import onnx_ir as ir
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    OperatorSetIdProto,
    TensorProto,
    ValueInfoProto,
    numpy_helper,
)
from onnx_ir.passes import common

from waferlab.models.graph import quiet

#: What all integers of an attribute are where it says nothing.
_NEUTRAL: Final = {"dilations": 1, "strides": 1, "pads": 0}
#: Names are made of these.
_LETTERS: Final = f"{ascii_letters}_{digits}"
#: Their weights say how large a kernel is.
_CONVOLUTIONS: Final = ("Conv", "QLinearConv")


def slimmed(model: ModelProto) -> ModelProto:
    """The same function in fewer bytes, with the same inputs and outputs.

    Values have names of one or two letters, those that occur most often the shortest, and equal constants are kept
    once. Gone are names of nodes, comments, metadata, shapes within the graph, and attributes with default values.
    """
    tidied = ir.from_proto(model)
    with quiet():
        for tidy in (
            common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
            common.RemoveUnusedNodesPass(),
            common.RemoveUnusedFunctionsPass(),  # type: ignore[no-untyped-call]
            common.RemoveUnusedOpsetsPass(),
            common.DeduplicateInitializersPass(size_limit=1 << 30),
        ):
            tidy(tidied)
    plain = ir.to_proto(tidied)
    opsets = {each.domain: each.version for each in plain.opset_import}
    graph = _slim_graph(plain.graph, opsets)
    shorten(graph)
    return ModelProto(
        ir_version=plain.ir_version, opset_import=[opset(*each) for each in opsets.items()], graph=graph,
        functions=plain.functions,
    )  # fmt: skip


def opset(domain: str, version: int) -> OperatorSetIdProto:
    """What says which version of a domain's operators is meant."""
    return OperatorSetIdProto(domain=domain or None, version=version)


def _slim_graph(graph: GraphProto, opsets: dict[str, int]) -> GraphProto:
    return GraphProto(
        name="g",
        node=[_slim_node(node, opsets) for node in graph.node],
        initializer=map(_slim_tensor, graph.initializer),
        input=map(_slim_value, graph.input),
        output=map(_slim_value, graph.output),
    )


def _slim_node(node: NodeProto, opsets: dict[str, int]) -> NodeProto:
    said = [each for each in node.attribute if not _goes_without_saying(each, node, opsets[node.domain])]
    for attribute in said:
        attribute.ClearField("doc_string")
        if attribute.HasField("g"):
            attribute.g.CopyFrom(_slim_graph(attribute.g, opsets))
    domain = node.domain or None
    return NodeProto(op_type=node.op_type, domain=domain, input=node.input, output=node.output, attribute=said)


def _goes_without_saying(attribute: AttributeProto, node: NodeProto, opset: int) -> bool:
    if attribute.name == "kernel_shape" and node.op_type in _CONVOLUTIONS:
        return True
    if attribute.name in _NEUTRAL:
        return set(attribute.ints) == {_NEUTRAL[attribute.name]}
    if not onnx.defs.has(node.op_type, opset, node.domain):
        return False
    known = onnx.defs.get_schema(node.op_type, opset, node.domain).attributes.get(attribute.name)
    return known is not None and known.default_value == attribute


def _slim_tensor(tensor: TensorProto) -> TensorProto:
    """Integers of 64 bits in as many bytes as each one needs."""
    slim = TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
    values = numpy_helper.to_array(tensor)
    if tensor.data_type == TensorProto.INT64 and (values >= 0).all():
        slim.int64_data.extend(values.ravel().tolist())
    else:
        slim.raw_data = values.tobytes()
    return slim


def _slim_value(value: ValueInfoProto) -> ValueInfoProto:
    return ValueInfoProto(name=value.name, type=value.type)


def shorten(graph: GraphProto) -> None:
    """Give all values short names but the graph's inputs and outputs; those that occur most often get the shortest."""
    graphs = list(_graphs(graph))
    kept = {"", *(value.name for value in chain(graph.input, graph.output))}
    used = Counter(name for each in graphs for name in _names(each) if name not in kept)
    free = (name for name in short_names() if name not in kept)
    short = {name: next(free) for name, _ in used.most_common()} | {name: name for name in kept}
    for each in graphs:
        for node in each.node:
            node.input[:] = [short[name] for name in node.input]
            node.output[:] = [short[name] for name in node.output]
        for named in chain(each.initializer, each.input, each.output):
            named.name = short[named.name]


def short_names() -> Iterator[str]:
    """All names, the shortest first."""
    return ("".join(each) for length in count(1) for each in product(_LETTERS, repeat=length))


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """A graph and those within it."""
    yield graph
    for attribute in (each for node in graph.node for each in node.attribute if each.HasField("g")):
        yield from _graphs(attribute.g)


def _names(graph: GraphProto) -> Iterator[str]:
    """Of values, as often as they occur."""
    for node in graph.node:
        yield from chain(node.input, node.output)
    for named in chain(graph.initializer, graph.input, graph.output):
        yield named.name
