"""Tables that grow block by block."""

from pathlib import Path

import pyarrow.parquet
import pytest

from waferlab.edge.table import table

BLOCKS = (
    {"wafer": ["a", 'b,"c'], "score": [0.123456789, 1e-9], "abnormal": [True, False]},
    {"wafer": ["ü"], "score": [2.0], "abnormal": [True]},
)


class TestTables:
    def test_have_nothing_where_a_number_is_none(self, tmp_path: Path) -> None:
        for suffix in ("csv", "parquet"):
            with table(tmp_path / f"t.{suffix}") as add:
                add({"wafer": ["a"], "score": [float("nan")]})
                add({"wafer": ["b"], "score": [1.0]})
        assert (tmp_path / "t.csv").read_text() == "wafer,score\na,\nb,1\n"
        scores = pyarrow.parquet.read_table(tmp_path / "t.parquet")["score"]
        assert scores.type == pyarrow.float64()

    def test_in_csv_have_a_header_once_and_numbers_of_six_digits(self, tmp_path: Path) -> None:
        with table(tmp_path / "t.csv") as add:
            for block in BLOCKS:
                add(block)
        said = (tmp_path / "t.csv").read_text(encoding="utf-8")
        assert said == 'wafer,score,abnormal\na,0.123457,1\n"b,""c",1e-09,0\nü,2,1\n'

    def test_in_parquet_keep_types_and_digits(self, tmp_path: Path) -> None:
        with table(tmp_path / "t.parquet") as add:
            for block in BLOCKS:
                add(block)
        found = pyarrow.parquet.read_table(tmp_path / "t.parquet").to_pydict()
        assert found == {key: [*BLOCKS[0][key], *BLOCKS[1][key]] for key in BLOCKS[0]}

    @pytest.mark.parametrize("suffix", ["csv", "parquet"])
    def test_that_fail_are_not_there_and_leave_an_earlier_one(self, suffix: str, tmp_path: Path) -> None:
        path = tmp_path / f"t.{suffix}"
        path.write_text("earlier")
        broken = (block if place == 0 else {"wafer": ["c"], "score": [0.5, 1.0]} for place, block in enumerate(BLOCKS))
        with pytest.raises(ValueError, match=r"argument|length"), table(path) as add:  # noqa: PT012
            add(next(broken))
            add(next(broken))
        assert path.read_text() == "earlier"
        assert list(tmp_path.iterdir()) == [path]
