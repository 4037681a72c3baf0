"""Scores that need no training: by hand, and on what they are good for."""

import numpy as np
import pytest

from waferlab.data.dataset import Dataset, Wafers
from waferlab.data.ragged import RaggedMaps, resized
from waferlab.models.trivial_scores import TRIVIAL_SCORES, density, excess_density, median_residual, share, trivial_maps
from waferlab.wafer import FAIL, NO_DIE, PASS

WAFER = np.full((21, 21), PASS, np.uint8)
WAFER[0] = NO_DIE
WAFER[9:12, 9:12] = FAIL


def test_share() -> None:
    fails, score = share(WAFER)
    assert np.array_equal(fails, WAFER == FAIL)
    assert score == pytest.approx(9 / 420)


def test_density_is_highest_where_fails_are_dense() -> None:
    smooth, score = density(WAFER)
    assert np.unravel_index(smooth.argmax(), smooth.shape) == (10, 10)
    assert score == smooth.max() < 1


def test_excess_density_does_not_rise_with_fails_everywhere() -> None:
    everywhere = np.where(WAFER == NO_DIE, NO_DIE, FAIL).astype(np.uint8)
    assert excess_density(everywhere)[1] < excess_density(WAFER)[1]
    assert density(everywhere)[1] > density(WAFER)[1]


def test_the_median_keeps_blobs_and_drops_single_dies() -> None:
    wafer = WAFER.copy()
    wafer[3, 3] = FAIL
    left, score = median_residual(wafer)
    assert left[3, 3] == 0
    assert left[10, 10] == 1
    assert score == pytest.approx(left.sum() / 420)


@pytest.mark.parametrize("name", TRIVIAL_SCORES)
def test_wafers_without_dies_score_nothing(name: str) -> None:
    die_map, score = TRIVIAL_SCORES[name](np.zeros((5, 5), np.uint8))
    assert score == 0
    assert not die_map.any()


@pytest.mark.parametrize("name", TRIVIAL_SCORES)
def test_wafers_are_scored_at_their_own_size(name: str) -> None:
    native = RaggedMaps.of(WAFER[None])
    wafers = Wafers(resized(native, (42, 42), "nearest"), np.ones((1, 1), np.uint8), ("Loc",), native=native)
    maps, scores = trivial_maps(wafers, TRIVIAL_SCORES[name])
    die_map, score = TRIVIAL_SCORES[name](WAFER)
    assert scores.tolist() == [np.float32(score)]
    assert np.array_equal(maps[0], np.kron(die_map, np.ones((2, 2), np.float32)))


def test_all_of_them_tell_simulated_defects_better_than_chance(tiny_dataset: Dataset) -> None:
    is_abnormal = tiny_dataset.wafers.labels.any(1)
    for score in TRIVIAL_SCORES.values():
        _, scores = trivial_maps(tiny_dataset.wafers, score)
        assert scores[is_abnormal].mean() > scores[~is_abnormal].mean()
