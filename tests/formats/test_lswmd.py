"""Maps in a table that pandas has pickled are found and named without pandas."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import block, drawn, grid

from waferlab.errors import WaferlabError
from waferlab.formats.block import Reading
from waferlab.formats.lswmd import FORMAT

WAFERS = {"lot1/1": grid("012", "210"), "lot1/2": grid("1"), "lot2/25": grid("2", "2")}


def table(path: Path, **columns: list[Any]) -> Path:
    """A pickled table of objects."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({name: pandas.Series(column, dtype=object) for name, column in columns.items()})
    frame.columns = pandas.Index(list(columns), dtype=object)
    frame.to_pickle(path)
    return path


def read(path: Path) -> dict[str, list[str]]:
    return drawn(FORMAT.read(path, Reading()))


class TestNames:
    def test_are_lot_and_wafer_whose_number_may_be_a_fraction_or_text(self, tmp_path: Path) -> None:
        maps = list(WAFERS.values())
        path = table(
            tmp_path / "x.pkl", waferMap=maps, lotName=["lot1", "lot2", ""], waferIndex=[1.0, "W7", 12345678.0]
        )
        assert list(read(path)) == ["lot1/1", "lot2/W7", "12345678"]

    @pytest.mark.parametrize("column", ["lotName", "waferIndex", "dieSize"])
    def test_are_rows_where_one_of_these_is_missing(self, column: str, tmp_path: Path) -> None:
        path = table(tmp_path / "x.pkl", waferMap=list(WAFERS.values()), **{column: [1, 2, 3]})
        assert read(path) == {"0": ["012", "210"], "1": ["1"], "2": ["2", "2"]}


class TestFaults:
    @pytest.mark.parametrize(
        ("columns", "fault"),
        [
            ({"map": [grid("1")]}, "has no column waferMap; it has map"),
            ({"waferMap": []}, "holds no wafer"),
            ({"waferMap": [grid("1"), [[1]]]}, "waferMap in row 1 is no map of uint8 die states"),
            ({"waferMap": [grid("1"), np.ones((1, 1))]}, "waferMap in row 1 is no map of uint8 die states"),
            ({"waferMap": [grid("1"), np.ones(3, np.uint8)]}, "waferMap in row 1 is no map of uint8 die states"),
            ({"waferMap": [grid("1"), grid("13")]}, "waferMap in row 1 holds the die state 3"),
            ({"waferMap": [np.ones((0, 2), np.uint8)]}, "waferMap in row 0: a grid of 0 x 2 places"),
        ],
    )
    def test_the_row_and_the_fault_are_said(self, columns: Any, fault: str, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match=rf"x\.pkl:? {fault}"):
            read(table(tmp_path / "x.pkl", **columns))

    @pytest.mark.parametrize("size", [0, 10, 300, -1])
    def test_a_file_cut_short_is_refused(self, size: int, tmp_path: Path) -> None:
        FORMAT.write([block(WAFERS)], tmp_path / "x.pkl")
        (tmp_path / "x.pkl").write_bytes((tmp_path / "x.pkl").read_bytes()[:size])
        with pytest.raises(WaferlabError, match=r"x\.pkl (can't be read|is damaged)"):
            read(tmp_path / "x.pkl")

    def test_a_missing_file_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match=r"x\.pkl cannot be read: No such file"):
            read(tmp_path / "x.pkl")


class TestWriting:
    def test_what_is_written_is_read_again_without_pandas(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("pandas")
        wafers = WAFERS | {"7": grid("1"), "lot/W007": grid("2")}
        FORMAT.write([block(WAFERS), block({name: wafers[name] for name in ("7", "lot/W007")})], tmp_path / "x.pkl")
        monkeypatch.setitem(sys.modules, "pandas", None)
        assert read(tmp_path / "x.pkl") == drawn([block(wafers)])

    def test_pandas_finds_the_columns_of_the_public_file(self, tmp_path: Path) -> None:
        pandas = pytest.importorskip("pandas")
        FORMAT.write([block(WAFERS)], tmp_path / "x.pkl")
        frame = pandas.read_pickle(tmp_path / "x.pkl")
        assert list(frame.columns) == ["waferMap", "lotName", "waferIndex"]
        assert frame.lotName.tolist() == ["lot1", "lot1", "lot2"]
        assert frame.waferIndex.tolist() == [1.0, 2.0, 25.0]
        assert frame.waferMap[0].tolist() == [[0, 1, 2], [2, 1, 0]]

    def test_where_pandas_is_missing_this_is_said(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pandas", None)
        with pytest.raises(WaferlabError, match=r"x\.pkl: writing a pandas table needs pandas: pip install pandas"):
            FORMAT.write([block(WAFERS)], tmp_path / "x.pkl")


def test_it_is_recognised_by_its_first_bytes(tmp_path: Path) -> None:
    assert FORMAT.recognises(table(tmp_path / "x.pkl", waferMap=[grid("1")]).read_bytes()[:4096])
    assert not FORMAT.recognises(b"lot,wafer,x,y,bin\n")


@pytest.mark.real
def test_the_real_maps() -> None:
    path = Path(os.environ.get("WAFERLAB_DATA", "data")) / "wm811k" / "LSWMD.pkl"
    if not path.is_file():
        pytest.skip(f"needs {path}; set WAFERLAB_DATA to the folder that holds wm811k/")
    blocks = list(FORMAT.read(path, Reading()))
    assert sum(map(len, blocks)) > 25_000
    assert all(name.startswith("lot") for each in blocks for name in each.names)
    assert {state for each in blocks for state in np.unique(each.maps.dies).tolist()} == {0, 1, 2}
