"""The ONNX graph of a classifier of one class: it answers as the model does, and its network is in it once."""

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
from waferlab.models.graph import INPUT, save_graph

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
        net.classify.bias -= predict_logits(model, MAPS if encoding == "die_fail" else IMAGES).mean(0)
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
