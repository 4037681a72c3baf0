from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from waferlab.data.dataset import TAUGHT, Dataset, Wafers
from waferlab.data.split import LEFT_OUT, content_keys, counts, hide_labels, split_by_content
from waferlab.errors import ConfigError

FRACTIONS = (0.8, 0.1, 0.1)
CLASSES = ("a", "b")


def distinct_wafers(pattern_sizes: list[int]) -> Wafers:
    """Maps that all differ, `pattern_sizes[p]` of them with label pattern p (of two classes)."""
    total = sum(pattern_sizes)
    digits = (np.arange(total)[:, None] // 3 ** np.arange(9)) % 3
    patterns = np.repeat(np.arange(len(pattern_sizes)), pattern_sizes)
    labels = np.stack([patterns & 1, patterns >> 1], axis=1)
    return Wafers(digits.reshape(total, 3, 3).astype(np.uint8), labels.astype(np.uint8), CLASSES)


def sides_by_content(wafers: Wafers, split: NDArray[np.int8]) -> dict[bytes, set[int]]:
    """Sides on which each content is seen, rows left out not counted."""
    sides: dict[bytes, set[int]] = {}
    for wafer, side in zip(wafers.maps, split, strict=True):
        sides.setdefault(wafer.tobytes(), set()).update({int(side)} - {LEFT_OUT})
    return sides


@st.composite
def repetitive_wafers(draw: st.DrawFn) -> Wafers:
    """Few possible maps, so that many are equal; label and content are independent, so that some disagree."""
    rows = draw(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 1)), max_size=40))
    maps = np.array([[[content % 3, content // 3]] for content, _ in rows], np.uint8).reshape(-1, 1, 2)
    labels = np.array([[label, 0] for _, label in rows], np.uint8).reshape(-1, 2)
    return Wafers(maps, labels, CLASSES)


@given(repetitive_wafers(), st.integers(0, 3))
def test_no_content_is_on_two_sides(wafers: Wafers, seed: int) -> None:
    split = split_by_content(wafers, FRACTIONS, seed)
    assert all(len(sides) <= 1 for sides in sides_by_content(wafers, split).values())


@given(repetitive_wafers())
def test_one_row_of_each_content_is_used_unless_its_labels_disagree(wafers: Wafers) -> None:
    used = split_by_content(wafers, FRACTIONS, 0) != LEFT_OUT
    for content in np.unique(wafers.maps, axis=0):
        rows = np.flatnonzero((wafers.maps == content).all((1, 2)))
        agree = len(np.unique(wafers.labels[rows], axis=0)) == 1
        assert np.flatnonzero(used[rows]).tolist() == ([0] if agree else [])


@given(repetitive_wafers(), st.randoms(use_true_random=False))
def test_shuffled_rows_keep_their_sides(wafers: Wafers, random: Random) -> None:
    order = list(range(len(wafers)))
    random.shuffle(order)
    shuffled = wafers[np.array(order, np.int64)]
    before = sides_by_content(wafers, split_by_content(wafers, FRACTIONS, 0))
    assert sides_by_content(shuffled, split_by_content(shuffled, FRACTIONS, 0)) == before


@given(st.lists(st.integers(3, 200), min_size=1, max_size=4))
def test_every_pattern_is_cut_at_the_fractions_and_is_on_every_side(sizes: list[int]) -> None:
    wafers = distinct_wafers(sizes)
    split = split_by_content(wafers, FRACTIONS, 0)
    for pattern, size in enumerate(sizes):
        rows = (wafers.labels == [pattern & 1, pattern >> 1]).all(1)
        held = np.bincount(split[rows], minlength=3)
        assert held.sum() == size
        assert held.min() >= 1
        assert np.abs(held - size * np.array(FRACTIONS)).max() <= 2


def test_the_seed_decides() -> None:
    wafers = distinct_wafers([100, 100])
    first = split_by_content(wafers, FRACTIONS, 0)
    assert np.array_equal(first, split_by_content(wafers, FRACTIONS, 0))
    assert not np.array_equal(first, split_by_content(wafers, FRACTIONS, 1))


def test_the_split_is_the_same_on_every_machine_and_in_every_version() -> None:
    split = split_by_content(distinct_wafers([6, 6]), (0.5, 0.25, 0.25), seed=7)
    assert split.tolist() == [2, 0, 1, 0, 1, 0, 0, 2, 0, 1, 1, 0]


def test_a_side_with_fraction_0_stays_empty() -> None:
    assert (split_by_content(distinct_wafers([5, 1]), (0, 0, 1), 0) == 2).all()


def test_no_wafers_give_an_empty_split() -> None:
    assert split_by_content(distinct_wafers([0]), FRACTIONS, 0).shape == (0,)


@pytest.mark.parametrize(
    ("total", "expected"),
    [(0, [0, 0, 0]), (1, [1, 0, 0]), (2, [2, 0, 0]), (3, [1, 1, 1]), (10, [8, 1, 1]), (149, [119, 15, 15])],
)
def test_counts_round_by_largest_remainder(total: int, expected: list[int]) -> None:
    assert counts(total, FRACTIONS) == expected


@pytest.mark.parametrize("fractions", [(0.8, 0.1), (0.8, 0.1, 0.2), (1.2, -0.1, -0.1), (0.8, 0.2, float("nan")), ()])
def test_fractions_that_are_no_split_are_refused(fractions: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match=r"fractions: .* sum to 1"):
        split_by_content(distinct_wafers([3]), fractions, 0)


def test_keys_are_equal_only_where_the_maps_are() -> None:
    maps = distinct_wafers([50]).maps
    keys = content_keys(np.concatenate([maps, maps]))
    assert len(np.unique(keys)) == 50
    assert np.array_equal(keys[:50], keys[50:])


class TestHiddenLabels:
    def test_of_each_pattern_a_share_of_the_training_maps_keeps_its_labels(self) -> None:
        wafers = distinct_wafers([200, 40, 10])
        dataset = Dataset(wafers, split_by_content(wafers, FRACTIONS, 0), "test", {})
        partly = hide_labels(dataset, 0.25)
        kept = [
            np.count_nonzero((partly.part("train").labels == pattern).all(1)) for pattern in ([0, 0], [1, 0], [0, 1])
        ]
        assert kept == [40, 8, 2]
        assert np.array_equal(partly.part(*TAUGHT).maps, dataset.part("train").maps)
        assert np.array_equal(partly.part("val", "test").maps, dataset.part("val", "test").maps)

    def test_fewer_labels_are_among_the_more(self) -> None:
        wafers = distinct_wafers([200, 40])
        dataset = Dataset(wafers, split_by_content(wafers, FRACTIONS, 0), "test", {})
        few, more = (hide_labels(dataset, share).within("train") for share in (0.1, 0.5))
        assert not (few & ~more).any()

    def test_make_another_data_set_to_a_teacher_store(self, tiny_dataset: Dataset) -> None:
        assert hide_labels(tiny_dataset, 0.5).fingerprint != tiny_dataset.fingerprint
        assert hide_labels(tiny_dataset, 1) is tiny_dataset
