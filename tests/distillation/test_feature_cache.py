"""A frozen teacher's features, computed once: the same as if they were computed in every step."""

import pytest
import torch

from waferlab.config import AnomalyConfig
from waferlab.data.batches import Batches
from waferlab.data.dataset import Dataset
from waferlab.distillation.feature_cache import cached_features
from waferlab.experiment.compose import compose_overrides, configuration
from waferlab.models.detector import Detector, build_detector


@pytest.fixture
def detector(tiny_dataset: Dataset) -> Detector:
    small = ["task=anomaly", "backbone.width=4", "backbone.depths=[1,1,1]"]
    config = configuration(compose_overrides("train", small))
    assert isinstance(config, AnomalyConfig)
    torch.manual_seed(0)
    found = build_detector(config.detector, tiny_dataset.classes, tiny_dataset.wafers.size)
    found.standardise(tiny_dataset.part("train").maps)
    return found


@pytest.mark.parametrize("augment", [True, False])
def test_is_what_the_teacher_says_of_each_batch(augment: bool, detector: Detector, tiny_dataset: Dataset) -> None:
    batches = Batches(tiny_dataset.part("train"), 32, shuffle=True, augment=augment)
    cached = cached_features(detector, batches, "32-true", most_gb=1)
    assert cached is not None
    batches.teach(cached)
    for batch in batches:
        pairs = zip(detector.features(batch.maps, batch.teacher), detector.features(batch.maps), strict=True)
        assert all(torch.allclose(*pair, atol=1e-5) for pair in pairs)


def test_is_kept_in_the_precision_of_the_training(detector: Detector, tiny_dataset: Dataset) -> None:
    cached = cached_features(detector, Batches(tiny_dataset.part("val"), 32), "bf16-mixed", most_gb=1)
    assert cached is not None
    assert cached.dtype == torch.bfloat16


def test_is_not_made_where_it_would_take_more_memory_than_allowed(detector: Detector, tiny_dataset: Dataset) -> None:
    batches = Batches(tiny_dataset.part("train"), 32, augment=True)
    size = 8 * len(batches.maps) * sum(c * h * w for c, h, w in detector.shapes) * 4 / 1e9
    assert cached_features(detector, batches, "32-true", most_gb=0.99 * size) is None
    assert cached_features(detector, batches, "32-true", most_gb=1.01 * size) is not None


def test_is_not_made_where_epochs_differ(detector: Detector, tiny_dataset: Dataset) -> None:
    noisy = Batches(tiny_dataset.part("train"), 32, die_noise=0.05)
    assert cached_features(detector, noisy, "32-true", most_gb=1) is None
