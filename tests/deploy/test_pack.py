"""Weights of one byte each, or half of one: near what they were, row by row, and computed with as before."""

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from waferlab.data.dataset import Dataset
from waferlab.deploy.pack import in_few_bits
from waferlab.models.rounded import keep_rounded, round_weights

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
        found = weights_in(in_few_bits(linear(weights, np.zeros(5, np.float32)), 8), 40)
        half_steps = np.abs(weights).max(1, keepdims=True) / 127 * STEP / 2
        assert (np.abs(found - weights) <= half_steps * (1 + 1e-5)).all()
        assert not np.array_equal(found, weights)

    def test_weights_that_are_whole_steps_come_back_as_they_were(self) -> None:
        weights = np.array([[127, -64, 1, 0], [0.5, -63.5, 32, 1]], np.float32)
        found = weights_in(in_few_bits(linear(weights, np.zeros(2, np.float32)), 8), 4)
        np.testing.assert_allclose(found, weights, rtol=1e-5)

    def test_a_row_of_zeros_stays_one(self) -> None:
        weights = np.array([[0, 0], [1, -1]], np.float32)
        assert weights_in(in_few_bits(linear(weights, np.zeros(2, np.float32)), 8), 2)[0].tolist() == [0, 0]

    def test_biases_have_half_precision(self) -> None:
        biases = np.array([0.1, -1000.4], np.float32)
        made = in_few_bits(linear(np.zeros((2, 3), np.float32), biases), 8)
        assert answer(made, np.ones((1, 3), np.float32))[0].tolist() == biases.astype(np.float16).tolist()


class TestOfHalfAByte:
    @pytest.mark.parametrize("columns", [40, 39])
    def test_each_weight_is_off_by_half_a_step_of_its_row_at_most(self, columns: int) -> None:
        rng = np.random.default_rng(0)
        weights = (rng.normal(size=(5, columns)) * np.array([[0.01], [0.1], [1], [3], [10]])).astype(np.float32)
        found = weights_in(in_few_bits(linear(weights, np.zeros(5, np.float32)), 4), columns)
        half_steps = np.abs(weights).max(1, keepdims=True) / 7 / 2
        assert (np.abs(found - weights) <= half_steps * 1.01).all()
        assert len(np.unique(np.rint(found[0] / half_steps[0] / 2))) <= 15

    def test_weights_that_were_rounded_in_training_come_back_as_they_were(self) -> None:
        torch.manual_seed(0)
        layer = torch.nn.Linear(30, 6)
        round_weights(layer, 4)
        keep_rounded(layer)
        weights = layer.weight.detach().numpy() * np.float32([[1], [0.37], [2.1], [9], [0.01], [1]])  # folded in
        found = weights_in(in_few_bits(linear(weights, np.zeros(6, np.float32)), 4), 30)
        np.testing.assert_allclose(found, weights, rtol=1e-3, atol=1e-7)

    def test_a_row_of_zeros_stays_one(self) -> None:
        weights = np.array([[0, 0], [1, -1]], np.float32)
        assert weights_in(in_few_bits(linear(weights, np.zeros(2, np.float32)), 4), 2)[0].tolist() == [0, 0]


class TestOfANetwork:
    def test_takes_little_more_than_a_byte_a_weight(self, graph: ModelProto) -> None:
        made = in_few_bits(graph, 8)
        onnx.checker.check_model(made, full_check=True)
        floats = [each for each in made.graph.initializer if each.data_type == TensorProto.FLOAT]
        assert sum(np.prod(each.dims) for each in floats) <= 1
        weights = sum(np.prod(each.dims) for each in made.graph.initializer if each.data_type == TensorProto.INT8)
        before = sum(np.prod(each.dims) for each in graph.graph.initializer if each.data_type == TensorProto.FLOAT)
        assert 0.9 * before < weights <= before + 100

    def test_answers_nearly_as_before_any_number_of_maps(self, graph: ModelProto, tiny_dataset: Dataset) -> None:
        sessions = [InferenceSession(each.SerializeToString()) for each in (graph, in_few_bits(graph, 8))]
        for count in (40, 1):
            maps = {"maps": tiny_dataset.part("val").maps[:count]}
            before, after = (session.run(None, maps)[0] for session in sessions)
            assert np.abs(after - before).max() < 0.1 * before.std()

    def test_without_weights_nothing_changes(self) -> None:
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
        graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", values[:1], values[1:])
        given = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        assert in_few_bits(given, 8) == given
