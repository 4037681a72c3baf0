"""What is found on a wafer at its own size lies on its dies in the maps that networks see."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from waferlab.data.dataset import Wafers
from waferlab.data.ragged import RaggedMaps, Resize, resized

sides = st.integers(1, 12)
sizes = st.tuples(sides, sides)
states = sizes.flatmap(lambda size: arrays(np.uint8, size, elements=st.integers(0, 2)))


def of_own_sizes(maps: list[NDArray[np.uint8]], size: tuple[int, int], resize: Resize) -> Wafers:
    shapes = np.array([each.shape for each in maps])
    flat = np.concatenate([each.ravel() for each in maps])
    native = RaggedMaps(flat, shapes, np.cumsum(shapes.prod(1)) - shapes.prod(1))
    labels = np.ones((len(maps), 1), np.uint8)
    return Wafers(resized(native, size, resize), labels, ("Loc",), native=native, resize=resize)


def flat(maps: RaggedMaps) -> NDArray[np.uint8]:
    """All dies, map after map."""
    return np.concatenate([each.ravel() for each in maps])


SMALL = np.array([[1, 2], [2, 1]], np.uint8)


class TestByHand:
    def test_a_value_a_die_where_dies_stay_dies(self) -> None:
        wafers = of_own_sizes([SMALL], (4, 4), "keep")
        made = wafers.from_own_sizes([np.array([[0.1, 0.2], [0.3, 0.4]])])
        assert made[0, 1:3, 1:3].tolist() == [[0.1, 0.2], [0.3, 0.4]]
        assert np.count_nonzero(made) == 4

    @pytest.mark.parametrize("resize", ["nearest", "area"])
    def test_a_value_a_die_where_maps_are_stretched(self, resize: Resize) -> None:
        wafers = of_own_sizes([SMALL], (4, 4), resize)
        made = wafers.from_own_sizes([np.eye(2, dtype=bool)])
        assert made.dtype == bool
        assert np.array_equal(made[0], np.kron(np.eye(2), np.ones((2, 2))).astype(bool))

    def test_wafers_of_one_size_keep_their_values_where_they_are(self) -> None:
        wafers = Wafers(np.stack([SMALL, SMALL.T]), np.ones((2, 1), np.uint8), ("Loc",))
        assert np.array_equal(list(wafers.own_sizes()), wafers.maps)
        assert np.array_equal(wafers.from_own_sizes(list(np.arange(8).reshape(2, 2, 2))), np.arange(8).reshape(2, 2, 2))


@given(st.lists(states, min_size=1, max_size=6), sizes, st.sampled_from(["keep", "nearest"]))
def test_the_dies_own_states_make_the_maps(
    maps: list[NDArray[np.uint8]], size: tuple[int, int], resize: Resize
) -> None:
    wafers = of_own_sizes(maps, size, resize)
    assert all(np.array_equal(own, each) for own, each in zip(wafers.own_sizes(), maps, strict=True))
    assert np.array_equal(wafers.from_own_sizes(list(wafers.own_sizes())), wafers.maps)


@given(st.lists(states, min_size=1, max_size=6), sizes, st.data())
def test_so_they_do_for_any_of_the_wafers(
    maps: list[NDArray[np.uint8]], size: tuple[int, int], data: st.DataObject
) -> None:
    some = data.draw(st.lists(st.integers(0, len(maps) - 1), min_size=1))
    part = of_own_sizes(maps, size, "keep")[np.array(some)]
    assert np.array_equal(part.from_own_sizes(list(part.own_sizes())), part.maps)


@given(st.lists(states, min_size=1, max_size=6))
def test_on_a_grid_that_holds_every_map_no_die_is_lost(maps: list[NDArray[np.uint8]]) -> None:
    wafers = of_own_sizes(maps, (12, 12), "keep")
    own = wafers.own_sizes()
    numbers = np.arange(1, own.dies.size + 1)
    made = wafers.from_own_sizes(list(RaggedMaps(numbers, own.shapes, own.starts)))
    assert np.array_equal(np.sort(made[made > 0]), numbers)
    assert np.array_equal(wafers.maps[made > 0], flat(wafers.own_sizes())[made[made > 0] - 1])


def test_no_wafers_have_no_values() -> None:
    none = Wafers(np.zeros((0, 5, 6), np.uint8), np.zeros((0, 1), np.uint8), ("Loc",))
    assert none.from_own_sizes([]).shape == (0, 5, 6)
