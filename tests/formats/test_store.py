"""The compact store: maps of many sizes stay on the disk, and arrays that contradict each other are refused."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import block, drawn, grid

from waferlab.data import ragged
from waferlab.errors import WaferlabError
from waferlab.formats import store
from waferlab.formats.block import Block, Reading

WAFERS = {"lot/1": grid("012", "210"), "lot/2": grid("1"), "größe": grid("2", "2")}


def read(path: Path) -> dict[str, list[str]]:
    return drawn(store.FORMAT.read(path, Reading()))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    store.FORMAT.write([block(WAFERS)], tmp_path / "store")
    return tmp_path / "store"


class TestReading:
    def test_what_is_written_is_read_again(self, home: Path) -> None:
        assert read(home) == drawn([block(WAFERS)])
        assert list(read(home)) == list(WAFERS)

    def test_maps_that_data_sets_keep_are_read_and_named_by_rows(self, tmp_path: Path) -> None:
        ragged.write(list(WAFERS.values()), tmp_path)
        assert read(tmp_path) == {"0": ["012", "210"], "1": ["1"], "2": ["2", "2"]}

    def test_blocks_hold_their_own_dies_alone(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(store, "WAFERS_AT_ONCE", 2)
        blocks = list(store.FORMAT.read(home, Reading()))
        assert [list(each.names) for each in blocks] == [["lot/1", "lot/2"], ["größe"]]
        assert [each.maps.dies.size for each in blocks] == [7, 2]

    def test_dies_are_never_all_in_memory(self, tmp_path: Path) -> None:
        names, maps = [f"w{row}" for row in range(2000)], np.ones((2000, 20, 20), np.uint8)
        some = Block.of(names, list(maps))
        store.FORMAT.write(
            (Block([f"{part}/{name}" for name in names], some.maps) for part in range(20)), tmp_path / "x"
        )
        tracemalloc.start()
        try:
            assert sum(len(each) for each in store.FORMAT.read(tmp_path / "x", Reading())) == 40_000
            assert tracemalloc.get_traced_memory()[1] < 6e6, "of 16 MB"
        finally:
            tracemalloc.stop()


class TestFaults:
    @pytest.mark.parametrize(
        ("name", "array", "fault"),
        [
            ("dies", np.ones(8, np.uint8), r"dies\.npy holds uint8 of shape \(8,\); expected uint8 of \(9,\)"),
            ("dies", np.ones(9, np.int64), r"dies\.npy holds int64 of shape \(9,\); expected uint8 of \(9,\)"),
            ("dies", np.ones((3, 3), np.uint8), r"dies\.npy holds uint8 of shape \(3, 3\)"),
            ("dies", np.full(9, 3, np.uint8), r"dies\.npy: one of the maps 0 to 2 holds the die state 3"),
            ("shapes", np.ones((3, 2)), r"shapes\.npy holds float64 of shape \(3, 2\); expected whole numbers"),
            ("shapes", np.ones((3, 3), np.int64), r"shapes\.npy holds int64 of shape \(3, 3\)"),
            ("shapes", np.ones((0, 2), np.int64), r"shapes\.npy holds int64 of shape \(0, 2\)"),
            ("shapes", np.array([[2, 3], [0, 1]]), r"shapes\.npy: map 1: a grid of 0 x 1 places"),
            ("shapes", np.array([[2, 3], [-1, -3]]), r"shapes\.npy: map 1: a grid of -1 x -3 places"),
            ("shapes", np.array([[1 << 32, 1 << 32]]), r"shapes\.npy: map 0: a grid of 4,294,967,296 x"),
            ("names", np.array(["a", "b"]), r"names\.npy holds <U1 of shape \(2,\); expected text of \(3,\)"),
            ("names", np.array([1, 2, 3]), r"names\.npy holds int64 of shape \(3,\); expected text of \(3,\)"),
            ("names", np.full(3, 0x7FFFFFFF, "<u4").view("<U1"), r"names\.npy is damaged"),
        ],
    )
    def test_the_array_and_the_fault_are_said(self, name: str, array: Any, fault: str, home: Path) -> None:
        np.save(home / f"{name}.npy", array)
        with pytest.raises(WaferlabError, match=fault):
            read(home)

    @pytest.mark.parametrize("name", ["dies", "shapes", "names"])
    def test_an_array_cut_short_is_refused(self, name: str, home: Path) -> None:
        file = home / f"{name}.npy"
        file.write_bytes(file.read_bytes()[:-1])
        with pytest.raises(WaferlabError, match=rf"{name}\.npy claims shape"):
            read(home)

    def test_a_missing_array_is_named(self, home: Path) -> None:
        (home / "shapes.npy").unlink()
        with pytest.raises(WaferlabError, match=r"shapes\.npy cannot be read: No such file"):
            read(home)


class TestWriting:
    def test_names_that_are_rows_are_not_written(self, tmp_path: Path) -> None:
        store.FORMAT.write([block({"0": grid("1")}), block({"1": grid("2")})], tmp_path / "x")
        assert sorted(file.name for file in (tmp_path / "x").iterdir()) == ["dies.npy", "shapes.npy"]

    def test_what_is_there_is_not_written_over(self, home: Path) -> None:
        with pytest.raises(WaferlabError, match="store is there already"):
            store.FORMAT.write([block({"a": grid("1")})], home)
        assert list(read(home)) == list(WAFERS)

    def test_after_a_fault_nothing_is_left(self, tmp_path: Path) -> None:
        def broken() -> Any:
            yield block(WAFERS)
            raise WaferlabError("the source is damaged")

        with pytest.raises(WaferlabError, match="the source is damaged"):
            store.FORMAT.write(broken(), tmp_path / "x")
        assert list(tmp_path.iterdir()) == []
