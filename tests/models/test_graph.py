"""Models as graphs: they encode and answer as the models do, and a network is in its graph once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnxruntime import InferenceSession

from waferlab.config import ModelConfig
from waferlab.models.classifier import Classifier, predict_logits
from waferlab.models.decision import Decision
from waferlab.models.graph import INPUT, graph_of, outputs_of, save_graph

CLASSES = ("Center", "Normal", "Scratch")
MAPS = np.random.default_rng(0).integers(0, 3, (40, 16, 16), np.uint8)
IMAGES = np.random.default_rng(0).integers(0, 256, (10, 16, 16, 3), np.uint8)
Answer = Callable[[NDArray[np.uint8]], list[NDArray[np.generic]]]


def inspector(decision: Decision, encoding: str = "die_fail") -> Classifier:
    """An untrained network, to whom no class is likelier than another."""
    torch.manual_seed(0)
    given = {"_target_": "waferlab.models.students.Compact", "encoding": encoding, "width": 8, "depths": [1, 1, 1]}
    model = Classifier(ModelConfig.model_validate(given), CLASSES, (16, 16))
    model.decision = decision
    with torch.no_grad():
        net: Any = model.net
        net.classify.bias -= predict_logits(model, IMAGES if encoding == "pixels" else MAPS).mean(0)
    return model


def graph(model: Classifier, shape: tuple[int, ...], folder: Path) -> Answer:
    file = save_graph(model, shape, folder / "model.onnx")
    session = InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return lambda maps: session.run(None, {INPUT: maps})


@pytest.mark.parametrize("threshold", [None, 0.6])
@pytest.mark.parametrize("vote", ["mean", "majority"])
def test_votes_as_the_model_does(vote: Literal["mean", "majority"], threshold: float | None, tmp_path: Path) -> None:
    model = inspector(Decision(0.02, True, vote, 1, threshold))
    answer = graph(model, (16, 16), tmp_path)
    for count in (40, 1):
        bits, probabilities = model.answer(MAPS[:count])
        found = answer(MAPS[:count])
        np.testing.assert_allclose(found[1], probabilities, atol=1e-4)
        assert np.array_equal(found[0], bits)
    assert len(np.unique(model.predict(MAPS), axis=0)) > 1, "the maps are not all of one class"


def test_of_images_in_all_views_answers_as_the_model_does(tmp_path: Path) -> None:
    model = inspector(Decision(0.02, True, "majority", 1, 0.6), "pixels")
    bits, probabilities = model.answer(IMAGES)
    found = graph(model, (16, 16, 3), tmp_path)(IMAGES)
    np.testing.assert_allclose(found[1], probabilities, atol=1e-4)
    assert np.array_equal(found[0], bits)


def test_holds_the_network_once(tmp_path: Path) -> None:
    nodes = [
        len(onnx.load(save_graph(inspector(Decision(all_views=views)), (16, 16), tmp_path / "model.onnx")).graph.node)
        for views in (False, True)
    ]
    assert nodes[1] < 2 * nodes[0]


class TestGraphOf:
    @pytest.mark.parametrize("encoding", ["ordinal", "signed", "die_fail", "one_hot"])
    def test_encodes_exactly_as_the_model_does(self, encoding: str) -> None:
        model, maps = inspector(Decision(), encoding), torch.from_numpy(MAPS)
        graph: Any = graph_of(model)
        assert torch.equal(graph.model.encode(maps), model.encode(maps))

    def test_gives_logits_where_the_reader_decides(self) -> None:
        model, maps = inspector(Decision()), torch.from_numpy(MAPS)
        model.decision = None
        assert outputs_of(model, decided=False) == ("logits",)
        with torch.no_grad():
            (logits,) = graph_of(model, decided=False)(maps)
            bits, probabilities = graph_of(model)(maps)
            assert torch.allclose(logits, model.eval()(maps), atol=1e-5)
        assert torch.equal(bits, (logits > 0).byte())
        assert torch.equal(probabilities, logits.sigmoid())

    def test_of_one_class_always_decides_itself(self) -> None:
        model = inspector(Decision())
        assert outputs_of(model) == outputs_of(model, decided=False) == ("bits", "probabilities")

    def test_is_a_copy_and_leaves_the_model_as_it_is(self) -> None:
        model = inspector(Decision()).train()
        before = model.encode
        graph: Any = graph_of(model)
        assert all(part.training for part in model.modules())
        assert not any(part.training for part in graph.modules())
        assert model.encode == before
        assert not {id(each) for each in model.parameters()} & {id(each) for each in graph.parameters()}

    def test_votes_of_all_views_that_maps_of_unequal_sides_have(self) -> None:
        given = {
            "_target_": "waferlab.models.students.Compact",
            "encoding": "die_fail",
            "width": 4,
            "depths": [1, 1, 1],
        }
        torch.manual_seed(0)
        model = Classifier(ModelConfig.model_validate(given), CLASSES, (16, 20)).eval()
        model.decision = Decision(0.01, True)
        maps = np.random.default_rng(1).integers(0, 3, (9, 16, 20), np.uint8)
        with torch.no_grad():
            bits, probabilities = graph_of(model)(torch.from_numpy(maps))
        expected = model.answer(maps)
        np.testing.assert_allclose(probabilities, expected[1], atol=1e-4)
        assert np.array_equal(bits, expected[0])
