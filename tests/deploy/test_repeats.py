"""Functions in place of what a graph does several times: the same answers in fewer bytes."""

from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from waferlab.data.dataset import Dataset
from waferlab.deploy.repeats import said_once

X = np.arange(12, dtype=np.float32).reshape(3, 4)


def model_of(
    nodes: list[onnx.NodeProto], outputs: tuple[str, ...] = ("y",), **constants: NDArray[np.generic]
) -> ModelProto:
    """From ``x`` (3, 4) to these outputs."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3, 4]) for name in ("x", *outputs)]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def answers(model: ModelProto) -> list[NDArray[np.float32]]:
    found: list[NDArray[np.float32]] = InferenceSession(model.SerializeToString()).run(None, {"x": X})
    return found


def blocks(count: int, axes: Iterator[int] | None = None) -> list[onnx.NodeProto]:
    """``count`` times: softmax along an axis, times a constant, tanh, plus what it was at first."""
    nodes, value = [], "x"
    for place in range(count):
        end = "y" if place == count - 1 else f"h{place}"
        nodes += [
            helper.make_node("Softmax", [value], [f"s{place}"], axis=1 if axes is None else next(axes)),
            helper.make_node("Mul", [f"s{place}", f"c{place}"], [f"m{place}"]),
            helper.make_node("Tanh", [f"m{place}"], [f"t{place}"]),
            helper.make_node("Add", [f"t{place}", value], [end]),
        ]
        value = end
    return nodes


def constants(count: int) -> dict[str, NDArray[np.generic]]:
    return {f"c{place}": np.float32(place + 1) * np.ones(4, np.float32) for place in range(count)}


class TestSaidOnce:
    def test_nodes_that_repeat_become_one_function_that_is_called(self) -> None:
        given = model_of(blocks(6), **constants(6))
        made = said_once(given)
        assert [node.op_type for node in made.functions[0].node] == ["Softmax", "Mul", "Tanh", "Add"]
        assert [node.domain for node in made.graph.node] == ["w"] * 6
        assert made.ByteSize() < 0.7 * given.ByteSize()
        assert np.array_equal(answers(made)[0], answers(given)[0])
        onnx.checker.check_model(made, full_check=True)

    def test_a_function_is_told_the_integers_in_which_they_differ(self) -> None:
        given = model_of(blocks(6, iter([0, 1, 1, 0, 1, 0])), **constants(6))
        made = said_once(given)
        assert len(made.functions[0].attribute) == 1
        assert [node.attribute[0].i for node in made.graph.node] == [0, 1, 1, 0, 1, 0]
        assert np.array_equal(answers(made)[0], answers(given)[0])

    def test_a_value_that_others_use_stays_visible(self) -> None:
        given = model_of(blocks(6), ("y", "m3"), **constants(6))
        made = said_once(given)
        assert made.functions
        for before, after in zip(answers(given), answers(made), strict=True):
            assert np.array_equal(before, after)

    def test_what_is_done_once_stays_as_it_is(self) -> None:
        made = said_once(model_of(blocks(1), **constants(1)))
        assert not made.functions
        assert [node.op_type for node in made.graph.node] == ["Softmax", "Mul", "Tanh", "Add"]

    def test_what_is_too_short_to_pay_stays_as_it_is(self) -> None:
        chain = ["x", "a", "b", "c", "y"]
        kinds = ["Abs", "Neg", "Abs", "Neg"]
        nodes = [
            helper.make_node(kind, [one], [other]) for kind, one, other in zip(kinds, chain, chain[1:], strict=False)
        ]
        made = said_once(model_of(nodes))
        assert not made.functions
        assert [node.op_type for node in made.graph.node] == kinds

    def test_of_a_network_answers_as_before(self, graph: ModelProto, tiny_dataset: Dataset) -> None:
        made, maps = said_once(graph), {"maps": tiny_dataset.part("val").maps}
        assert made.functions
        assert made.ByteSize() < graph.ByteSize()
        before, after = (InferenceSession(each.SerializeToString()).run(None, maps)[0] for each in (graph, made))
        assert np.array_equal(before, after)
