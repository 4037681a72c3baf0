"""Maps of many sizes: each is found again as it was, and comes to one size in three ways."""

from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from waferlab.data import ragged
from waferlab.data.ragged import RaggedMaps, Resize, content_keys_of, places, resized, write

Map = NDArray[np.uint8]
WAYS = ("nearest", "area", "keep")

sides = st.integers(1, 9)
sizes = st.tuples(sides, sides)
states = sizes.flatmap(lambda size: arrays(np.uint8, size, elements=st.integers(0, 2)))


def many(maps: Sequence[NDArray[np.generic]]) -> RaggedMaps:
    """These maps, one after the other."""
    shapes = np.array([each.shape for each in maps], np.int64).reshape(-1, 2)
    dies = np.concatenate([each.ravel() for each in maps]) if maps else np.zeros(0, np.uint8)
    return RaggedMaps(dies, shapes, np.cumsum(shapes.prod(1)) - shapes.prod(1))


def one(wafer: NDArray[np.generic], size: tuple[int, int], resize: Resize) -> NDArray[np.generic]:
    return resized(many([wafer]), size, resize)[0]


def grid(*rows: str) -> Map:
    """A map drawn with a digit a die."""
    return np.array([[int(die) for die in row] for row in rows], np.uint8)


def enlarged(wafer: NDArray[np.generic], height: int, width: int) -> NDArray[np.generic]:
    """Each die as height x width equal ones."""
    return wafer.repeat(height, 0).repeat(width, 1)


class TestMaps:
    @given(st.lists(states, max_size=8))
    def test_each_is_found_by_its_number(self, maps: list[Map]) -> None:
        held = many(maps)
        assert len(held) == len(maps)
        assert all(np.array_equal(found, each) for found, each in zip(held, maps, strict=True))

    @given(st.lists(states, min_size=1, max_size=8), st.data())
    def test_some_of_them_come_in_the_order_asked_for(self, maps: list[Map], data: st.DataObject) -> None:
        index = data.draw(st.lists(st.integers(0, len(maps) - 1), max_size=8))
        some = many(maps).only(np.array(index, np.int64))
        assert all(np.array_equal(found, maps[row]) for found, row in zip(some, index, strict=True))

    @given(st.lists(states, max_size=8), st.integers(1, 200))
    def test_by_shape_every_map_comes_once_and_few_at_a_time(self, maps: list[Map], most: int) -> None:
        found: dict[int, Map] = {}
        with patch.object(ragged, "_AT_ONCE", most):
            for rows, some in many(maps).by_shape():
                assert len(rows) == 1 or some.size <= most
                found |= dict(zip(rows.tolist(), some, strict=True))
        assert sorted(found) == list(range(len(maps)))
        assert all(np.array_equal(found[row], each) for row, each in enumerate(maps))

    @given(maps=st.lists(states, min_size=1, max_size=8))
    def test_what_is_written_is_read(self, maps: list[Map], tmp_path_factory: pytest.TempPathFactory) -> None:
        folder = tmp_path_factory.mktemp("maps")
        write(maps, folder)
        assert all(np.array_equal(found, each) for found, each in zip(RaggedMaps.read(folder), maps, strict=True))

    def test_maps_of_one_size_are_a_special_case(self) -> None:
        maps = np.arange(24).reshape(2, 3, 4)
        assert np.array_equal(list(RaggedMaps.of(maps)), maps)


class TestContentKeys:
    def test_are_equal_only_where_shapes_and_dies_are(self) -> None:
        maps = [grid("000000"), grid("000", "000"), grid("000", "001"), grid("000", "000")]
        keys = content_keys_of(many(maps))
        assert keys[1] == keys[3]
        assert len(set(keys.tolist())) == 3

    def test_another_seed_gives_others(self) -> None:
        maps = many([grid("012")])
        assert content_keys_of(maps, 0) != content_keys_of(maps, 1)
        assert content_keys_of(maps, 1) == content_keys_of(maps, 1)


@pytest.mark.parametrize("resize", WAYS)
class TestInEachWay:
    def test_a_map_of_the_size_stays_as_it_is(self, resize: Resize) -> None:
        wafer = grid("0120", "2101")
        assert np.array_equal(one(wafer, (2, 4), resize), wafer)

    def test_no_maps_give_no_maps(self, resize: Resize) -> None:
        assert resized(many([]), (5, 4), resize).shape == (0, 5, 4)

    @given(st.lists(states, min_size=1, max_size=8), sizes, st.integers(1, 200))
    def test_a_map_does_not_depend_on_those_beside_it(
        self, resize: Resize, maps: list[Map], size: tuple[int, int], at_once: int
    ) -> None:
        with patch.object(ragged, "_AT_ONCE", at_once):
            together = resized(many(maps), size, resize)
        assert together.dtype == np.uint8
        assert all(np.array_equal(made, one(each, size, resize)) for made, each in zip(together, maps, strict=True))


class TestNearest:
    def test_by_hand(self) -> None:
        assert np.array_equal(one(grid("01", "20"), (4, 4), "nearest"), grid("0011", "0011", "2200", "2200"))
        assert np.array_equal(one(grid("0101", "0212", "1110", "2221"), (2, 2), "nearest"), grid("22", "21"))
        assert np.array_equal(one(grid("012"), (1, 2), "nearest"), grid("02")), "centres at 0.75 and 2.25 of 3"
        assert np.array_equal(one(grid("012"), (1, 5), "nearest"), grid("00122"))

    @given(states, sizes)
    def test_enlarges_each_die_alike(self, wafer: Map, times: tuple[int, int]) -> None:
        size = (wafer.shape[0] * times[0], wafer.shape[1] * times[1])
        assert np.array_equal(one(wafer, size, "nearest"), enlarged(wafer, *times))

    @pytest.mark.parametrize("dtype", [bool, np.float32, np.int64])
    @pytest.mark.parametrize("resize", ["nearest", "keep"])
    def test_takes_values_of_any_type_as_keep_does(self, resize: Resize, dtype: type) -> None:
        values = np.array([[0, 1], [1, 1]], dtype)
        made = one(values, (4, 4), resize)
        assert made.dtype == dtype
        assert made.sum() == (12 if resize == "nearest" else 3)


class TestArea:
    def test_most_of_four_dies_by_hand(self) -> None:
        assert np.array_equal(one(grid("0011", "0112", "2001", "2222"), (2, 2), "area"), grid("01", "22"))

    def test_of_two_states_with_as_much_the_higher_one_by_hand(self) -> None:
        assert np.array_equal(one(grid("0001", "1122", "0220", "0211"), (2, 2), "area"), grid("12", "21"))

    def test_of_three_states_with_as_much_fail_by_hand(self) -> None:
        assert np.array_equal(one(grid("210210"), (1, 2), "area"), grid("22"))

    def test_halves_of_dies_count_by_hand(self) -> None:
        """Three dies on two places: each has one die and half of that in the middle."""
        assert np.array_equal(one(grid("012"), (1, 2), "area"), grid("02"))

    def test_places_of_seven_thirds_of_a_die_by_hand(self) -> None:
        """First 0, 0 and 1/3 of 1; then 2/3 of 1, 2 and 2/3 of 1; last 1/3 of 1, 2 and 0."""
        assert np.array_equal(one(grid("0012120").T, (3, 1), "area"), grid("012").T)

    @given(states, sizes)
    def test_is_the_state_counted_most_often_where_every_die_is_cut_into_small_ones(
        self, wafer: Map, size: tuple[int, int]
    ) -> None:
        (height, width), (rows, columns) = wafer.shape, size
        small = enlarged(wafer, rows, columns).reshape(rows, height, columns, width)
        counts = np.stack([(small == state).sum((1, 3)) for state in (2, 1, 0)])
        assert np.array_equal(one(wafer, size, "area"), 2 - counts.argmax(0))

    @given(states, sizes)
    def test_is_the_nearest_die_where_each_becomes_whole_ones(self, wafer: Map, times: tuple[int, int]) -> None:
        size = (wafer.shape[0] * times[0], wafer.shape[1] * times[1])
        assert np.array_equal(one(wafer, size, "area"), one(wafer, size, "nearest"))

    def test_ties_are_seen_on_the_largest_maps_too(self) -> None:
        """Half a place of each of two states, at sides where a place's share has no finite binary fraction."""
        wafer = np.tile(np.repeat(grid("01"), 3, axis=1), (211, 35))  # 211 x 210: 000111000111…
        assert (one(wafer, (7, 35), "area") == 1).all()


class TestKeep:
    def test_a_smaller_map_lies_in_the_middle_by_hand(self) -> None:
        assert np.array_equal(one(grid("12", "21"), (4, 4), "keep"), grid("0000", "0120", "0210", "0000"))
        assert np.array_equal(one(grid("121"), (2, 4), "keep"), grid("1210", "0000")), "odd space: above and left less"

    def test_a_larger_map_shrinks_in_proportion_by_hand(self) -> None:
        wafer = grid("01111110", "12111121", "11222211", "01111110")
        assert np.array_equal(one(wafer, (4, 4), "keep"), grid("0000", "2111", "1110", "0000"))

    @given(st.data(), sizes)
    def test_every_die_of_a_smaller_map_is_found_again_and_nothing_around_it(
        self, data: st.DataObject, size: tuple[int, int]
    ) -> None:
        height, width = (data.draw(st.integers(1, side)) for side in size)
        wafer = data.draw(arrays(np.uint8, (height, width), elements=st.integers(0, 2)))
        free = [(side - own) for side, own in zip(size, wafer.shape, strict=True)]
        margins = [(space // 2, space - space // 2) for space in free]
        assert np.array_equal(one(wafer, size, "keep"), np.pad(wafer, margins))

    @given(st.tuples(st.integers(1, 40), st.integers(1, 40)), sizes)
    def test_a_larger_map_keeps_its_proportions_and_fills_the_grid_one_way(
        self, own: tuple[int, int], size: tuple[int, int]
    ) -> None:
        shrink = min(1, size[0] / own[0], size[1] / own[1])
        found = np.argwhere(one(np.ones(own, np.uint8), size, "keep"))
        box = np.ptp(found, axis=0) + 1
        assert len(found) == box.prod(), "one rectangle without a hole"
        for place, side, wanted in zip(range(2), size, np.multiply(own, shrink), strict=True):
            assert box[place] == 1 if wanted < 0.5 else abs(box[place] - wanted) <= 0.5
            before, after = found[:, place].min(), side - 1 - found[:, place].max()
            assert after - before in (0, 1)
        assert shrink == 1 or (box == size).any()

    @given(st.integers(1, 9), st.integers(2, 4), st.data())
    def test_a_map_that_shrinks_shows_dies_that_it_has_where_it_has_them(
        self, side: int, times: int, data: st.DataObject
    ) -> None:
        small = data.draw(arrays(np.uint8, (side, side), elements=st.integers(0, 2)))
        assert np.array_equal(one(enlarged(small, times, times), (side, side), "keep"), small)


@pytest.mark.parametrize("kind", [np.asarray, np.asfortranarray])
def test_maps_in_either_order_of_memory_are_written_alike(kind: type, tmp_path: Path) -> None:
    wafer = grid("012", "210")
    write([kind(wafer)], tmp_path)
    assert np.array_equal(RaggedMaps.read(tmp_path)[0], wafer)


class TestPlaces:
    @given(states, sizes)
    def test_are_where_the_dies_of_a_map_came_to_lie(self, wafer: Map, size: tuple[int, int]) -> None:
        for way in ("nearest", "keep"):
            rows, columns = places(wafer.shape, size, way)
            assert (len(rows), len(columns)) == wafer.shape
            made = one(wafer, size, way)
            if way == "keep" and wafer.shape[0] <= size[0] and wafer.shape[1] <= size[1]:
                assert np.array_equal(made[rows[:, None], columns], wafer), "a die stays a die"
            one_die = np.ones_like(wafer)
            assert (one(one_die, size, way)[rows[:, None], columns] == 1).all(), "none lies outside its wafer"
