"""Wafers come in blocks that are neither too many nor too large, and what is no wafer is refused."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from drawn import grid

from waferlab.errors import WaferlabError
from waferlab.formats import block
from waferlab.formats.block import (
    Block,
    MixedError,
    Wafer,
    check_grid,
    check_states,
    in_blocks,
    lot_and_wafer,
    wafer_name,
)


class TestBlocks:
    def test_names_and_maps_go_together(self) -> None:
        made = Block.of(["a", "b"], [grid("12"), grid("0", "1", "2")])
        assert [(name, each.tolist()) for name, each in made] == [("a", [[1, 2]]), ("b", [[0], [1], [2]])]

    def test_hold_so_many_wafers_in_order(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(block, "WAFERS_AT_ONCE", 3)
        made = list(in_blocks(((str(number), grid("1")) for number in range(7)), Path("x")))
        assert [list(each.names) for each in made] == [["0", "1", "2"], ["3", "4", "5"], ["6"]]

    def test_hold_fewer_large_wafers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(block, "PLACES_AT_ONCE", 10)
        sizes = [4, 4, 4, 20, 1]
        made = list(in_blocks((("", np.ones((1, size), np.uint8)) for size in sizes), Path("x")))
        assert [[each.size for each in some.maps] for some in made] == [[4, 4, 4], [20], [1]]

    def test_come_before_all_wafers_are_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(block, "WAFERS_AT_ONCE", 2)
        endless = iter(lambda: ("", grid("1")), None)
        assert len(next(in_blocks(endless, Path("x")))) == 2

    def test_hold_what_came_before_a_fault_too(self) -> None:
        made = in_blocks(self.cut_by(WaferlabError("the rest is damaged")), Path("x"))
        assert list(next(made).names) == ["0", "1"]
        with pytest.raises(WaferlabError, match="the rest is damaged"):
            next(made)

    def test_hold_nothing_that_may_be_a_part(self) -> None:
        with pytest.raises(MixedError, match="1 comes back"):
            next(in_blocks(self.cut_by(MixedError("1 comes back")), Path("x")))

    def cut_by(self, error: WaferlabError) -> Iterator[Wafer]:
        """Two wafers, then the error."""
        yield from (("0", grid("1")), ("1", grid("2")))
        raise error

    def test_a_file_without_wafers_has_none_and_is_refused(self) -> None:
        with pytest.raises(WaferlabError, match=r"x\.csv holds no wafer"):
            list(in_blocks([], Path("x.csv")))


@pytest.mark.parametrize(
    ("height", "width"), [(0, 3), (3, 0), (-1, -1), (1 << 11, (1 << 11) + 1), (1, 10**30), (3, 10**4)]
)
def test_a_grid_that_no_wafer_has_is_refused(height: int, width: int) -> None:
    with pytest.raises(WaferlabError, match=r"^x\.map: a grid of .* places"):
        check_grid(height, width, "x.map")
    check_grid(1 << 11, 1 << 11, "x.map")


def test_what_is_no_die_state_is_refused() -> None:
    check_states(grid("012"), "x")
    with pytest.raises(WaferlabError, match=r"^x holds the die state 3; expected 0 no die, 1 pass, 2 fail"):
        check_states(grid("013"), "x")


@pytest.mark.parametrize(("lot", "wafer", "name"), [("a", "1", "a/1"), ("", "1", "1"), ("a/b", "1", "a/b/1")])
def test_a_name_is_lot_and_wafer(lot: str, wafer: str, name: str) -> None:
    assert wafer_name(lot, wafer) == name
    assert lot_and_wafer(name) == (lot, wafer)
