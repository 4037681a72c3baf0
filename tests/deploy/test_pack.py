"""Weights of one byte each: near what they were, row by row, and computed with as before."""

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from waferlab.data.dataset import Dataset
from waferlab.deploy.pack import in_bytes

#: By how much a row's scale may exceed what its largest weight asks for.
STEP = 2 ** (1 / 6)


def linear(weights: NDArray[np.float32], biases: NDArray[np.float32]) -> ModelProto:
    """``y = x @ weights.T + biases``."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", None]) for name in "xy"]
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)
    constants = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(biases, "b")]
    graph = helper.make_graph([node], "g", values[:1], values[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def answer(model: ModelProto, x: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    return found


def weights_in(model: ModelProto, columns: int) -> NDArray[np.float32]:
    """As a runtime has them, where biases are zero."""
    return answer(model, np.eye(columns, dtype=np.float32)).T


class TestLinear:
    @pytest.mark.parametrize("factor", [0.01, 1.0, 300.0])
    def test_each_weight_is_off_by_half_a_step_of_its_row_at_most(self, factor: float) -> None:
        rng = np.random.default_rng(0)
        weights = (rng.normal(size=(5, 40)) * np.array([[0.01], [0.1], [1], [3], [10]]) * factor).astype(np.float32)
        found = weights_in(in_bytes(linear(weights, np.zeros(5, np.float32))), 40)
        half_steps = np.abs(weights).max(1, keepdims=True) / 127 * STEP / 2
        assert (np.abs(found - weights) <= half_steps * (1 + 1e-5)).all()
        assert not np.array_equal(found, weights)

    def test_weights_that_are_whole_steps_come_back_as_they_were(self) -> None:
        weights = np.array([[127, -64, 1, 0], [0.5, -63.5, 32, 1]], np.float32)
        found = weights_in(in_bytes(linear(weights, np.zeros(2, np.float32))), 4)
        np.testing.assert_allclose(found, weights, rtol=1e-5)

    def test_a_row_of_zeros_stays_one(self) -> None:
        weights = np.array([[0, 0], [1, -1]], np.float32)
        assert weights_in(in_bytes(linear(weights, np.zeros(2, np.float32))), 2)[0].tolist() == [0, 0]

    def test_biases_have_half_precision(self) -> None:
        biases = np.array([0.1, -1000.4], np.float32)
        made = in_bytes(linear(np.zeros((2, 3), np.float32), biases))
        assert answer(made, np.ones((1, 3), np.float32))[0].tolist() == biases.astype(np.float16).tolist()


class TestOfANetwork:
    def test_takes_little_more_than_a_byte_a_weight(self, graph: ModelProto) -> None:
        made = in_bytes(graph)
        onnx.checker.check_model(made, full_check=True)
        floats = [each for each in made.graph.initializer if each.data_type == TensorProto.FLOAT]
        assert sum(np.prod(each.dims) for each in floats) <= 1
        weights = sum(np.prod(each.dims) for each in made.graph.initializer if each.data_type == TensorProto.INT8)
        before = sum(np.prod(each.dims) for each in graph.graph.initializer if each.data_type == TensorProto.FLOAT)
        assert 0.9 * before < weights <= before + 100

    def test_answers_nearly_as_before_any_number_of_maps(self, graph: ModelProto, tiny_dataset: Dataset) -> None:
        sessions = [InferenceSession(each.SerializeToString()) for each in (graph, in_bytes(graph))]
        for count in (40, 1):
            maps = {"maps": tiny_dataset.part("val").maps[:count]}
            before, after = (session.run(None, maps)[0] for session in sessions)
            assert np.abs(after - before).max() < 0.1 * before.std()

    def test_without_weights_nothing_changes(self) -> None:
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
        graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", values[:1], values[1:])
        given = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        assert in_bytes(given) == given
