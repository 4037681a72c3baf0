"""Pickled tables of any age are read; what a pickle would call is not called."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from old_pickle import calls_on_load, table

from waferlab.data.pickled_frame import read_columns
from waferlab.errors import WaferlabError

MAP = np.array([[0, 1, 2], [1, 1, 2]], np.uint8)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "table.pkl"


def test_columns_of_an_old_pandas(file: Path) -> None:
    labels = [np.array([["none"]]), np.zeros((0, 0))]
    file.write_bytes(table({"waferMap": [MAP, MAP[:, :2]], "lotName": ["lot1", "lot2"], "failureType": labels}))
    columns = read_columns(file)
    assert list(columns) == ["waferMap", "lotName", "failureType"]
    assert [each.tolist() for each in columns["waferMap"]] == [MAP.tolist(), MAP[:, :2].tolist()]
    assert columns["waferMap"][0].dtype == np.uint8
    assert columns["lotName"].tolist() == ["lot1", "lot2"]
    assert columns["failureType"][0].tolist() == [["none"]]
    assert columns["failureType"][1].size == 0


def test_columns_of_numbers_lie_apart_in_the_file_and_in_their_places_in_the_table(file: Path) -> None:
    sizes, wafers = np.array([5.0, 3.0]), np.array([1.0, 25.0])
    objects = {"waferMap": [MAP, MAP], "lotName": ["lot1", "lot2"], "failureType": [[], []]}
    names = ["waferMap", "dieSize", "lotName", "waferIndex", "failureType"]
    file.write_bytes(table({name: ({"dieSize": sizes, "waferIndex": wafers} | objects)[name] for name in names}))
    columns = read_columns(file)
    assert sorted(columns) == sorted(names)
    assert columns["dieSize"].tolist() == [5, 3]
    assert columns["waferIndex"].tolist() == [1, 25]
    assert columns["lotName"].tolist() == ["lot1", "lot2"]
    assert columns["waferMap"][1].tolist() == MAP.tolist()


def test_columns_of_todays_pandas(file: Path) -> None:
    pandas = pytest.importorskip("pandas")
    names = pandas.Index(["waferMap", "dieSize"], dtype=object)
    frame = pandas.DataFrame({"waferMap": pandas.Series([MAP, MAP], dtype=object), "dieSize": [3.0, 4.0]})
    frame.columns = names
    frame.to_pickle(file)
    columns = read_columns(file)
    assert columns["dieSize"].tolist() == [3, 4]
    assert columns["waferMap"][1].tolist() == MAP.tolist()


class Planted:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.mark), "w")


class TestHostile:
    def test_a_planted_call_is_refused_by_name_and_not_made(self, file: Path, tmp_path: Path) -> None:
        file.write_bytes(pickle.dumps(Planted(tmp_path / "ran")))
        with pytest.raises(WaferlabError, match=r"names io\.open, which is no data class"):
            read_columns(file)
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize(
        "name", ["os.system", "builtins.eval", "numpy.load", "numpy.core.records.fromfile", "pandas.read_pickle"]
    )
    def test_functions_are_refused_also_those_of_numpy_and_pandas(self, name: str, file: Path) -> None:
        module, _, function = name.rpartition(".")
        file.write_bytes(calls_on_load(module, function))
        with pytest.raises(WaferlabError, match=f"it names {name}"):
            read_columns(file)

    @pytest.mark.parametrize(
        ("state", "fault"),
        [
            ((1, (1,), np.dtype("O"), False, b"\x01" * 8), "has another content"),
            ((1, (2,), np.dtype("O"), False, [1]), "has another content"),
            ((1, (1,), np.dtype("i8"), False, [1]), "has another content"),
            ((1, (1,), np.dtype("i8,O"), False, b"\x01" * 16), "elements of type 'V16'"),
        ],
        ids=["bytes for objects", "too few objects", "objects for numbers", "records"],
    )
    def test_arrays_are_filled_with_what_fits_them_alone(self, state: object, fault: str, file: Path) -> None:
        """Numpy's own would take bytes for the addresses of objects."""
        file.write_bytes(pickle.dumps(Filled(state), 4))
        with pytest.raises(WaferlabError, match=fault):
            read_columns(file)


class Filled:
    """Becomes an array with this state."""

    def __init__(self, state: object) -> None:
        self.state = state

    def __reduce__(self) -> tuple[object, ...]:
        return np.array([]).__reduce__()[0], (np.ndarray, (0,), b"b"), self.state


def test_a_table_without_contents_is_refused(file: Path) -> None:
    file.write_bytes(b"cpandas.core.frame\nDataFrame\n)\x81}b.")
    with pytest.raises(WaferlabError, match="is damaged or no pickled table"):
        read_columns(file)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "can't be read|is damaged"),
        (b"not a pickle", "can't be read|is damaged"),
        (table({"waferMap": [MAP]})[:-40], "can't be read|is damaged"),
        (pickle.dumps({"waferMap": [1]}), "holds a pickled dict, not a pandas table"),
    ],
    ids=["empty", "text", "cut short", "something else"],
)
def test_what_is_no_table_is_refused(content: bytes, fault: str, file: Path) -> None:
    file.write_bytes(content)
    with pytest.raises(WaferlabError, match=fault):
        read_columns(file)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(WaferlabError, match=r"nowhere\.pkl cannot be read"):
        read_columns(tmp_path / "nowhere.pkl")
