"""Slim graphs: they compute the same, and hold next to nothing but their weights."""

from itertools import pairwise

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from waferlab.data.dataset import Dataset
from waferlab.deploy.slim import slimmed
from waferlab.models.classifier import Classifier
from waferlab.models.graph import save_graph


def model_of(nodes: list[onnx.NodeProto], **constants: NDArray[np.generic]) -> ModelProto:
    """From ``x`` (N, C, H, W) to ``y``."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *[None] * 3]) for name in "xy")
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "a long name", [x], [y], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def answer(model: ModelProto, x: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = InferenceSession(model.SerializeToString()).run(["y"], {"x": x})[0]
    return found


@pytest.fixture(scope="module")
def plain(classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> ModelProto:
    """The classifier as it is exported at first."""
    return onnx.load(save_graph(classifier, classifier.size, tmp_path_factory.mktemp("plain") / "m.onnx", False))


class TestOfAnExportedNetwork:
    def test_computes_the_same_to_the_last_digit(
        self, plain: ModelProto, graph: ModelProto, tiny_dataset: Dataset
    ) -> None:
        maps = {"maps": tiny_dataset.part("val").maps}
        before, after = (InferenceSession(each.SerializeToString()).run(None, maps)[0] for each in (plain, graph))
        assert np.array_equal(before, after)
        assert before.std() > 0

    def test_is_a_valid_model_with_the_same_inputs_and_outputs(self, plain: ModelProto, graph: ModelProto) -> None:
        onnx.checker.check_model(graph, full_check=True)
        assert [each.name for each in graph.graph.input] == ["maps"]
        assert [each.name for each in graph.graph.output] == ["logits"]
        assert graph.graph.input[0].type == plain.graph.input[0].type
        assert graph.opset_import[0].version == plain.opset_import[0].version

    def test_takes_little_more_than_its_weights(self, plain: ModelProto, graph: ModelProto) -> None:
        weights = sum(len(each.raw_data) for each in graph.graph.initializer)
        assert plain.ByteSize() - weights > 30_000
        assert graph.ByteSize() - weights < 1600

    def test_says_nothing_that_nobody_reads(self, graph: ModelProto) -> None:
        assert not graph.graph.value_info
        assert not graph.functions
        for node in graph.graph.node:
            assert not node.name
            assert not node.doc_string
            assert not node.metadata_props

    def test_is_as_slim_as_it_gets(self, graph: ModelProto) -> None:
        assert slimmed(graph).ByteSize() == graph.ByteSize()


class TestByHand:
    def test_equal_constants_are_kept_once(self) -> None:
        nodes = [helper.make_node("Add", ["x", "one"], ["h"]), helper.make_node("Mul", ["h", "other"], ["y"])]
        given = model_of(nodes, one=np.full(3, 2, np.float32), other=np.full(3, 2, np.float32))
        made = slimmed(given)
        assert len(made.graph.initializer) == 1
        x = np.ones((1, 1, 1, 3), np.float32)
        assert (answer(made, x) == 6).all()

    def test_constants_that_differ_in_shape_or_sign_are_not(self) -> None:
        nodes = [helper.make_node("Add", ["x", "a"], ["h"]), helper.make_node("Mul", ["h", "b"], ["y"])]
        for other in (np.full(1, 2, np.float32), np.full(3, -2, np.float32)):
            made = slimmed(model_of(nodes, a=np.full(3, 2, np.float32), b=other))
            assert len(made.graph.initializer) == 2

    def test_attributes_with_default_values_go_and_others_stay(self) -> None:
        attributes = {"kernel_shape": [1, 1], "group": 1, "strides": [2, 2], "dilations": [1, 1], "pads": [0, 0, 0, 1]}
        made = slimmed(
            model_of([helper.make_node("Conv", ["x", "w"], ["y"], **attributes)], w=np.ones((1, 1, 1, 1), np.float32))
        )
        assert {each.name: list(each.ints) for each in made.graph.node[0].attribute} == {
            "strides": [2, 2],
            "pads": [0, 0, 0, 1],
        }

    def test_a_default_is_that_of_the_graphs_own_version_of_an_operator(self) -> None:
        node = helper.make_node("Softmax", ["x"], ["y"], axis=-1)
        given = model_of([node])
        assert not slimmed(given).graph.node[0].attribute
        given.opset_import[0].version = 12  # the default was 1 then
        assert slimmed(given).graph.node[0].attribute[0].i == -1

    def test_integers_below_zero_stay_what_they_are(self) -> None:
        made = slimmed(model_of([helper.make_node("Reshape", ["x", "to"], ["y"])], to=np.array([1, 1, 1, -1])))
        assert answer(made, np.zeros((2, 1, 3, 4), np.float32)).shape == (1, 1, 1, 24)

    def test_graphs_within_a_graph_are_slim_too_and_see_its_values(self) -> None:
        def branch(operator: str) -> onnx.GraphProto:
            node = helper.make_node(
                operator, ["a value from outside"], [f"{operator}ed"], name="a node", doc_string="…"
            )
            return helper.make_graph([node], operator, [], [helper.make_tensor_value_info(f"{operator}ed", 1, None)])

        nodes = [
            helper.make_node("Neg", ["x"], ["a value from outside"]),
            helper.make_node("ReduceMin", ["x"], ["least"], keepdims=0),
            helper.make_node("Less", ["least", "zero"], ["some are below"]),
            helper.make_node("If", ["some are below"], ["y"], then_branch=branch("Abs"), else_branch=branch("Sqrt")),
        ]
        made = slimmed(model_of(nodes, zero=np.zeros((), np.float32)))
        x = np.array([[[[4, -9]]]], np.float32)
        assert answer(made, x).tolist() == [[[[4, 9]]]]
        assert b"outside" not in made.SerializeToString()
        assert "…".encode() not in made.SerializeToString()

    def test_many_values_have_names_of_their_own(self) -> None:
        names = ["x", *(f"value {number}" for number in range(200)), "y"]
        nodes = [helper.make_node("Add", [before, "one"], [after]) for before, after in pairwise(names)]
        made = slimmed(model_of(nodes, one=np.ones(1, np.float32)))
        assert answer(made, np.zeros((1, 1, 1, 1), np.float32)).item() == 201
        assert max(len(name) for node in made.graph.node for name in node.output) == 2
