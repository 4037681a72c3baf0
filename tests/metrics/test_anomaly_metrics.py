"""Metrics of anomaly scores, collected over batches: against independent references, and where they are undefined."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import label
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from waferlab.metrics.anomaly import AnomalyMetrics, auroc_by_defect, regions_of

Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def wafers(count: int, seed: int, ties: bool = False) -> Batch:
    """Scores, die maps, truth, masks and dies of wafers with a few blobs; with ties, all scores are coarse."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((20, 20)) - 9.5
    dies = np.broadcast_to(y * y + x * x < 100, (count, 20, 20))
    smooth = np.stack([np.kron(rng.random((5, 5)), np.ones((4, 4))) for _ in range(count)])
    masks = (smooth > 0.8) & dies
    masks[::3] = False
    maps = smooth + rng.normal(0, 0.3, smooth.shape)
    maps = np.round(maps, 1) if ties else maps
    arrays = maps.max((1, 2)), maps, masks.any((1, 2)), masks, dies
    scores, maps, *rest = (torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)
    return scores.float(), maps.float(), *rest


def measured(*batches: Batch, limit: float = 0.3) -> dict[str, float]:
    metrics = AnomalyMetrics(limit)
    for batch in batches:
        metrics.update(*batch)
    found: dict[str, float] = metrics.compute()
    return found


def aupro_by_thresholds(maps: NDArray, masks: NDArray, dies: NDArray, limit: float) -> float:
    """The definition, threshold by threshold and region by region."""
    regions = [
        (row, found == number)
        for row, mask in enumerate(masks)
        for found, count in [label(mask & dies[row], np.ones((3, 3)))]
        for number in range(1, count + 1)
    ]
    outside = maps[dies & ~masks]
    alarms, overlaps = [0.0], [0.0]
    for threshold in np.unique(maps[dies])[::-1]:
        alarms.append(np.mean(outside >= threshold))
        overlaps.append(np.mean([np.mean(maps[row][region] >= threshold) for row, region in regions]))
    end = np.interp(limit, alarms, overlaps)
    inside = np.array(alarms) < limit
    return float(np.trapezoid([*np.array(overlaps)[inside], end], [*np.array(alarms)[inside], limit]) / limit)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
def test_aupro_is_its_definition(limit: float, ties: bool) -> None:
    batch = wafers(12, seed=1, ties=ties)
    _, maps, _, masks, dies = (tensor.numpy() for tensor in batch)
    expected = aupro_by_thresholds(maps, masks, dies, limit)
    assert measured(batch, limit=limit)["pixel/aupro"] == pytest.approx(expected, abs=1e-6)


def test_the_others_are_those_of_scikit_learn() -> None:
    batch = wafers(30, seed=2)
    scores, maps, truth, masks, dies = (tensor.numpy() for tensor in batch)
    found = measured(batch)
    assert found["image/auroc"] == pytest.approx(roc_auc_score(truth, scores))
    assert found["image/aupr"] == pytest.approx(average_precision_score(truth, scores))
    assert found["pixel/auroc"] == pytest.approx(roc_auc_score(masks[dies], maps[dies]))
    assert found["pixel/aupr"] == pytest.approx(average_precision_score(masks[dies], maps[dies]))


@given(st.lists(st.integers(1, 11), max_size=3))
def test_batches_change_nothing(cuts: list[int]) -> None:
    whole = wafers(12, seed=3, ties=True)
    edges = [0, *sorted(cuts), 12]
    parts = [tuple(tensor[a:b] for tensor in whole) for a, b in pairwise(edges) if a < b]
    assert measured(*parts) == pytest.approx(measured(whole))  # type: ignore[arg-type]


def test_what_lies_outside_the_wafer_does_not_count() -> None:
    scores, maps, truth, masks, dies = wafers(12, seed=4)
    elsewhere = torch.where(dies, maps, 1e6)
    assert measured((scores, elsewhere, truth, masks | ~dies, dies)) == measured((scores, maps, truth, masks, dies))


@pytest.mark.parametrize("is_abnormal", [False, True], ids=["normal wafers only", "abnormal wafers only"])
def test_one_class_alone_leaves_image_metrics_undefined(is_abnormal: bool) -> None:
    scores, maps, truth, masks, dies = wafers(12, seed=5)
    rows = truth == is_abnormal
    found = measured((scores[rows], maps[rows], truth[rows], masks[rows], dies[rows]))
    undefined = {name for name, value in found.items() if math.isnan(value)}
    images = {f"image/{name}" for name in ("auroc", "aupr", "best_f1", "best_f1_threshold")}
    assert images <= undefined
    assert ("pixel/auroc" in undefined) == (not is_abnormal), "a mask that is empty everywhere has no positive die"


def test_nothing_at_all_is_undefined() -> None:
    assert all(math.isnan(value) for value in AnomalyMetrics().compute().values())


class TestRegions:
    def test_dies_that_touch_at_corners_are_one_region(self) -> None:
        masks = np.array([[[1, 0, 0], [0, 1, 0], [0, 0, 0]]], bool)
        assert regions_of(masks)[1].tolist() == [2]

    def test_wafers_do_not_touch_each_other(self) -> None:
        assert regions_of(np.ones((3, 2, 2), bool))[1].tolist() == [4, 4, 4]

    def test_without_any(self) -> None:
        regions, sizes = regions_of(np.zeros((2, 3, 3), bool))
        assert regions.size == sizes.size == 0


def test_a_limit_that_is_no_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="is a false positive rate"):
        AnomalyMetrics(0)


class TestByDefect:
    def test_each_defect_alone_is_set_against_the_normal_wafers(self) -> None:
        labels = np.array([[0, 0], [0, 0], [1, 0], [1, 0], [0, 1], [1, 1]], np.uint8)
        scores = np.array([0.0, 2.0, 1.0, 3.0, 9.0, -9.0])
        assert auroc_by_defect(scores, labels, ("a", "b")) == {"a": 0.75, "b": 1.0}

    def test_a_defect_that_never_occurs_alone_has_none(self) -> None:
        labels = np.array([[0, 0], [1, 1]], np.uint8)
        assert auroc_by_defect(np.array([0.0, 1.0]), labels, ("a", "b")) == {}
