"""Rows of an array on the disk: nothing is read that nobody looks at, and nothing is sent that others can read."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from waferlab.data.dataset import Dataset, Wafers, digest
from waferlab.data.rows import Rows, pieces
from waferlab.data.split import content_keys, hide_labels
from waferlab.errors import WaferlabError


class Watched(Rows):
    """Knows how many rows were read at once."""

    most = 0

    def only(self, index: NDArray[np.int64] | slice) -> Rows:
        return Watched(self._array, self._chosen[index])

    def __getitem__(self, index: Any) -> NDArray[np.uint8]:
        found = super().__getitem__(index)
        Watched.most = max(Watched.most, len(found))
        return found


@pytest.fixture
def mapped(tmp_path: Path) -> NDArray[np.uint8]:
    """(100, 512, 512, 3), 79 MB, on the disk."""
    found = np.memmap(tmp_path / "pixels", np.uint8, "w+", shape=(100, 512, 512, 3))
    found[:, 0, 0, 0] = np.arange(100)
    return found


def test_go_to_another_process_as_the_name_of_their_file(mapped: NDArray[np.uint8]) -> None:
    rows = Rows(mapped).only(np.array([7, 3]))
    sent = pickle.dumps(rows)
    assert len(sent) < 1000
    assert pickle.loads(sent)[:][:, 0, 0, 0].tolist() == [7, 3]


@pytest.mark.parametrize("rows", [Rows(np.arange(6)[:, None].astype(np.uint8), np.array([4]))])
def test_of_an_array_in_memory_go_as_they_are(rows: Rows) -> None:
    assert pickle.loads(pickle.dumps(rows))[:].tolist() == [[4]]


def test_of_a_part_of_a_file_go_as_they_are(mapped: NDArray[np.uint8]) -> None:
    assert pickle.loads(pickle.dumps(Rows(mapped[90:, :2, :2])))[:][:, 0, 0, 0].tolist() == [*range(90, 100)]


def test_whose_file_another_host_does_not_see_are_a_sentence(mapped: NDArray[np.uint8], tmp_path: Path) -> None:
    sent = pickle.dumps(Rows(mapped))
    (tmp_path / "pixels").unlink()
    with pytest.raises(WaferlabError, match="isn't there: the data's cache has to be where every process sees it"):
        pickle.loads(sent)


def test_pieces_are_all_rows_in_their_order_and_never_larger_than_allowed() -> None:
    whole = np.arange(60, dtype=np.uint8).reshape(10, 2, 3)
    parts = list(pieces(Rows(whole), most=20))
    assert [len(part) for part in parts] == [3, 3, 3, 1]
    assert np.array_equal(np.concatenate(parts), whole)
    assert [len(part) for part in pieces(whole, most=1)] == [1] * 10
    assert digest([whole]) == digest([Rows(whole)[:]])


def test_hiding_labels_and_naming_contents_never_have_all_of_them_in_memory(mapped: NDArray[np.uint8]) -> None:
    rows: Any = Watched(mapped)
    wafers = Wafers(rows, np.arange(100)[:, None].astype(np.uint8) % 2, ("dent",))
    dataset = Dataset(wafers, np.zeros(100, np.int8), "images", {})
    hidden = hide_labels(dataset, 0.2)
    assert hidden.within("train").sum() == 20
    assert hidden.within("unlabelled").sum() == 80
    assert (content_keys(rows) == content_keys(mapped[:])).all()
    assert hidden.fingerprint != dataset.fingerprint
    assert 0 < Watched.most < 100
