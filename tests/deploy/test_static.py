"""Static quantisation: convolutions in int8 within the ranges seen, logits in float."""

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto
from onnxruntime import InferenceSession

from waferlab.data.dataset import Dataset
from waferlab.deploy.static import quantised


@pytest.fixture(scope="module")
def maps(tiny_dataset: Dataset) -> NDArray[np.uint8]:
    return tiny_dataset.part("train").maps[:100]  # the second batch is smaller


@pytest.fixture(scope="module")
def made(graph: ModelProto, maps: NDArray[np.uint8]) -> ModelProto:
    return quantised(graph, maps)


class TestQuantised:
    def test_all_convolutions_compute_in_int8(self, graph: ModelProto, made: ModelProto) -> None:
        before, after = (Counter(node.op_type for node in each.graph.node) for each in (graph, made))
        assert after["QLinearConv"] == before["Conv"]
        assert not after["Conv"]
        assert not after["Relu"]

    def test_the_last_layer_and_its_logits_are_float(self, made: ModelProto) -> None:
        assert made.graph.node[-1].op_type == "Gemm"
        assert made.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT

    def test_the_encoding_is_inside(self, made: ModelProto) -> None:
        assert made.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8

    def test_answers_nearly_as_before_any_number_of_maps(
        self, graph: ModelProto, made: ModelProto, tiny_dataset: Dataset
    ) -> None:
        sessions = [InferenceSession(each.SerializeToString()) for each in (graph, made)]
        for count in (40, 1):
            few = {"maps": tiny_dataset.part("val").maps[:count]}
            before, after = (session.run(None, few)[0] for session in sessions)
            assert 0 < np.abs(after - before).max() < 0.25 * before.std()

    def test_ranges_are_those_of_the_maps_that_it_was_shown(self, graph: ModelProto, maps: NDArray[np.uint8]) -> None:
        empty = quantised(graph, np.zeros_like(maps[:1]))
        before, after = (
            InferenceSession(each.SerializeToString()).run(None, {"maps": maps})[0] for each in (graph, empty)
        )
        assert np.abs(after - before).max() > before.std()

    def test_the_given_graph_stays_as_it_is(self, graph: ModelProto, maps: NDArray[np.uint8]) -> None:
        before = graph.SerializeToString()
        quantised(graph, maps[:2])
        assert graph.SerializeToString() == before
