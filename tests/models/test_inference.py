"""Faster answers: the same ones but for the last digits."""

import numpy as np
import pytest
import torch

from waferlab.commands.bench.anomaly import detector_workload
from waferlab.errors import ConfigError
from waferlab.models.classifier import predict_logits
from waferlab.models.detector import Detector
from waferlab.models.inference import hasten

MAPS = np.random.default_rng(0).integers(1, 3, (7, 52, 52)).astype(np.uint8)


@pytest.fixture
def detector() -> Detector:
    """One with random weights."""
    return detector_workload(100, "backbone.width=8", "backbone.depths=[1,1,1]").detector().cpu()


def test_bf16_answers_differ_slightly(detector: Detector) -> None:
    _, exact = detector.predict(MAPS)
    hasten(detector, "bf16-mixed", compiled=False)
    _, scores = detector.predict(MAPS)
    assert not np.array_equal(scores, exact)
    assert scores == pytest.approx(exact, rel=0.1)


def test_compiled_answers_are_the_same_for_batches_of_any_size(detector: Detector) -> None:
    classifier = detector.student.pyramid.classifier
    exact, logits = detector.predict(MAPS), predict_logits(classifier, MAPS)
    hasten(detector, "32-true", compiled=True)
    hasten(classifier, "32-true", compiled=True)
    for count in (7, 3):
        for found, wanted in zip(detector.predict(MAPS[:count]), exact, strict=True):
            assert found == pytest.approx(wanted[:count], rel=1e-4, abs=1e-4)
        torch.testing.assert_close(predict_logits(classifier, MAPS[:count]), logits[:count], rtol=1e-4, atol=1e-4)


def test_compiling_without_a_compiler_is_refused(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ConfigError, match=r"needs a C\+\+ compiler"):
        hasten(detector, "32-true", compiled=True)
