"""The domain: 38 distinct patterns, encodings that tell die states apart, and the symmetries of a map."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waferlab.wafer import DEFECTS, ENCODINGS, PATTERNS, PIXELS, STATES, dihedral_indices, pattern_labels, pattern_name


def test_there_are_38_distinct_patterns() -> None:
    assert len(PATTERNS) == len({frozenset(pattern) for pattern in PATTERNS}) == 38
    assert len({pattern_name(row) for row in pattern_labels()}) == 38


def test_patterns_are_one_normal_8_singles_13_pairs_12_triples_and_4_quadruples() -> None:
    sizes = [len(pattern) for pattern in PATTERNS]
    assert [sizes.count(size) for size in range(5)] == [1, 8, 13, 12, 4]
    assert sizes == sorted(sizes)


def test_patterns_superpose_only_defects_that_can_be() -> None:
    for pattern in PATTERNS:
        assert not {"Center", "Donut"} <= set(pattern)
        assert not {"Edge-Loc", "Edge-Ring"} <= set(pattern)
        if {"Near-full", "Random"} & set(pattern):
            assert len(pattern) == 1


def test_labels_are_the_patterns_bits() -> None:
    labels = pattern_labels()
    assert (labels.shape, labels.dtype) == ((38, 8), np.uint8)
    for row, pattern in zip(labels, PATTERNS, strict=True):
        assert {name for name, bit in zip(DEFECTS, row, strict=True) if bit} == set(pattern)


def test_pattern_names() -> None:
    assert pattern_name(np.zeros(8, np.uint8)) == "Normal"
    assert pattern_name(np.array([1, 0, 0, 0, 0, 0, 1, 0], np.uint8)) == "Center+Scratch"
    assert pattern_name(np.array([0, 1], np.uint8), ("a", "b")) == "b"


@pytest.mark.parametrize("name", sorted(ENCODINGS.keys() - {PIXELS}))
def test_every_encoding_tells_the_three_states_apart(name: str) -> None:
    table = ENCODINGS[name]
    assert table.dtype == np.float32
    assert len(np.unique(table, axis=0)) == len(table) == STATES


sides = st.integers(2, 9)


@given(sides)
def test_the_views_of_a_square_map_are_its_8_distinct_symmetries(side: int) -> None:
    views = dihedral_indices(side, side)
    assert views.shape == (8, side * side)
    assert len(np.unique(views, axis=0)) == 8
    np.testing.assert_array_equal(views[0], np.arange(side * side))


@given(sides, sides)
def test_views_are_closed_under_composition(height: int, width: int) -> None:
    views = dihedral_indices(height, width)
    known = {tuple(view) for view in views}
    assert {tuple(first[second]) for first in views for second in views} == known


def test_views_are_the_four_turns_of_the_map_and_then_of_its_mirror_image() -> None:
    wafer = np.arange(25).reshape(5, 5) ** 2
    shown = wafer.ravel()[dihedral_indices(5, 5)].reshape(8, 5, 5)
    expected = [np.rot90(side, quarter) for side in (wafer, np.fliplr(wafer)) for quarter in range(4)]
    np.testing.assert_array_equal(shown, expected)


@given(sides, sides.map(lambda side: side + 10))
def test_other_shapes_have_the_4_views_that_keep_them(height: int, width: int) -> None:
    wafer = np.arange(height * width).reshape(height, width)
    shown = wafer.ravel()[dihedral_indices(height, width)].reshape(-1, height, width)
    expected = [wafer, wafer[::-1, ::-1], wafer[:, ::-1], wafer[::-1]]
    np.testing.assert_array_equal(shown, expected)
