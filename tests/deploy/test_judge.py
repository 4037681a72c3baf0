"""What a study's table says of an exported file, of each kind of model."""

from dataclasses import replace

import numpy as np
import pytest

from waferlab.data.dataset import Dataset, Wafers
from waferlab.deploy.formats import FORMATS, Source
from waferlab.deploy.judge import judged
from waferlab.models.anomaly_model import AnomalyModel
from waferlab.models.classifier import Classifier

COSTS = {"parameters", "bytes", "maps_per_second", "milliseconds", "megabytes"}


@pytest.fixture(scope="module")
def test_part(tiny_dataset: Dataset) -> Wafers:
    return tiny_dataset.part("test")


def found(source: Source, test: Wafers) -> dict[str, float]:
    return judged(FORMATS["onnx"].make(source), "onnx", source, test)


def test_patterns_are_judged_by_all_bits_of_a_map(patterns: Source, test_part: Wafers) -> None:
    values = found(patterns, test_part)
    assert values.keys() == {"exact_match", "macro_f1", "turned", *COSTS}
    assert isinstance(patterns.model, Classifier)
    right = (patterns.model.predict(test_part.maps) == test_part.labels).all(1).mean()
    assert values["exact_match"] == pytest.approx(right)
    turned = (patterns.model.predict(np.rot90(test_part.maps, axes=(1, 2)).copy()) == test_part.labels).all(1).mean()
    assert values["turned"] == pytest.approx(turned)
    assert values["parameters"] == patterns.model.parameters_count


def test_one_class_by_its_own_decision(inspector: Source, test_part: Wafers) -> None:
    assert isinstance(inspector.model, Classifier)
    answers = inspector.model.answer(test_part.maps)[0]
    labels = answers.copy()
    labels[0] = np.roll(labels[0], 1)
    values = found(inspector, replace(test_part, labels=labels))
    assert values.keys() == {"accuracy", "macro_f1", "turned", *COSTS}
    assert values["accuracy"] == pytest.approx(1 - 1 / len(answers))


def test_scores_by_their_ranking(detector: Source, test_part: Wafers) -> None:
    values = found(detector, test_part)
    assert values.keys() == {"image/auroc", "turned", *COSTS}
    assert isinstance(detector.model, AnomalyModel)
    scores = detector.model.predict(test_part.maps)[1]
    bad, good = scores[test_part.is_abnormal], scores[~test_part.is_abnormal]
    assert values["image/auroc"] == pytest.approx((bad[:, None] > good).mean(), abs=0.02)


def test_scores_of_wafers_of_one_kind_rank_nothing(detector: Source, test_part: Wafers) -> None:
    assert found(detector, test_part.normal()).keys() == COSTS
