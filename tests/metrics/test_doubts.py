"""Labels that all models contradict."""

import numpy as np
import pytest

from waferlab.metrics.doubts import Doubts

LABELS = np.array([[1, 0], [1, 0], [1, 0], [1, 0]], np.uint8)


def of(*models: list[list[float]]) -> Doubts:
    """From the probabilities of each model."""
    probabilities = np.array(models)
    return Doubts.of((probabilities > 0.5).astype(np.uint8), probabilities, LABELS)


def test_are_those_of_wafers_with_one_answer_by_all_models_that_is_not_the_labels() -> None:
    right, wrong, also_wrong = [0.9, 0.1], [0.2, 0.1], [0.9, 0.8]
    doubts = of([right, wrong, wrong, wrong], [right, wrong, right, also_wrong])
    assert doubts.rows.tolist() == [1]
    assert doubts.right.tolist() == [[True, False, False, False], [True, False, True, False]]


def test_come_by_the_least_sure_models_surest_contradiction() -> None:
    doubts = of(
        [[0.4, 0.0], [0.1, 0.9], [0.3, 0.0], [1.0, 0.0]],
        [[0.0, 0.0], [0.2, 0.6], [0.3, 0.0], [1.0, 0.0]],
    )  # fmt: skip
    assert doubts.rows.tolist() == [1, 2, 0]
    assert doubts.certainty == pytest.approx([0.8, 0.7, 0.6])


def test_are_none_where_every_label_is_right() -> None:
    assert not len(of([[0.9, 0.1]] * 4, [[0.6, 0.4]] * 4).rows)
