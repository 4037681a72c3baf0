"""Tables with a row a die become maps; what is no such table is refused with the line."""

import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import block, drawn, grid

from waferlab.errors import WaferlabError
from waferlab.formats import block as blocks
from waferlab.formats import tables
from waferlab.formats.block import Reading
from waferlab.formats.die_list import FORMAT

HEADER = "lot,wafer,x,y,bin\n"
TABLE = HEADER + "a,1,0,0,1\na,1,1,0,2\na,1,1,1,1\na,2,0,0,3\nb,1,5,-7,1\n"


def read(path: Path, *pass_bins: str) -> dict[str, list[str]]:
    return drawn(FORMAT.read(path, Reading(frozenset(pass_bins) or None)))


def csv(folder: Path, text: str, *pass_bins: str) -> dict[str, list[str]]:
    """The wafers of a CSV file with this text."""
    (folder / "x.csv").write_bytes(text.encode())
    return read(folder / "x.csv", *pass_bins)


def parquet(path: Path, **columns: Any) -> Path:
    """A table of columns, each a list or an array of pyarrow's."""
    arrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(arrow.table(columns), path)
    return path


class TestMaps:
    def test_dies_stand_at_their_places_and_others_are_none(self, tmp_path: Path) -> None:
        assert csv(tmp_path, TABLE) == {"a/1": ["12", "01"], "a/2": ["2"], "b/1": ["1"]}

    def test_reach_from_the_smallest_coordinate_to_the_largest_y_downwards(self, tmp_path: Path) -> None:
        rows = "a,1,-2,10,1\na,1,0,9,2\na,1,-1,11,1\n"
        assert csv(tmp_path, HEADER + rows) == {"a/1": ["002", "100", "010"]}

    def test_of_a_die_listed_twice_the_last_row_counts(self, tmp_path: Path) -> None:
        assert csv(tmp_path, HEADER + "a,1,0,0,2\na,1,1,0,1\na,1,0,0,1\n") == {"a/1": ["11"]}

    def test_a_wafer_without_a_lot_is_named_alone(self, tmp_path: Path) -> None:
        assert csv(tmp_path, HEADER + ",w7,0,0,1\n") == {"w7": ["1"]}

    def test_blanks_around_a_name_are_none(self, tmp_path: Path) -> None:
        rows = "L,1,0,0,1\nL, 1,1,0,2\nL,1 ,2,0,1\n L ,1,3,0,1\n ,w,0,0,1\n"
        assert csv(tmp_path, HEADER + rows) == {"L/1": ["1211"], "w": ["1"]}

    def test_of_two_wafers_whose_names_join_to_one_both_are_read(self, tmp_path: Path) -> None:
        (tmp_path / "x.csv").write_text(HEADER + "A/B,C,0,0,1\nA,B/C,0,0,2\n")
        (found,) = FORMAT.read(tmp_path / "x.csv", Reading())
        assert [(name, each.tolist()) for name, each in found] == [("A/B/C", [[1]]), ("A/B/C", [[2]])]

    def test_do_not_depend_on_how_many_rows_come_together(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = csv(tmp_path, TABLE)
        for rows in (1, 2, 3):
            monkeypatch.setattr(tables, "_ROWS", rows)
            assert csv(tmp_path, TABLE) == whole

    def test_are_never_all_in_memory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(blocks, "WAFERS_AT_ONCE", 4)
        wafer = "".join(f"a,{{0}},{place % 20},{place // 20},1\n" for place in range(400))
        (tmp_path / "x.csv").write_text(HEADER + "".join(wafer.format(number) for number in range(60)))
        tracemalloc.start()
        try:
            assert sum(len(each) for each in FORMAT.read(tmp_path / "x.csv", Reading())) == 60
            assert tracemalloc.get_traced_memory()[1] < 1.5e6
        finally:
            tracemalloc.stop()


class TestColumns:
    @pytest.mark.parametrize(
        "header",
        ["Lot_ID,WAFER_ID,die_x,die_y,hard_bin", "LotName,wafer no,X,Y,HBIN", '"lot id","Wafer.Id",dieX,dieY,sbin'],
    )
    def test_are_found_by_what_they_are_usually_called(self, header: str, tmp_path: Path) -> None:
        assert csv(tmp_path, f"{header}\na,1,0,0,1\n") == {"a/1": ["1"]}

    def test_stand_in_any_order_among_others(self, tmp_path: Path) -> None:
        assert csv(tmp_path, "bin,site,y,x,wafer,lot\n1,9,0,0,w,a\n2,9,0,1,w,a\n") == {"a/w": ["12"]}

    @pytest.mark.parametrize("header", ["lot,wafer,x,y,soft_bin,hard_bin", "lot,wafer,x,y,hbin,bin"])
    def test_of_several_for_a_bin_the_plainest_counts(self, header: str, tmp_path: Path) -> None:
        assert csv(tmp_path, f"{header}\na,1,0,0,5,1\n") == {"a/1": ["1"]}

    def test_are_named_where_they_are_missing(self, tmp_path: Path) -> None:
        with pytest.raises(
            WaferlabError, match=r"x\.csv has no column lot, wafer, bin; expected lot, .*has: lot;wafer, x, y"
        ):
            csv(tmp_path, "lot;wafer,x,y\na,1,0,0\n")

    @pytest.mark.parametrize("separator", [";", "\t", ", ", "; "])
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    def test_are_separated_and_encoded_as_spreadsheets_do(self, separator: str, encoding: str, tmp_path: Path) -> None:
        text = 'Lot,"Wafer",x,y,bin,note\nü,1,0,0,1,\nü,1,1,0,2,\n'.replace(",", separator).encode(encoding)
        assert FORMAT.recognises(text)
        (tmp_path / "x.csv").write_bytes(text)
        assert read(tmp_path / "x.csv") == {"ü/1": ["12"]}

    def test_of_numbers_with_a_comma_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match="line 2 has '0,0' for a coordinate"):
            csv(tmp_path, "lot;wafer;x;y;bin\na;1;0,0;0;1\n")

    def test_that_begin_in_utf_16_and_go_on_otherwise_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "x.csv").write_bytes(TABLE.encode("utf-16") + b"\x00\xdc\x00")
        with pytest.raises(WaferlabError, match="begins as text in UTF-16, and goes on as none"):
            read(tmp_path / "x.csv")

    def test_with_a_quote_that_never_ends_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match=r"line 1 is no CSV"):
            csv(tmp_path, '"lot,wafer,x,y,bin')

    def test_tell_a_table_of_dies_from_others(self) -> None:
        assert FORMAT.recognises(TABLE.encode())
        assert FORMAT.recognises(b"PAR1\x15\x04")
        assert not FORMAT.recognises(b"Center,Donut\n0,1\n")


class TestBins:
    def test_of_passing_dies_are_those_that_are_told(self, tmp_path: Path) -> None:
        text = HEADER + "a,1,0,0,1\na,1,1,0,2\na,1,2,0,X\n"
        assert csv(tmp_path, text) == {"a/1": ["122"]}
        assert csv(tmp_path, text, "2", "X") == {"a/1": ["211"]}

    def test_are_one_however_a_program_writes_the_number(self, tmp_path: Path) -> None:
        text = HEADER + "a,1,0,0,1\na,1,1,0,1.0\na,1,2,0, 01 \na,1,3,0,10\n"
        assert csv(tmp_path, text) == csv(tmp_path, text, "001") == csv(tmp_path, text, "1.0") == {"a/1": ["1112"]}

    @pytest.mark.parametrize("missing", ["nan", "NaN", "#N/A", "n/a", "null", "None", ""])
    @pytest.mark.parametrize("pass_bins", [(), ("A",)])
    def test_that_are_missing_are_refused(self, missing: str, pass_bins: tuple[str, ...], tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match=f"line 3 has '{missing}' for a bin$"):
            csv(tmp_path, HEADER + f"a,1,0,0,1\na,1,1,0,{missing}\n", *pass_bins)

    @pytest.mark.parametrize(("good", "bad"), [("PASS", "FAIL"), ("good", "bad"), ("true", "false")])
    def test_that_are_words_are_read_only_if_those_that_pass_are_told(
        self, good: str, bad: str, tmp_path: Path
    ) -> None:
        text = HEADER + f"a,1,0,0,{bad}\na,1,1,0,{good}\n"
        with pytest.raises(WaferlabError, match=rf"line 2 has '{bad}' for a bin; say which .* pass_bins=\[…\]"):
            csv(tmp_path, text)
        assert csv(tmp_path, text, good) == {"a/1": ["21"]}

    def test_may_be_letters(self, tmp_path: Path) -> None:
        assert csv(tmp_path, HEADER + "a,1,0,0,A\na,1,1,0,0A\na,1,2,0,F\na,1,3,0,1\n") == {"a/1": ["2221"]}


class TestDamage:
    """Wafers before it come all the same, as far as they are known to be whole."""

    def kept(self, folder: Path, damaged: str) -> list[str]:
        """The wafers that come before the error, of three of two dies each and what is damaged."""
        rows = "".join(f"a,{wafer},{x},0,1\n" for wafer in "123" for x in range(2))
        (folder / "x.csv").write_text(HEADER + rows + damaged)
        names = list[str]()
        with pytest.raises(WaferlabError):
            names.extend(name for each in FORMAT.read(folder / "x.csv", Reading()) for name, _ in each)
        return names

    @pytest.mark.parametrize("rows", [1, 2, 3, 1024])
    @pytest.mark.parametrize(
        ("damaged", "number"),
        [
            ("a,4,0,0,nan\n", 3),
            ("a,4,0,0,1\na,4,one,0,1\n", 3),
            ("a,4,0,0,1\na,4,99999,0,1\n", 3),
            ("a,4,0,0,1\na,4,1", 3),
            ("a,4", 2),  # that may be the third's
            ("a,,0,0,1\n", 2),
        ],
    )
    def test_in_one_wafer_leaves_those_before_it(
        self, damaged: str, number: int, rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tables, "_ROWS", rows)
        assert self.kept(tmp_path, damaged) == ["a/1", "a/2", "a/3"][:number]

    def test_to_the_order_of_rows_leaves_none_as_all_may_be_parts(self, tmp_path: Path) -> None:
        assert self.kept(tmp_path, "a,1,2,0,1\n") == []


class TestFaults:
    @pytest.mark.parametrize(
        ("row", "fault"),
        [
            ("a,1,0,0", r"line 4 has 4 values, and the header 5"),
            ("a,1,0,0,1,1", r"line 4 has 6 values, and the header 5"),
            ("a,1,zero,0,1", r"line 4 has 'zero' for a coordinate; expected a whole number"),
            ("a,1,0,0.5,1", r"line 4 has '0\.5' for a coordinate"),
            ("a,1,,0,1", r"line 4 has '' for a coordinate"),
            ("a,1,nan,0,1", r"line 4 has 'nan' for a coordinate"),
            ("a,1,0,1e300,1", r"line 4 has '1e300' for a coordinate"),
            ("a,1,0,0, ", r"line 4 has '' for a bin"),
            ("a,,0,0,1", r"line 4 names no wafer"),
            ("a,0,0,0,1", r"line 4: wafer a/0 comes back after others; sort by lot and wafer"),
            ("a, 0 ,0,0,1", r"line 4: wafer a/0 comes back after others"),
            ("a, ,0,0,1", r"line 4 names no wafer"),
            ("a,1,1_0,0,1", r"line 4 has '1_0' for a coordinate"),
            ("a,1,0,1000000000,1", r": wafer a/1: x from 0 to 0 and y from 0 to 1000000000: a grid of 1,000,000,001"),
            ("a,1,-3000,3000,1\na,1,3000,-3000,1", r": wafer a/1: .* a grid of 6,001 x 6,001 places"),
            ('a,1,"0,0,1', r"line 4 is no CSV: unexpected end of data"),
            ('a,1,"0\n",0,1', r"line 5 is no CSV: of the 4 lines up to it, one ends within a value; is a quote"),
            (f"{'a' * 200_000},1,0,0,1", r"line 4 has 1 values, and the header 5"),
            ("ab\udc00c,1,0,0,1", r"line 4 is no text in UTF-8, at the � of 'ab�+c,1,0,0,1'; save the file in UTF-8"),
            ("a,1,1000000,0,1", r": wafer a/1: .* a grid of 1 x 1,000,001 places; .* or a die far off\?"),
        ],
    )
    def test_the_line_and_the_fault_are_said(self, row: str, fault: str, tmp_path: Path) -> None:
        (tmp_path / "x.csv").write_bytes(f"{HEADER}a,0,0,0,1\na,1,0,0,1\n{row}\n".encode("utf-8", "surrogatepass"))
        with pytest.raises(WaferlabError, match=rf"x\.csv.*{fault}"):
            read(tmp_path / "x.csv")

    def test_blank_lines_and_a_byte_order_mark_are_none_and_lines_keep_their_numbers(self, tmp_path: Path) -> None:
        assert csv(tmp_path, f"\ufeff{HEADER}\r\na,1,0,0,1\r\n\r\n") == {"a/1": ["1"]}
        with pytest.raises(WaferlabError, match="line 4 has 'y' for"):
            csv(tmp_path, HEADER + "\na,1,0,0,1\na,1,0,y,1\n")

    @pytest.mark.parametrize("text", ["", "\n", "\0", "PK\x03\x04"])
    def test_what_is_no_table_is_refused(self, text: str, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match=r"x\.csv has no column lot, wafer, x, y, bin"):
            csv(tmp_path, text)

    @pytest.mark.parametrize("text", [HEADER, HEADER + "\n\n"])
    def test_a_table_without_rows_is_refused(self, text: str, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match=r"x\.csv holds no wafer"):
            csv(tmp_path, text)

    def test_a_wafer_of_endless_rows_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("waferlab.formats.die_list.MOST_PLACES", 3)
        with pytest.raises(WaferlabError, match="wafer a/1 has more rows than any wafer has dies"):
            csv(tmp_path, HEADER + "a,1,0,0,1\n" * 4)

    def test_a_missing_file_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match=r"x\.csv cannot be read: No such file"):
            read(tmp_path / "x.csv")


class TestParquet:
    def test_numbers_of_any_type_and_text_are_read(self, tmp_path: Path) -> None:
        arrow = pytest.importorskip("pyarrow")
        lots, xs = arrow.array(["a", "a", None]).dictionary_encode(), arrow.array([0, 1, 5], arrow.int16())
        path = parquet(tmp_path / "x.parquet", LOT=lots, Wafer=[1, 1, 2], x=xs, y=["3", "3", "3"], bin=[1.0, 2.0, 1.0])
        assert read(path) == {"a/1": ["12"], "2": ["1"]}

    def test_many_batches_are_one_table(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tables, "_ROWS", 3)
        places = list(range(10))
        path = parquet(tmp_path / "x.parquet", lot=["a"] * 10, wafer=["1"] * 10, x=places, y=[0] * 10, bin=[1] * 10)
        assert read(path) == {"a/1": ["1" * 10]}

    def test_the_row_and_the_fault_are_said(self, tmp_path: Path) -> None:
        path = parquet(tmp_path / "x.parquet", lot=["a", "a"], wafer=[1, 1], x=[0, 1], y=[0, None], bin=[1, 1])
        with pytest.raises(WaferlabError, match=r"x\.parquet, row 2 has '' for a coordinate"):
            read(path)

    @pytest.mark.parametrize("wafer", [[1], {"number": 1}])
    def test_columns_of_other_things_are_refused(self, wafer: Any, tmp_path: Path) -> None:
        path = parquet(tmp_path / "x.parquet", lot=["a"], wafer=[wafer], x=[0], y=[0], bin=[1])
        with pytest.raises(
            WaferlabError, match=r"x\.parquet: column 'wafer' has lists or records; expected a number or text a row$"
        ):
            read(path)

    def test_two_columns_of_one_name_are_refused_where_they_matter(self, tmp_path: Path) -> None:
        arrow = pytest.importorskip("pyarrow")
        write = pytest.importorskip("pyarrow.parquet").write_table
        columns, names = [["a"], ["1"], [0], [0], [1], [7], [8]], ["lot", "wafer", "x", "y", "bin"]
        arrays = list(map(arrow.array, columns))
        write(arrow.table(arrays, [*names, "site", "site"]), tmp_path / "x.parquet")
        assert read(tmp_path / "x.parquet") == {"a/1": ["1"]}
        write(arrow.table(arrays, [*names, "lot", "site"]), tmp_path / "x.parquet")
        with pytest.raises(WaferlabError, match=r"x\.parquet has 2 columns 'lot'; leave one, rename the others$"):
            read(tmp_path / "x.parquet")

    def test_blanks_around_a_name_are_none(self, tmp_path: Path) -> None:
        path = parquet(tmp_path / "x.parquet", lot=["a", "a "], wafer=["1", " 1"], x=[0, 1], y=[0, 0], bin=[1, 2])
        assert read(path) == {"a/1": ["12"]}

    @pytest.mark.parametrize("missing", [float("nan"), None])
    def test_bins_that_are_missing_are_refused(self, missing: float | None, tmp_path: Path) -> None:
        path = parquet(tmp_path / "x.parquet", lot=["a", "a"], wafer=[1, 1], x=[0, 1], y=[0, 0], bin=[1.0, missing])
        with pytest.raises(WaferlabError, match=r"row 2 has '(nan)?' for a bin$"):
            read(path)

    def test_truth_values_are_read_as_bins_only_if_those_that_pass_are_told(self, tmp_path: Path) -> None:
        path = parquet(tmp_path / "x.parquet", lot=["a", "a"], wafer=[1, 1], x=[0, 1], y=[0, 0], bin=[True, False])
        with pytest.raises(WaferlabError, match="row 1 has 'true' for a bin; say which bins pass"):
            read(path)
        assert read(path, "True") == {"a/1": ["12"]}

    @pytest.mark.parametrize("size", [4, 100, -1])
    def test_a_file_cut_short_is_refused(self, size: int, tmp_path: Path) -> None:
        path = parquet(tmp_path / "x.parquet", lot=["a"], wafer=[1], x=[0], y=[0], bin=[1])
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(WaferlabError, match=r"x\.parquet is damaged"):
            read(path)

    def test_where_pyarrow_is_missing_this_is_said(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        (tmp_path / "x.parquet").write_bytes(b"PAR1")
        needed = r'x\.parquet: Parquet needs pyarrow, which isn\'t installed: pip install "waferlab\[parquet\]"'
        with pytest.raises(WaferlabError, match=needed):
            read(tmp_path / "x.parquet")
        with pytest.raises(WaferlabError, match=needed):
            FORMAT.write([block({"a": grid("1")})], tmp_path / "x.parquet")


class TestWriting:
    @pytest.mark.parametrize("name", ["x.csv", "x.parquet"])
    def test_what_is_written_is_read_again(self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        if name == "x.parquet":
            pytest.importorskip("pyarrow")
        monkeypatch.setattr(tables, "_GROUP", 4)
        wafers = {"a/1": grid("012", "210"), "a,b/c/2": grid("1"), 'größe "x"': grid("2", "2")}
        some = list(wafers.items())
        FORMAT.write([block(dict(some[:2])), block(dict(some[2:]))], tmp_path / name)
        assert read(tmp_path / name) == drawn([block(wafers)])

    def test_a_table_by_hand(self, tmp_path: Path) -> None:
        FORMAT.write([block({"a/1": grid("01", "20")})], tmp_path / "x.csv")
        assert (tmp_path / "x.csv").read_bytes() == b"lot,wafer,x,y,bin\na,1,1,0,1\na,1,0,1,2\n"

    def test_in_tsv_tabs_separate(self, tmp_path: Path) -> None:
        FORMAT.write([block({"a/1": grid("1")})], tmp_path / "x.tsv")
        assert (tmp_path / "x.tsv").read_bytes() == b"lot\twafer\tx\ty\tbin\na\t1\t0\t0\t1\n"

    def test_places_around_the_dies_are_not_kept(self, tmp_path: Path) -> None:
        FORMAT.write([block({"a": grid("0000", "0120", "0000")})], tmp_path / "x.csv")
        assert read(tmp_path / "x.csv") == {"a": ["12"]}

    @pytest.mark.parametrize(
        ("name", "wafer", "fault"),
        [("a", np.zeros((2, 2), np.uint8), "wafer a has no die"), ("a\nb", grid("1"), "rename it without control")],
    )
    def test_what_a_list_cannot_say_is_refused_and_nothing_is_left(
        self, name: str, wafer: Any, fault: str, tmp_path: Path
    ) -> None:
        with pytest.raises(WaferlabError, match=fault):
            FORMAT.write([block({name: wafer})], tmp_path / "x.csv")
        assert list(tmp_path.iterdir()) == []
