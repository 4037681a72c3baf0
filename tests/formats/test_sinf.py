"""SINF: maps as probers write them are read as they are meant, and every fault is said with its line."""

from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from drawn import Map, grid

from waferlab.errors import WaferlabError
from waferlab.formats.block import Block, Reading
from waferlab.formats.sinf import FORMAT

PROBER = """\
    DEVICE:DP39A-T6
    LOT:G6A840.2
    WAFER:22
    FNLOC:180
    ROWCT:4
    COLCT:5
    BCEQU:01
    REFPX:2
    REFPY:0
    DUTMS:mil
    XDIES:100.000
    YDIES:60.000
    RowData:__ @@ 01 @@ __
    RowData:@@ 01 17 01 @@
    RowData:01 0a 01 01 FF
    RowData:__ __ 01 __ __
    """


def read(folder: Path, text: str, *pass_bins: str) -> dict[str, Map]:
    """The maps of a file with this text, by name."""
    path = folder / "wafer-9.sinf"
    path.write_bytes(dedent(text).encode())
    blocks = FORMAT.read(path, Reading(frozenset(pass_bins) or None))
    return {name: each for block in blocks for name, each in zip(block.names, block.maps, strict=True)}


class TestMaps:
    def test_what_a_prober_writes_is_read_by_hand(self, tmp_path: Path) -> None:
        (name, wafer), *others = read(tmp_path, PROBER).items()
        assert (name, others) == ("G6A840.2/22", [])
        assert wafer.dtype == np.uint8
        assert np.array_equal(wafer, grid("00100", "01210", "12112", "00100"))

    def test_neither_line_ends_nor_blanks_nor_case_nor_quotes_matter(self, tmp_path: Path) -> None:
        text = '\ufeffwafer : "W 1"\r\nRowct: 2 \r\nCOLCT:2\r\n\r\nROWDATA: 01  __ \r\nRowData:02 01\r\n\r\n'
        assert [(name, each.tolist()) for name, each in read(tmp_path, text).items()] == [("W 1", [[1, 0], [2, 1]])]

    def test_bins_of_three_characters_are_read(self, tmp_path: Path) -> None:
        text = "LOT:L\nROWCT:1\nCOLCT:4\nBCEQU:000\nRowData:___ 000 @@@ 003"
        assert np.array_equal(read(tmp_path, text)["L/wafer-9"], grid("0102")), (
            "and without WAFER the file gives the name"
        )

    def test_a_further_header_begins_a_further_wafer(self, tmp_path: Path) -> None:
        other = "WAFER:23\nROWCT:1\nCOLCT:1\nRowData:05\n"
        maps = read(tmp_path, dedent(PROBER) + other)
        assert list(maps) == ["G6A840.2/22", "23"]
        assert np.array_equal(maps["23"], grid("2")), "nothing of the first header is left"

    def test_keys_that_tell_nothing_of_the_map_may_stand_anywhere_else(self, tmp_path: Path) -> None:
        assert list(read(tmp_path, f"COMMENT: a: b\nMAP_TYPE:x\n{dedent(PROBER)}DIECT:11\n")) == ["G6A840.2/22"]


class TestNotches:
    def test_turn_nothing_and_are_said_only_if_they_differ(self, tmp_path: Path) -> None:
        path, told = tmp_path / "wafer.sinf", Reading()
        for place, lines in (("180", []), ("180", []), ("270", ["notches lie in several places (FNLOC 180, 270)"])):
            path.write_text(dedent(PROBER).replace("FNLOC:180", f"FNLOC:{place}"))
            ((_, wafer),) = next(FORMAT.read(path, told))
            assert np.array_equal(wafer, grid("00100", "01210", "12112", "00100"))
            assert [line.partition(";")[0] for line in told.remarks.lines()] == lines


class TestPassingBins:
    @pytest.mark.parametrize(
        ("header", "pass_bins", "expected"),
        [
            ("", (), "2122"),
            ("BCEQU:\n", (), "2122"),
            ("BCEQU:0A\n", (), "2212"),
            ("BCEQU:00 0a\n", (), "1212"),
            ("BCEQU:00, 01,0A\n", (), "1112"),
            ("BCEQU:00\n", ("1", "10"), "2121"),
        ],
    )
    def test_are_those_the_reader_names_else_those_of_the_header_else_bin_1(
        self, header: str, pass_bins: tuple[str, ...], expected: str, tmp_path: Path
    ) -> None:
        text = f"WAFER:1\nROWCT:1\nCOLCT:4\n{header}RowData:00 01 0A 10"
        assert np.array_equal(read(tmp_path, text, *pass_bins)["1"], grid(expected))


class TestFaults:
    @pytest.mark.parametrize(
        ("old", "new", "expected"),
        [
            ("17 01 @@", "17 01", "line 14 has 4 bins; expected COLCT 5"),
            ("17 01 @@", "17 01 @@ __", "line 14 has 6 bins; expected COLCT 5"),
            ("17", "1G", "line 14: '1G' is no bin; expected hexadecimal digits"),
            ("17", "@_", "line 14: '@_' is no bin"),
            ("RowData:@@", "@@", "line 14 is '@@ 01 17 01 @@'; expected KEY:value"),
            ("ROWCT:4", "ROWCT:5", "ends after 4 rows of ROWCT 5; it is cut short"),
            ("ROWCT:4", "ROWCT:3", "line 16: ROWCT above it is ''"),
            ("ROWCT:4\n", "\n", "line 13: ROWCT above it is ''; expected a whole number"),
            ("COLCT:5", "COLCT:five", "line 13: COLCT above it is 'five'"),
            ("COLCT:5", "COLCT:-5", "line 13: a grid of 4 x -5 places"),
            ("COLCT:5", "COLCT:0", "line 13: a grid of 4 x 0 places"),
            ("COLCT:5", "COLCT:99999999", "line 13: a grid of 4 x 99,999,999 places"),
            ("COLCT:5", "COLCT:9999999999", "at most nine digits"),
            ("RowData:01 0a", "LOT:2\n    RowData:01 0a", "line 15 is LOT after 2 rows; expected ROWCT 4"),
            ("DEVICE:DP39A-T6", "DEVICE DP39A-T6", "line 1 is 'DEVICE DP39A-T6'; expected KEY:value, such as ROWCT:62"),
        ],
    )
    def test_the_line_and_the_fault_are_said(self, old: str, new: str, expected: str, tmp_path: Path) -> None:
        assert old in PROBER
        with pytest.raises(WaferlabError) as refused:
            read(tmp_path, PROBER.replace(old, new))
        assert str(refused.value).startswith(str(tmp_path / "wafer-9.sinf"))
        assert expected in str(refused.value)

    def test_a_file_cut_within_a_row_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match="line 15 has 2 bins"):
            read(tmp_path, PROBER[: PROBER.index("01 01 FF")])

    @pytest.mark.parametrize("text", ["", "\n\n", "\ufeff"])
    def test_a_file_without_a_wafer_is_refused(self, text: str, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match="no wafer"):
            read(tmp_path, text)

    def test_a_header_alone_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match="ends after 0 rows of ROWCT None"):
            read(tmp_path, "WAFER:1\n")

    def test_bytes_that_are_no_text_and_lines_without_end_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "wafer.sinf"
        for content in (bytes(range(256)) * 9000, b"RowData:" + b"01 " * 1_000_000):
            path.write_bytes(content)
            with pytest.raises(WaferlabError, match="line 1 "):
                list(FORMAT.read(path, Reading()))

    def test_a_missing_file_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match="cannot be read: No such file"):
            list(FORMAT.read(tmp_path / "none.sinf", Reading()))


class TestWriting:
    def test_what_is_written_is_read_again_from_several_blocks(self, tmp_path: Path) -> None:
        maps = {"L1/W1": grid("010", "121"), "L2/W1": grid("0", "2"), 'a:b/"7': grid("00", "00"), "ü": grid("1")}
        path = tmp_path / "maps.sinf"
        blocks = [Block.of(list(some), [maps[name] for name in some]) for some in (list(maps)[:1], list(maps)[1:])]
        FORMAT.write(blocks, path)
        assert FORMAT.recognises(path.read_bytes())
        found = read(tmp_path, path.read_text(encoding="utf-8"))
        assert list(found) == list(maps)
        assert all(np.array_equal(found[name], maps[name]) for name in maps)

    def test_the_usual_header_is_written_by_hand(self, tmp_path: Path) -> None:
        path = tmp_path / "maps.sinf"
        FORMAT.write([Block.of(["L1/W1"], [grid("012", "121")])], path)
        assert path.read_text() == (
            "DEVICE:\nLOT:L1\nWAFER:W1\nFNLOC:180\nROWCT:2\nCOLCT:3\nBCEQU:01\nREFPX:\nREFPY:\nDUTMS:mm\nXDIES:\nYDIES:\n"
            "RowData:__ 01 02\nRowData:01 02 01\n"
        )

    def test_a_name_of_several_lines_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match="control characters"):
            FORMAT.write([Block.of(["a\nROWCT:1"], [grid("1")])], tmp_path / "maps.sinf")


def test_it_is_recognised_by_its_keys() -> None:
    assert FORMAT.recognises(dedent(PROBER).encode())
    assert FORMAT.recognises(b"DEVICE:x\r\nRowCt:5\r\n")
    assert not FORMAT.recognises(b"lot,wafer,x,y,bin\n")
    assert not FORMAT.recognises(b"<Maps><Map>")
