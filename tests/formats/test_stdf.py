"""STDF: a tester's log gives the maps of its wafers, in either byte order and packed; damage is said with its byte."""

import gzip
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from struct import pack
from tracemalloc import get_traced_memory, start, stop

import numpy as np
import pytest
from drawn import Map, grid

from waferlab.errors import WaferlabError
from waferlab.formats import stdf
from waferlab.formats.block import Block, Reading
from waferlab.formats.stdf import FORMAT

FAIL_FLAG, NO_VERDICT = 0x08, 0x10


class Log:
    """Writes records as a tester does, field by field after the specification."""

    def __init__(self, order: str = "<") -> None:
        self.order = order
        self.file = b""
        self.record(0, 10, "BB", 2 if order == "<" else 1, 4)

    def record(self, kind: int, subkind: int, fields: str, *values: object, text: str | None = None) -> "Log":
        data = pack(self.order + fields, *values)
        if text is not None:
            data += bytes([len(text)]) + text.encode()
        self.file += pack(self.order + "HBB", len(data), kind, subkind) + data
        return self

    def configure(self, x: str, y: str, flat: str = " ") -> "Log":
        return self.record(2, 30, "fffBchhcc", 0, 0, 0, 0, flat.encode(), 0, 0, x.encode(), y.encode())

    def lot(self, name: str) -> "Log":
        return self.record(1, 10, "IIBcccHc", 1, 2, 1, b"P", b" ", b" ", 65535, b" ", text=name)

    def begin(self, name: str, head: int = 1) -> "Log":
        return self.record(2, 10, "BBI", head, 255, 3, text=name)

    def test(self, x: int, y: int, flag: int = 0, bin_: int = 1, head: int = 1) -> "Log":
        self.record(5, 10, "BB", head, 0)
        self.record(15, 10, "IBBBBf", 7, head, 0, 0, 0, 1.5, text="a parametric test")
        return self.record(5, 20, "BBBHHHhhI", head, 0, flag, 1, bin_, bin_ + 90, x, y, 12, text="part 1")

    def end(self, head: int = 1, name: str = "") -> "Log":
        return self.record(2, 20, "BBIIIIII", head, 255, 9, 1, 0, 0, 1, 1, text=name)


def wafer(log: Log, name: str, dies: Iterable[tuple[int, int]] = ((0, 0),)) -> Log:
    """A wafer of dies that pass."""
    log.begin(name)
    for x, y in dies:
        log.test(x, y)
    return log.end()


def read(folder: Path, file: bytes, *pass_bins: str) -> dict[str, Map]:
    """The maps of a file with these bytes, by name."""
    path = folder / "log.stdf"
    path.write_bytes(file)
    blocks = FORMAT.read(path, Reading(frozenset(pass_bins) or None))
    return {name: each for block in blocks for name, each in zip(block.names, block.maps, strict=True)}


def fault(folder: Path, file: bytes) -> str:
    """What is said of a file that is refused."""
    with pytest.raises(WaferlabError) as refused:
        read(folder, file)
    assert str(refused.value).startswith(str(folder / "log.stdf"))
    return str(refused.value)


class TestMaps:
    @pytest.mark.parametrize("order", ["<", ">"])
    def test_a_log_of_two_wafers_is_read_by_hand_in_either_byte_order(self, order: str, tmp_path: Path) -> None:
        log = Log(order).lot("A1B2").begin("W-07")
        for x, y, flag in ((-1, 10, 0), (0, 10, FAIL_FLAG), (2, 10, 0), (0, 11, 0)):
            log.test(x, y, flag, 5 if flag else 1)
        log.end().record(50, 30, "", text="a remark")
        maps = read(tmp_path, wafer(log, "W-08", [(300, -200)]).record(1, 20, "I", 9).file)
        assert list(maps) == ["A1B2/W-07", "A1B2/W-08"]
        assert np.array_equal(maps["A1B2/W-07"], grid("1201", "0100")), "the smallest y on top"
        assert np.array_equal(maps["A1B2/W-08"], grid("1"))
        assert {each.dtype for each in maps.values()} == {np.dtype(np.uint8)}

    def test_of_a_die_tested_again_the_last_test_counts(self, tmp_path: Path) -> None:
        log = Log().begin("1").test(0, 0, FAIL_FLAG).test(1, 0).test(0, 0).test(1, 0, FAIL_FLAG).end()
        assert np.array_equal(read(tmp_path, log.file)["1"], grid("12"))

    def test_wafers_on_two_heads_at_once_are_told_apart(self, tmp_path: Path) -> None:
        log = Log().begin("a", 1).begin("b", 2).test(0, 0, head=2).test(0, 0, head=1).test(1, 0, head=2)
        maps = read(tmp_path, log.end(2).end(1).file)
        assert [(name, each.tolist()) for name, each in maps.items()] == [("b", [[1, 1]]), ("a", [[1]])]

    def test_a_wafer_is_named_when_it_ends_or_else_counted(self, tmp_path: Path) -> None:
        log = Log().lot(" ").begin("").test(0, 0).end(name="W9").begin("").test(0, 0).end()
        assert list(read(tmp_path, log.file)) == ["W9", "2"]

    def test_optional_fields_at_the_end_of_records_may_be_left_out(self, tmp_path: Path) -> None:
        log = Log().record(1, 10, "II", 1, 2).record(2, 10, "BBI", 1, 255, 0)
        log.record(5, 20, "BBBHHHhh", 1, 0, 0, 1, 1, 1, 4, 4).record(2, 20, "BBII", 1, 255, 0, 1)
        assert np.array_equal(read(tmp_path, log.file)["1"], grid("1"))

    def test_records_of_testers_own_are_passed_over(self, tmp_path: Path) -> None:
        log = Log().record(180, 1, "I", 7).record(220, 99, "II", 7, 7).record(1, 94, "B", 1)
        assert list(read(tmp_path, wafer(log, "1").file)) == ["1"]


class TestAxes:
    @pytest.mark.parametrize(
        ("x", "y", "rows"),
        [
            ("R", "D", ["11", "00", "00", "10"]),
            (" ", "\0", ["11", "00", "00", "10"]),
            ("R", "U", ["10", "00", "00", "11"]),
            ("L", "D", ["11", "00", "00", "01"]),
            ("l", "u", ["01", "00", "00", "11"]),
        ],
    )
    @pytest.mark.parametrize("is_late", [False, True])
    def test_run_as_the_configuration_says_wherever_it_stands(
        self, x: str, y: str, rows: list[str], is_late: bool, tmp_path: Path
    ) -> None:
        log = wafer(Log() if is_late else Log().configure(x, y), "1", [(0, 0), (1, 0), (0, 3)])
        file = (log.configure(x, y) if is_late else log).file
        assert np.array_equal(read(tmp_path, file)["1"], grid(*rows))

    def test_that_turn_around_within_a_file_are_refused_with_the_byte(self, tmp_path: Path) -> None:
        log = wafer(Log().configure("R", "U"), "1").configure("R", "U")
        assert list(read(tmp_path, log.file)) == ["1"]
        at = f"byte {len(log.file):,} has coordinates run otherwise"
        assert at in fault(tmp_path, log.configure("R", "D").file)

    def test_that_are_said_behind_more_wafers_than_can_wait_are_refused_if_they_are_not_the_usual_ones(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stdf, "WAFERS_AT_ONCE", 2)
        for y, is_usual in (("D", True), ("U", False)):
            log = wafer(wafer(wafer(Log(), "1"), "2"), "3").configure("R", y)
            if is_usual:
                assert list(read(tmp_path, log.file)) == ["1", "2", "3"]
            else:
                assert "than the wafers before it" in fault(tmp_path, log.file)

    def test_that_nobody_knows_and_flats_in_several_places_are_said(self, tmp_path: Path) -> None:
        path, told = tmp_path / "log.stdf", Reading()
        for x, flat in (("R", "D"), ("7", "L")):
            path.write_bytes(wafer(Log().configure(x, "D", flat), "1").file)
            list(FORMAT.read(path, told))
        notches, axes = told.remarks.lines()
        assert "(WF_FLAT D, L)" in notches
        assert axes == "POS_X '7' isn't known; coordinates were read as R"


class TestVerdicts:
    def states(self, folder: Path, *parts: tuple[int, int], pass_bins: tuple[str, ...] = ()) -> list[int]:
        """Of parts with this PART_FLG and HARD_BIN, side by side."""
        log = Log().begin("1")
        for x, (flag, bin_) in enumerate(parts):
            log.test(x, 0, flag, bin_)
        (states,) = read(folder, log.end().file, *pass_bins)["1"].tolist()
        return states

    def test_the_flag_decides_whatever_the_bin(self, tmp_path: Path) -> None:
        assert self.states(tmp_path, (0, 1), (0, 7), (FAIL_FLAG, 1), (FAIL_FLAG | 0x04, 7)) == [1, 1, 2, 2]

    def test_bin_1_passes_where_the_flag_holds_no_verdict(self, tmp_path: Path) -> None:
        assert self.states(tmp_path, (NO_VERDICT, 1), (NO_VERDICT, 7), (NO_VERDICT | FAIL_FLAG, 1)) == [1, 2, 1]

    def test_hard_bins_that_the_reader_names_come_first(self, tmp_path: Path) -> None:
        parts = ((0, 1), (FAIL_FLAG, 7), (NO_VERDICT, 12), (0, 97))
        assert self.states(tmp_path, *parts, pass_bins=("7", "012")) == [2, 1, 1, 2]


class TestPartsWithoutAPlace:
    def test_are_left_out_and_said_once(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        log = Log().test(0, 0).begin("1").test(-32768, 5).test(5, -32768).test(5, 5)
        log.record(5, 20, "BBBHH", 1, 0, 0, 1, 1).end().begin("2").test(-32768, -32768).end()
        maps = read(tmp_path, log.test(9, 9).file)
        assert [(name, each.tolist()) for name, each in maps.items()] == [("1", [[1]])]
        said = " ".join(capsys.readouterr().err.split())
        assert said.count("note:") == 1
        assert "left out 6 parts without coordinates or wafer, 1 wafers without parts" in said

    def test_nothing_is_said_of_a_whole_log(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        read(tmp_path, wafer(Log(), "1").file)
        assert capsys.readouterr().err == ""

    def test_a_log_of_only_such_parts_as_of_packaged_ones_is_refused(self, tmp_path: Path) -> None:
        assert "no wafer" in fault(tmp_path, Log().lot("L").test(0, 0).test(1, 0).file)


class TestPacking:
    def test_a_log_packed_by_gzip_is_read_whatever_it_is_called(self, tmp_path: Path) -> None:
        assert list(read(tmp_path, gzip.compress(wafer(Log(), "1").file))) == ["1"]

    def test_a_log_packed_in_several_pieces_is_read_to_the_end(self, tmp_path: Path) -> None:
        file = wafer(wafer(Log(), "1"), "2").file
        pieces = [gzip.compress(file[at : at + 3]) for at in range(0, len(file), 3)]
        assert list(read(tmp_path, b"".join(pieces))) == ["1", "2"]

    def test_a_log_that_unpacks_without_end_costs_no_memory(self, tmp_path: Path) -> None:
        parts = Log().begin("1").test(0, 0).file
        file = gzip.compress(parts + (pack("<HBB", 60_000, 15, 10) + bytes(60_000)) * 1000, 9)
        start()
        said = fault(tmp_path, file)
        peak = get_traced_memory()[1]
        stop()
        assert len(file) < 1e5
        assert "cut short: wafer 1 begins (WIR), but has no end" in said
        assert peak < 2e6

    @pytest.mark.parametrize("place", [30, -6], ids=["within", "checksum"])
    def test_damaged_packing_is_said(self, place: int, tmp_path: Path) -> None:
        file = bytearray(gzip.compress(wafer(Log(), "1", product(range(9), range(9))).file))
        file[place] ^= 0xFF
        fault(tmp_path, bytes(file))

    def test_packing_cut_short_is_said(self, tmp_path: Path) -> None:
        assert "damaged" in fault(tmp_path, gzip.compress(wafer(Log(), "1").file)[:-20])


class TestFaults:
    def test_a_log_cut_anywhere_is_refused_with_the_byte_of_the_record_or_the_wafer(self, tmp_path: Path) -> None:
        log = wafer(Log().lot("L"), "1")
        begins = np.cumsum([0, *(4 + length for length in lengths(log.file))])
        for size in range(1, len(log.file)):
            said = fault(tmp_path, log.file[:size])
            if size > 6 and size not in begins:
                at = begins[np.searchsorted(begins, size) - 1]
                assert f"cut short: it ends within the record at byte {at:,}" in said

    def test_bytes_that_are_no_record_are_refused_with_their_place(self, tmp_path: Path) -> None:
        file = wafer(Log(), "1").file
        at = f"at byte {len(file):,} no record begins"
        assert f"{at} (it would be 0, 0)" in fault(tmp_path, file + bytes(64))
        assert f"{at} (it would be 99, 10)" in fault(tmp_path, file + b"\0\0\x63\x0a")

    def test_wafers_that_begin_twice_or_end_unbegun_are_refused_with_the_byte(self, tmp_path: Path) -> None:
        log = Log().begin("1").test(0, 0)
        at = f"byte {len(log.file):,} "
        assert f"{at}begins a wafer (WIR) before" in fault(tmp_path, log.begin("2").file)
        log = wafer(Log(), "1")
        assert f"byte {len(log.file):,} ends a wafer (WRR) that has not begun" in fault(tmp_path, log.end().file)

    def test_a_text_longer_than_its_record_is_refused_with_the_byte(self, tmp_path: Path) -> None:
        log = Log().record(2, 10, "BBIB", 1, 255, 0, 9)
        assert "byte 6 is shorter than the text in it" in fault(tmp_path, log.file)

    def test_dies_too_far_apart_are_refused_before_there_is_a_grid(self, tmp_path: Path) -> None:
        said = fault(tmp_path, wafer(Log(), "7", [(-32767, -32767), (32767, 32767)]).file)
        assert "ends wafer 7: x from -32767 to 32767" in said

    def test_more_parts_than_any_wafer_has_are_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stdf, "MOST_PLACES", 3)
        assert "more than 3 parts of a wafer" in fault(tmp_path, wafer(Log(), "1", [(0, 0)] * 4).file)

    @pytest.mark.parametrize("file", [b"", b"\0", b"hello world", b"\x02\x00\x00\x0b\x02\x04", b"\x1f\x8b\x08"])
    def test_what_is_no_stdf_is_refused(self, file: bytes, tmp_path: Path) -> None:
        fault(tmp_path, file)

    def test_another_version_is_refused(self, tmp_path: Path) -> None:
        assert "version 3; only version 4" in fault(tmp_path, b"\x02\x00\x00\x0a\x02\x03")

    def test_a_missing_file_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match="cannot be read: No such file"):
            list(FORMAT.read(tmp_path / "none.std", Reading()))


class TestDamage:
    """Wafers before it come all the same, if it is known how their coordinates run."""

    def kept(self, folder: Path, log: Log) -> list[str]:
        """The wafers that come before the error, of a log of two and of a third that is cut."""
        file = wafer(wafer(wafer(log, "1"), "2"), "3").file
        names = list[str]()
        for less in (1, 4 + 27):  # within the last record, and before it
            (folder / "log.stdf").write_bytes(file[:-less])
            with pytest.raises(WaferlabError, match="cut short"):
                names.extend(name for each in FORMAT.read(folder / "log.stdf", Reading()) for name, _ in each)
        return names

    def test_leaves_those_before_it(self, tmp_path: Path) -> None:
        assert self.kept(tmp_path, Log().configure("R", "D")) == ["1", "2"] * 2

    def test_leaves_none_where_their_axes_may_be_lost_with_the_rest(self, tmp_path: Path) -> None:
        assert self.kept(tmp_path, Log()) == []


class TestWriting:
    @pytest.mark.parametrize("suffix", FORMAT.suffixes)
    def test_what_is_written_is_read_again_from_several_blocks(self, suffix: str, tmp_path: Path) -> None:
        maps = {"L1/W1": grid("010", "121"), "L2/W1": grid("2", "1"), "ü": grid("1201")}
        path = tmp_path / f"log{suffix}"
        blocks = [Block.of(list(some), [maps[name] for name in some]) for some in (list(maps)[:1], list(maps)[1:])]
        FORMAT.write(blocks, path)
        assert path.read_bytes().startswith(b"\x1f\x8b") == suffix.endswith(".gz")
        assert FORMAT.recognises(path.read_bytes()[:100])
        found = read(tmp_path, path.read_bytes())
        assert list(found) == list(maps)
        assert all(np.array_equal(found[name], maps[name]) for name in maps)

    def test_edges_without_a_die_are_not_found_again(self, tmp_path: Path) -> None:
        path = tmp_path / "log.std"
        FORMAT.write([Block.of(["1"], [grid("0000", "0120", "0000")])], path)
        assert np.array_equal(read(tmp_path, path.read_bytes())["1"], grid("12"))

    def test_records_are_those_that_the_specification_asks_for_in_its_order(self, tmp_path: Path) -> None:
        path = tmp_path / "log.std"
        FORMAT.write([Block.of(["1"], [grid("12")])], path)
        assert kinds(path.read_bytes()) == [
            *((0, 10), (1, 10), (2, 30), (2, 10)),
            *((5, 10), (5, 20), (5, 10), (5, 20)),
            *((2, 20), (1, 30), (1, 20)),
        ]

    @pytest.mark.parametrize(("name", "shape"), [("n" * 256, (1, 1)), ("1", (1, 32769))])
    def test_what_does_not_fit_is_refused(self, name: str, shape: tuple[int, int], tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match="doesn't fit into STDF"):
            FORMAT.write([Block.of([name], [np.ones(shape, np.uint8)])], tmp_path / "log.std")
        assert list(tmp_path.iterdir()) == []


def lengths(file: bytes) -> list[int]:
    """Of the data of each record of a little-endian file."""
    found, at = [], 0
    while at < len(file):
        found.append(int.from_bytes(file[at : at + 2], "little"))
        at += 4 + found[-1]
    return found


def kinds(file: bytes) -> list[tuple[int, int]]:
    """Type and subtype of each record of a little-endian file."""
    begins = np.cumsum([0, *(4 + length for length in lengths(file))])[:-1]
    return [(file[at + 2], file[at + 3]) for at in begins]


def test_it_is_recognised_by_its_first_record_also_packed() -> None:
    assert FORMAT.recognises(Log("<").file)
    assert FORMAT.recognises(gzip.compress(Log(">").file))
    assert not FORMAT.recognises(gzip.compress(b"something else"))
    assert not FORMAT.recognises(b"\x1f\x8b not packed")
    assert not FORMAT.recognises(b"")
