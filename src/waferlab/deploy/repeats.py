"""What a graph does several times, such as a block of a network: said once, as an ONNX function."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Final

from onnx import AttributeProto, FunctionProto, ModelProto, NodeProto

from waferlab.deploy.slim import opset, short_names, shorten

_DOMAIN: Final = "w"
#: How many nodes a function may stand for.
_LENGTHS: Final = range(2, 13)


@dataclass(frozen=True)
class _Run:
    """Nodes that follow each other, of which only the last one's output is used by others.

    Attributes:
        start: place of the first one in the graph.
        body: what they do, in names of its own, and without the integers of their attributes.
        inputs: names of what it is done to.
        output: name of what comes of it.
        integers: in the order of the attributes.
    """

    start: int
    body: tuple[NodeProto, ...]
    inputs: tuple[str, ...]
    output: str
    integers: tuple[int, ...]


@dataclass(frozen=True)
class _Repeat:
    """A function, and the nodes that call it in place of runs, by the places of these."""

    function: FunctionProto
    calls: Mapping[int, NodeProto]

    @property
    def bytes(self) -> int:
        """How many it is written in."""
        return _bytes([self.function, *self.calls.values()])


def said_once(model: ModelProto) -> ModelProto:
    """The same graph with functions in place of nodes that follow each other repeatedly, where that is fewer bytes.

    Such nodes may differ in the integers of their attributes, which the function is told.
    """
    nodes, functions = [*model.graph.node], []
    versions = {each.domain: each.version for each in model.opset_import} | {_DOMAIN: 1}
    names = short_names()
    results = [each.name for each in model.graph.output]
    while found := _most_saving(nodes, results, next(names), versions):
        length, repeat = found
        functions.append(repeat.function)
        inside = {start + place for start in repeat.calls for place in range(1, length)}
        nodes = [repeat.calls.get(place, node) for place, node in enumerate(nodes) if place not in inside]
    made = ModelProto()
    made.CopyFrom(model)
    made.graph.ClearField("node")
    made.graph.node.extend(nodes)
    made.functions.extend(functions)
    made.opset_import.extend([opset(_DOMAIN, 1)] if functions else [])
    shorten(made.graph)
    return made


def _most_saving(
    nodes: Sequence[NodeProto], results: Sequence[str], name: str, versions: Mapping[str, int]
) -> tuple[int, _Repeat] | None:
    best, most = None, 0
    uses = Counter(name for node in nodes for name in node.input) + Counter(results)
    for length in _LENGTHS:
        for runs in _alike(nodes, uses, length):
            repeat = _repeat(runs, name, versions)
            before = _bytes([node for run in runs for node in nodes[run.start : run.start + length]])
            if before - repeat.bytes > most:
                best, most = (length, repeat), before - repeat.bytes
    return best


def _alike(nodes: Sequence[NodeProto], uses: Mapping[str, int], length: int) -> Iterator[list[_Run]]:
    """Runs of this length that do the same, at least two, which don't overlap."""
    found: dict[bytes, list[_Run]] = defaultdict(list)
    for start in range(len(nodes) - length + 1):
        run = _run(nodes[start : start + length], start, uses)
        if run is None:
            continue
        same = found[b"".join(node.SerializeToString() for node in run.body)]
        if not same or same[-1].start + length <= start:
            same.append(run)
    yield from (runs for runs in found.values() if len(runs) > 1)


def _run(nodes: Sequence[NodeProto], start: int, uses: Mapping[str, int]) -> _Run | None:
    """The nodes as a run, where they are one."""
    within = Counter(name for node in nodes for name in node.input)
    made = [name for node in nodes for name in node.output]
    if len(made) != len(nodes) or any(uses[name] != within[name] for name in made[:-1]):
        return None
    inputs = [name for name in within if name and name not in made]
    own = {"": "", **dict(zip([*inputs, *made], short_names(), strict=False))}
    body, integers = [], []
    for node in nodes:
        plain = NodeProto(op_type=node.op_type, domain=node.domain or None)
        plain.input.extend(own[name] for name in node.input)
        plain.output.extend(own[name] for name in node.output)
        for attribute in node.attribute:
            if attribute.type == AttributeProto.INT:
                integers.append(attribute.i)
                plain.attribute.add(name=attribute.name, type=attribute.type)
            else:
                plain.attribute.append(attribute)
        body.append(plain)
    return _Run(start, tuple(body), tuple(inputs), made[-1], tuple(integers))


def _repeat(runs: Sequence[_Run], name: str, versions: Mapping[str, int]) -> _Repeat:
    """The function of this name that does what the runs do."""
    values = zip(*(run.integers for run in runs), strict=True)
    told = dict(zip([place for place, each in enumerate(values) if len({*each}) > 1], short_names(), strict=False))
    first, body, integers = runs[0], [], count()
    for node in runs[0].body:
        whole = NodeProto()
        whole.CopyFrom(node)
        for attribute in whole.attribute:
            if attribute.type == AttributeProto.INT:
                place = next(integers)
                if place in told:
                    attribute.ref_attr_name = told[place]
                else:
                    attribute.i = first.integers[place]
        body.append(whole)
    function = FunctionProto(
        name=name, domain=_DOMAIN, input=islice(short_names(), len(first.inputs)), output=body[-1].output,
        attribute=told.values(), node=body,
        opset_import=[opset(domain, versions[domain]) for domain in sorted({node.domain for node in body})],
    )  # fmt: skip
    return _Repeat(function, {run.start: _call(run, function, told) for run in runs})


def _call(run: _Run, function: FunctionProto, told: Mapping[int, str]) -> NodeProto:
    attributes = [AttributeProto(name=name, type=AttributeProto.INT, i=run.integers[at]) for at, name in told.items()]
    return NodeProto(op_type=function.name, domain=_DOMAIN, input=run.inputs, output=[run.output], attribute=attributes)


def _bytes(parts: Sequence[FunctionProto | NodeProto]) -> int:
    return sum(each.ByteSize() + 2 for each in parts)
