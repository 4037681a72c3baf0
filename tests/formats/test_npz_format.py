"""Maps in arrays of numpy are found in every layout, block by block, and what is no map is refused."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import block, drawn, grid

from waferlab.data import mixedwm38
from waferlab.data.npz import Stored
from waferlab.errors import WaferlabError
from waferlab.formats import npz
from waferlab.formats.block import Reading

MAPS = np.stack([grid("012", "210"), grid("111", "222")])


def read(path: Path) -> list[list[str]]:
    """The wafers of a file, which are named by their rows."""
    found = drawn(npz.FORMAT.read(path, Reading()))
    assert list(found) == [str(row) for row in range(len(found))]
    return list(found.values())


class TestMaps:
    @pytest.mark.parametrize("dtype", ["uint8", ">i4", "float64"])
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_of_any_type_and_order_are_read(self, dtype: Any, order: Any, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", MAPS.astype(dtype).copy(order))
        assert read(tmp_path / "x.npy") == [["012", "210"], ["111", "222"]]

    def test_one_alone_is_a_wafer(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", MAPS[0])
        np.savez(tmp_path / "x.npz", maps=MAPS[0].copy("F"))
        assert read(tmp_path / "x.npy") == read(tmp_path / "x.npz") == [["012", "210"]]

    def test_in_an_archive_are_called_maps_or_arr_0_or_are_all_that_has_three_axes(self, tmp_path: Path) -> None:
        other, labels = np.zeros((1, 1, 1), np.uint8), np.zeros((2, 8), np.uint8)
        for arrays in ({"maps": MAPS, "arr_0": other}, {"arr_0": MAPS, "x": other}, {"x": MAPS, "labels": labels}):
            np.savez_compressed(tmp_path / "x.npz", **arrays)  # type: ignore[arg-type]
            assert read(tmp_path / "x.npz") == [["012", "210"], ["111", "222"]]

    def test_state_3_is_a_fail_in_arr_0_and_nowhere_else(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "x.npz", arr_0=MAPS + 1)
        assert read(tmp_path / "x.npz") == [["122", "221"], ["222", "222"]]
        np.savez(tmp_path / "x.npz", maps=MAPS + 1)
        with pytest.raises(WaferlabError, match=r"x\.npz: maps holds 3 in row 0; expected whole numbers from 0 to 2"):
            read(tmp_path / "x.npz")

    @pytest.mark.parametrize("order", ["C", "F"])
    def test_come_in_blocks_with_their_rows(self, order: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(npz, "WAFERS_AT_ONCE", 2)
        maps = np.random.default_rng(0).integers(0, 3, (5, 3, 4))
        np.savez_compressed(tmp_path / "x.npz", maps=maps.copy(order))
        blocks = list(npz.FORMAT.read(tmp_path / "x.npz", Reading()))
        assert [list(each.names) for each in blocks] == [["0", "1"], ["2", "3"], ["4"]]
        assert np.array_equal([each for some in blocks for each in some.maps], maps)

    @pytest.mark.parametrize("name", ["x.npy", "x.npz"])
    def test_are_never_all_in_memory(self, name: str, tmp_path: Path) -> None:
        maps = np.ones((40_000, 20, 20), np.uint8)  # 16 MB
        save = np.savez_compressed if name == "x.npz" else np.save
        save(tmp_path / name, maps) if name == "x.npy" else save(tmp_path / name, maps=maps)  # type: ignore[call-overload]
        del maps
        tracemalloc.start()
        try:
            assert sum(len(each) for each in npz.FORMAT.read(tmp_path / name, Reading())) == 40_000
            assert tracemalloc.get_traced_memory()[1] < 6e6
        finally:
            tracemalloc.stop()

    @pytest.mark.real
    def test_of_the_real_file(self, real_mixedwm38: Path) -> None:
        blocks = list(npz.FORMAT.read(real_mixedwm38, Reading()))
        maps = np.concatenate([each.maps.dies for each in blocks]).reshape(-1, 52, 52)
        assert blocks[-1].names[-1] == str(len(maps) - 1)
        assert np.array_equal(maps, mixedwm38.load(str(real_mixedwm38)).wafers.maps)


class TestRows:
    @pytest.mark.parametrize("order", ["C", "F"])
    @pytest.mark.parametrize("shape", [(7,), (7, 2), (7, 2, 3)])
    def test_come_in_parts_of_every_size(self, order: Any, shape: tuple[int, ...], tmp_path: Path) -> None:
        values = np.random.default_rng(0).integers(0, 9, shape).astype(np.int16)
        np.save(tmp_path / "x.npy", values.copy(order))
        for at_once in (1, 2, 7, 8):
            parts = list(Stored(tmp_path / "x.npy").rows(8, at_once))
            assert [len(part) for part in parts] == [min(at_once, 7 - start) for start in range(0, 7, at_once)]
            assert all(part.dtype == np.uint8 for part in parts)
            assert np.array_equal(np.concatenate(parts), values)

    def test_a_wrong_value_is_refused_by_its_row_when_it_is_reached(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", np.repeat([0, 1, 9], 2).reshape(3, 2))
        rows = Stored(tmp_path / "x.npy").rows(8, 2)
        assert next(rows).tolist() == [[0, 0], [1, 1]]
        with pytest.raises(WaferlabError, match=r"x\.npy holds 9 in row 2"):
            next(rows)


class TestFaults:
    @pytest.mark.parametrize(
        ("array", "fault"),
        [
            (np.zeros((0, 3, 3), np.uint8), r"shape \(0, 3, 3\), so no rows; expected \(N, H, W\)"),
            (np.zeros((0, 3), np.uint8), r"shape \(0, 3\), so no rows; expected \(H, W\)"),
            (np.zeros((2, 3, 0), np.uint8), r"expected \(N, H, W\)"),
            (np.zeros(3, np.uint8), r"expected \(N, H, W\)"),
            (np.zeros((2, 2, 2, 2), np.uint8), r"expected \(N, H, W\)"),
            (np.zeros((1, 1, (1 << 22) + 1), np.uint8), "a grid of 1 x 4,194,305 places"),
            (np.full((2, 2), 0.5), r"holds 0\.5 in row 0"),
            (np.array([[["a"]]]), "holds <U1; expected whole numbers"),
        ],
    )
    def test_what_is_no_map_is_refused(self, array: Any, fault: str, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", array)
        with pytest.raises(WaferlabError, match=rf"x\.npy.*{fault}"):
            read(tmp_path / "x.npy")

    def test_an_archive_without_a_single_such_array_is_refused_with_all_it_holds(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "x.npz", a=MAPS, b=MAPS, c=np.zeros(1))
        with pytest.raises(WaferlabError, match=r"has no array maps, and 2 with three axes.*; it holds: a, b, c"):
            read(tmp_path / "x.npz")

    def test_python_objects_are_refused_unread(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", np.array([[[{}]]], object), allow_pickle=True)
        with pytest.raises(WaferlabError, match=r"x\.npy holds Python objects, which could run code"):
            read(tmp_path / "x.npy")

    @pytest.mark.parametrize("name", ["x.npy", "x.npz"])
    def test_a_file_cut_short_is_refused(self, name: str, tmp_path: Path) -> None:
        npz.FORMAT.write([block(dict(zip("ab", MAPS, strict=True)))], tmp_path / name)
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-5])
        with pytest.raises(WaferlabError, match=r"x\.np[yz] (claims shape|is cut short)"):
            read(tmp_path / name)


class TestWriting:
    @pytest.mark.parametrize("name", ["x.npy", "x.npz"])
    def test_blocks_become_one_array_that_numpy_reads(self, name: str, tmp_path: Path) -> None:
        npz.FORMAT.write([block({"a": MAPS[0]}), block({"b": MAPS[1], "c": MAPS[0]})], tmp_path / name)
        held = np.load(tmp_path / name)
        held = held if name == "x.npy" else held["maps"]
        assert held.dtype == np.uint8
        assert np.array_equal(held, MAPS[[0, 1, 0]])
        assert [file.name for file in tmp_path.iterdir()] == [name]

    @pytest.mark.parametrize("name", ["x.npy", "x.npz"])
    def test_maps_of_several_sizes_are_refused_and_nothing_is_left(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match=r"wafer b has 1 x 2 places, the first 1 x 1; .*format store"):
            npz.FORMAT.write([block({"a": grid("1"), "b": grid("12")})], tmp_path / name)
        with pytest.raises(WaferlabError, match="there is no wafer to be written"):
            npz.FORMAT.write([], tmp_path / name)
        assert list(tmp_path.iterdir()) == []
