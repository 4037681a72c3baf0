import numpy as np
import pytest

from waferlab.data.dataset import Wafers
from waferlab.models.baselines import BASELINES, Majority, ZoneDensity, zone_densities
from waferlab.wafer import FAIL, NO_DIE, PASS


def disc(size: int) -> np.ndarray:
    """One (size, size) wafer whose dies all pass."""
    axis = (np.arange(size) + 0.5) / size * 2 - 1
    return np.where(np.hypot(axis, axis[:, None]) <= 1, PASS, NO_DIE).astype(np.uint8)


def wafers(count: int = 300, size: int = 26, seed: int = 0) -> Wafers:
    """Maps with 5 % background fails and, by two independent bits, a failing centre and a failing edge sector."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (count, 2), np.uint8)
    maps = np.where(rng.random((count, size, size)) < 0.05, FAIL, PASS)
    third = size // 3
    maps[labels[:, 0] == 1, third:-third, third:-third] = FAIL
    maps[labels[:, 1] == 1, : size // 6, third:-third] = FAIL
    return Wafers(np.where(disc(size) == NO_DIE, NO_DIE, maps).astype(np.uint8), labels, ("Center", "Edge-Loc"))


def test_majority_always_predicts_the_most_frequent_row():
    labels = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1], [0, 0, 1]], np.uint8)
    baseline = Majority().fit(Wafers(np.zeros((4, 5, 5), np.uint8), labels, ("A", "B", "C")))
    logits = baseline.logits(np.ones((7, 5, 5), np.uint8))
    assert ((logits > 0) == np.tile([True, False, True], (7, 1))).all()
    assert baseline.parameters == 3


@pytest.mark.parametrize("size", [12, 26, 52])
def test_zone_density_learns_defects_that_differ_in_place(size):
    baseline = ZoneDensity().fit(wafers(size=size))
    unseen = wafers(size=size, seed=1)
    right = ((baseline.logits(unseen.maps) > 0) == unseen.labels).all(1)
    assert right.mean() > 0.97
    assert baseline.parameters == 62 * 2


def test_zone_density_predicts_turned_and_mirrored_wafers_alike():
    baseline, unseen = ZoneDensity().fit(wafers()), wafers(seed=1)
    for view in (np.rot90(unseen.maps, 1, (1, 2)), unseen.maps[:, ::-1], unseen.maps.transpose(0, 2, 1)):
        right = ((baseline.logits(np.ascontiguousarray(view)) > 0) == unseen.labels).all(1)
        assert right.mean() > 0.97


def test_zone_density_survives_a_class_that_never_varies():
    source = wafers()
    labels = np.stack([np.ones(300), source.labels[:, 0], np.zeros(300)], 1).astype(np.uint8)
    logits = ZoneDensity().fit(Wafers(source.maps, labels, ("always", "Center", "never"))).logits(source.maps)
    assert np.isfinite(logits).all()
    assert (logits[:, 0] > 0).all()
    assert (logits[:, 2] < 0).all()


def test_densities_are_shares_of_the_dies_in_the_zone():
    maps = np.stack([np.where(disc(52) == PASS, state, NO_DIE) for state in (PASS, FAIL)]).astype(np.uint8)
    passing, failing = zone_densities(maps)
    assert passing.shape == (61,)
    assert (passing == 0).all()
    assert (failing == 1).all()


def test_the_last_density_is_the_wafers_share_of_failing_dies():
    maps = wafers(50).maps
    expected = (maps == FAIL).sum((1, 2)) / (maps != NO_DIE).sum((1, 2))
    np.testing.assert_allclose(zone_densities(maps)[:, -1], expected, rtol=1e-6)


def test_rings_run_from_the_centre_outwards():
    wafer = disc(52)
    wafer[24:28, 24:28] = FAIL
    rings = zone_densities(wafer[None])[0, :-1].reshape(5, 12)
    assert rings[0].sum() > 0
    assert (rings[1:] == 0).all()


def test_densities_do_not_depend_on_the_batch():
    maps = wafers(2100, size=6).maps
    assert np.array_equal(zone_densities(maps)[2040:2060], zone_densities(maps[2040:2060]))


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (30, 44)])
def test_any_size_and_empty_wafers_give_finite_scores_one_row_each(name, size):
    maps = np.random.default_rng(0).integers(0, 3, (40, *size), np.uint8)
    maps[0] = NO_DIE
    labels = np.tile(np.array([[0, 1, 1], [1, 0, 1]], np.uint8), (20, 1))
    logits = BASELINES[name]().fit(Wafers(maps, labels, ("A", "B", "C"))).logits(maps)
    assert logits.shape == (40, 3)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
