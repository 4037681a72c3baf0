"""Simulated wafers: what the labels promise, what the masks tell, where dies lie, and that bytes repeat."""

import numpy as np
import pytest
from numpy.typing import NDArray

from waferlab.data.dataset import Dataset, Wafers, digest
from waferlab.data.simulator import WaferParams, load, simulate
from waferlab.errors import WaferlabError
from waferlab.wafer import DEFECTS, FAIL, NO_DIE, PASS, pattern_labels

EVERY_PATTERN = np.repeat(pattern_labels(), 5, axis=0)


def only(defect: str, maps: int) -> NDArray[np.uint8]:
    return np.tile(np.array([name == defect for name in DEFECTS], np.uint8), (maps, 1))


def killed(wafers: Wafers) -> NDArray[np.bool_]:
    """(N, 8, H, W): the mask's bits apart."""
    assert wafers.masks is not None
    bits = np.arange(len(DEFECTS), dtype=np.uint8)[:, None, None]
    return (wafers.masks[:, None] >> bits & 1).astype(bool)


@pytest.fixture(scope="module")
def wafers() -> Wafers:
    return simulate(EVERY_PATTERN, seed=3)


def test_returns_maps_labels_and_masks(wafers: Wafers) -> None:
    assert wafers.maps.shape == (190, 52, 52)
    assert wafers.maps.dtype == np.uint8
    assert set(np.unique(wafers.maps)) == {NO_DIE, PASS, FAIL}
    assert wafers.masks is not None
    assert wafers.masks.shape == wafers.maps.shape
    assert wafers.masks.dtype == np.uint8
    np.testing.assert_array_equal(wafers.labels, EVERY_PATTERN)
    assert wafers.classes == DEFECTS


def test_a_defect_kills_dies_where_its_bit_is_set_and_none_elsewhere(wafers: Wafers) -> None:
    np.testing.assert_array_equal(killed(wafers).any(axis=(2, 3)), EVERY_PATTERN.astype(bool))


def test_every_killed_die_fails(wafers: Wafers) -> None:
    assert wafers.masks is not None
    assert (wafers.maps[wafers.masks > 0] == FAIL).all()


@pytest.mark.parametrize("size", [12, 20, (26, 40), 64])
@pytest.mark.parametrize("bits", [[1] * 8, [1, 0, 0, 0, 0, 0, 1, 0]], ids=["all eight", "two"])
def test_any_bits_at_any_size_leave_their_mark(size: int | tuple[int, int], bits: list[int]) -> None:
    labels = np.tile(np.array(bits, np.uint8), (70, 1))
    wafers = simulate(labels, size, params=WaferParams(edge_exclusion=0.1, notch="flat"))
    assert wafers.size == (size if isinstance(size, tuple) else (size, size))
    np.testing.assert_array_equal(killed(wafers).any(axis=(2, 3)), labels.astype(bool))


def test_fails_outside_the_masks_are_the_backgrounds() -> None:
    labels = only("Center", 200)
    clean = simulate(labels, params=WaferParams(background=(0, 0)))
    assert clean.masks is not None
    np.testing.assert_array_equal(clean.maps == FAIL, clean.masks > 0)

    noisy = simulate(labels, params=WaferParams(background=(0.1, 0.1)))
    assert noisy.masks is not None
    others = noisy.maps[(noisy.maps > NO_DIE) & (noisy.masks == 0)]
    assert (others == FAIL).mean() == pytest.approx(0.1, abs=0.005)


def test_normal_wafers_draw_their_own_fail_rate_from_the_given_range() -> None:
    normal = simulate(np.zeros((500, 8), np.uint8), params=WaferParams(background=(0.05, 0.15)))
    assert normal.masks is not None
    assert not normal.masks.any()
    share = (normal.maps == FAIL).sum(axis=(1, 2)) / (normal.maps > NO_DIE).sum(axis=(1, 2))
    assert share.min() < 0.07
    assert share.max() > 0.14
    assert share.mean() == pytest.approx(0.05 + 2 / 3 * 0.1, abs=0.005)


def test_a_donut_keeps_background_fails_out_of_its_hole() -> None:
    donuts = simulate(only("Donut", 200), params=WaferParams(background=(0.2, 0.2)))
    assert donuts.masks is not None
    hole = []
    for state, mask in zip(donuts.maps, donuts.masks, strict=True):
        row, column = (round(float(place.mean())) for place in mask.nonzero())
        hole.append(state[row, column])
    assert (np.array(hole) == PASS).mean() > 0.98


def test_the_default_disc_is_that_of_mixedwm38() -> None:
    disc = simulate(np.zeros((1, 8), np.uint8)).maps[0] > NO_DIE
    assert disc.sum() == 2061
    assert not disc[0].any()
    np.testing.assert_array_equal(np.flatnonzero(disc[1]), np.arange(21, 32))
    np.testing.assert_array_equal(disc, disc.T)


def test_a_flat_and_a_notch_take_dies_from_the_bottom_only() -> None:
    normal = np.zeros((1, 8), np.uint8)
    discs = {}
    for notch in ("none", "flat", "notch"):
        discs[notch] = simulate(normal, params=WaferParams(notch=notch)).maps[0] > NO_DIE  # type: ignore[arg-type]
    for notch in ("flat", "notch"):
        missing = np.argwhere(discs["none"] & ~discs[notch])
        assert len(missing)
        assert missing[:, 0].min() >= 49
    flat, notch = (np.argwhere(discs["none"] & ~discs[name]) for name in ("flat", "notch"))
    assert np.ptp(flat[:, 1]) > 3 * np.ptp(notch[:, 1])


def test_no_die_lies_in_the_edge_exclusion_and_the_rim_moves_inwards() -> None:
    wafers = simulate(only("Edge-Ring", 50), params=WaferParams(edge_exclusion=0.2))
    row, column = np.indices((52, 52)) - 26
    distance = np.hypot(row, column)
    assert distance[(wafers.maps > NO_DIE).any(axis=0)].max() <= 0.8 * 25.56
    ring = distance[killed(wafers)[:, 3].any(axis=0)]
    assert ring.min() > 16
    assert ring.max() > 20


@pytest.mark.parametrize(
    ("defect", "mean_distance", "share"),
    [
        ("Center", (0, 0.36), (0.002, 0.13)),
        ("Donut", (0.1, 0.6), (0.01, 0.4)),
        ("Edge-Loc", (0.9, 1), (0.005, 0.16)),
        ("Edge-Ring", (0.9, 1), (0.08, 0.19)),
        ("Loc", (0.4, 0.95), (0.003, 0.2)),
        ("Near-full", (0, 0.75), (0.55, 1)),
        ("Scratch", (0.2, 1), (0.004, 0.05)),
        ("Random", (0, 0.75), (0.1, 0.9)),
    ],
)
def test_each_defect_has_its_place_and_its_extent(
    defect: str, mean_distance: tuple[float, float], share: tuple[float, float]
) -> None:
    wafers = simulate(only(defect, 300), seed=1)
    row, column = np.indices((52, 52)) - 26
    dead = killed(wafers)[:, DEFECTS.index(defect)]
    count = dead.sum(axis=(1, 2))
    distance = (dead * np.hypot(row, column)).sum(axis=(1, 2)) / count / 25.56
    assert mean_distance[0] <= distance.min()
    assert distance.max() <= mean_distance[1]
    assert share[0] <= (count / 2061).min()
    assert (count / 2061).max() <= share[1]


def test_same_seed_same_bytes_whatever_the_number_of_threads() -> None:
    one, many = (simulate(EVERY_PATTERN, seed=5, threads=threads) for threads in (1, 4))
    np.testing.assert_array_equal(one.maps, many.maps)
    assert one.masks is not None
    assert many.masks is not None
    np.testing.assert_array_equal(one.masks, many.masks)


def test_another_seed_other_wafers() -> None:
    one, other = (simulate(EVERY_PATTERN, seed=seed) for seed in (0, 1))
    assert not (one.maps == other.maps).all(axis=(1, 2)).any()


def test_no_two_wafers_are_alike_within_and_across_chunks(wafers: Wafers) -> None:
    labelled = wafers.maps[EVERY_PATTERN.any(axis=1)]
    assert len(np.unique(labelled.reshape(len(labelled), -1), axis=0)) == len(labelled)


def test_bytes_are_those_of_the_machine_that_wrote_this_test() -> None:
    wafers = simulate(EVERY_PATTERN, seed=0)
    assert wafers.masks is not None
    assert digest([wafers.maps, wafers.masks]) == "2a78f598f8fc7ab8"


def test_no_labels_no_wafers() -> None:
    assert simulate(np.zeros((0, 8), np.uint8)).maps.shape == (0, 52, 52)


def test_load_spreads_the_patterns_evenly_and_splits_them() -> None:
    dataset = load(maps=760, size=20, fractions=(0.5, 0.25, 0.25))
    _, counts = np.unique(dataset.wafers.labels, axis=0, return_counts=True)
    np.testing.assert_array_equal(counts, np.full(38, 20))
    assert dataset.name == "simulated"
    assert [len(dataset.part(part)) for part in ("train", "val", "test")] == [380, 190, 190]
    assert dataset.fingerprint == load(maps=760, size=20, fractions=(0.5, 0.25, 0.25)).fingerprint
    assert dataset.fingerprint != load(maps=760, size=20, fractions=(0.5, 0.25, 0.25), seed=1).fingerprint


SIZES = ((12, 20), (20, 20), (26, 23))


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load(maps=400, size=26, sizes=SIZES, seed=2)


class TestManySizes:
    """Wafers of several sizes, each in the middle of one grid."""

    def test_sizes_come_as_often_as_each_other_whatever_the_defect(self, dataset: Dataset) -> None:
        shapes = dataset.wafers.own_sizes().shapes
        sizes, which, counts = np.unique(shapes, axis=0, return_inverse=True, return_counts=True)
        assert sizes.tolist() == [list(size) for size in SIZES]
        assert np.ptp(counts) <= 1
        for defect in dataset.wafers.labels.T:
            assert set(which[defect > 0]) == {0, 1, 2}

    def test_their_sizes_are_facts_of_the_data(self, dataset: Dataset) -> None:
        assert dataset.facts["size"] == "26x26"
        assert dataset.facts["sizes"] == "12x20, 20x20, 26x23"

    def test_each_lies_die_by_die_in_the_middle_with_nothing_around_it(self, dataset: Dataset) -> None:
        wafers = dataset.wafers
        assert wafers.size == (26, 26)
        for shown, own in zip(wafers.maps, wafers.own_sizes(), strict=True):
            free = 26 - np.array(own.shape)
            assert np.array_equal(shown, np.pad(own, [(space // 2, space - space // 2) for space in free]))

    def test_each_is_a_wafer_of_its_size(self, dataset: Dataset) -> None:
        discs = {size: simulate(np.zeros((1, 8), np.uint8), size).maps[0] > NO_DIE for size in SIZES}
        for own in dataset.wafers.own_sizes():
            assert np.array_equal(own > NO_DIE, discs[own.shape])

    def test_masks_lie_where_the_dies_do(self, dataset: Dataset) -> None:
        wafers = dataset.wafers
        assert wafers.masks is not None
        assert (wafers.maps[wafers.masks > 0] == FAIL).all()
        np.testing.assert_array_equal(killed(wafers).any(axis=(2, 3)), wafers.labels.astype(bool))

    def test_without_background_the_masks_are_the_fails(self) -> None:
        wafers = load(maps=100, size=26, sizes=SIZES, background=(0, 0)).wafers
        assert wafers.masks is not None
        np.testing.assert_array_equal(wafers.maps == FAIL, wafers.masks > 0)

    def test_masks_shrink_as_the_maps_do(self) -> None:
        wafers = load(maps=100, size=26, sizes=[(40, 44), (20, 20)], background=(0, 0)).wafers
        assert wafers.masks is not None
        np.testing.assert_array_equal(wafers.maps == FAIL, wafers.masks > 0)
        large = wafers.own_sizes().shapes[:, 0] == 40
        assert (wafers.maps[large] > NO_DIE).any(axis=(0, 1)).sum() >= 25, "as wide as the grid"
        assert (wafers.maps[large] > NO_DIE).any(axis=(0, 2)).sum() <= 24, "but not as high"

    def test_the_seed_determines_everything(self, dataset: Dataset) -> None:
        again, other = (load(maps=400, size=26, sizes=SIZES, seed=seed) for seed in (2, 3))
        assert again.fingerprint == dataset.fingerprint != other.fingerprint
        own = [list(each.wafers.own_sizes()) for each in (dataset, again)]
        assert all(np.array_equal(one, same) for one, same in zip(*own, strict=True))
        np.testing.assert_array_equal(again.wafers.masks, dataset.wafers.masks)  # type: ignore[arg-type]

    def test_no_two_sizes_draw_the_same_wafer(self) -> None:
        twins = load(maps=76, size=20, sizes=[(20, 20), (20, 20)], normal_share=0.9).wafers
        assert len(np.unique(twins.maps.reshape(len(twins), -1), axis=0)) == len(twins)

    def test_labels_and_split_are_cut_as_for_one_size(self, dataset: Dataset) -> None:
        one_size = load(maps=400, size=26, seed=2)
        np.testing.assert_array_equal(dataset.wafers.labels, one_size.wafers.labels)
        assert (dataset.split >= 0).all()
        for part in ("train", "val", "test"):
            labels = [each.part(part).labels for each in (dataset, one_size)]  # type: ignore[arg-type]
            np.testing.assert_array_equal(*[np.sort(rows @ 2 ** np.arange(8)) for rows in labels])

    def test_parts_keep_the_wafers_own_sizes(self, dataset: Dataset) -> None:
        part = dataset.part("val")
        for own, row in zip(part.own_sizes(), np.flatnonzero(dataset.split == 1), strict=True):
            assert np.array_equal(own, dataset.wafers.own_sizes()[int(row)])

    def test_more_sizes_than_wafers_leave_some_out(self) -> None:
        sizes = [(20 + place, 20) for place in range(50)]
        wafers = load(maps=38, size=70, sizes=sizes).wafers
        assert sorted(wafers.own_sizes().shapes[:, 0]) == list(range(20, 58))

    def test_a_size_too_small_is_named(self) -> None:
        with pytest.raises(WaferlabError, match="size is 8x20"):
            load(maps=38, sizes=[(20, 20), (8, 20)])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"edge_exclusion": 0.6}, "edge_exclusion is 0.6"),
        ({"edge_exclusion": -0.1}, "edge_exclusion is -0.1"),
        ({"background": (0.3, 0.1)}, "background is"),
        ({"background": (0.3, 1.1)}, "background is"),
        ({"notch": "hole"}, "choose none, flat or notch"),
    ],
)
def test_bad_parameters_are_named(params: dict[str, object], message: str) -> None:
    with pytest.raises(WaferlabError, match=message):
        WaferParams(**params)  # type: ignore[arg-type]


def test_bad_labels_sizes_and_counts_are_named() -> None:
    with pytest.raises(WaferlabError, match="rows of 8 bits"):
        simulate(np.zeros((3, 7), np.uint8))
    with pytest.raises(WaferlabError, match="rows of 8 bits"):
        simulate(np.full((3, 8), 2, np.uint8))
    with pytest.raises(WaferlabError, match="size is 8x8"):
        simulate(np.zeros((1, 8), np.uint8), 8)
    with pytest.raises(WaferlabError, match="maps is 10"):
        load(maps=10)
