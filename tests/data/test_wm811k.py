"""WM-811K: its own layout with nested labels and many sizes, converted once; its splits."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from old_pickle import table

from waferlab.data import wm811k
from waferlab.data.dataset import Dataset
from waferlab.data.ragged import RaggedMaps, Resize, resized
from waferlab.errors import WaferlabError
from waferlab.wafer import DEFECTS

EMPTY = np.zeros((0, 0))


def nested(text: str) -> NDArray[Any]:
    """A label as the public file has it."""
    return np.array([[text]]) if text else EMPTY


def maps(count: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Different maps of three sizes."""
    rng = np.random.default_rng(seed)
    sizes = [(25, 27), (41, 33), (80, 70)]
    return [rng.integers(0, 3, sizes[row % 3]).astype(np.uint8) for row in range(count)]


def write(folder: Path, spelling: str = "trianTestLabel", **columns: list[Any]) -> Path:
    """A file in the public layout: 60 wafers of 12 lots, a quarter of them unlabelled, unless said otherwise."""
    count = 60
    labels = ["none", "Edge-Ring", "none", ""]
    made = {
        "waferMap": maps(count),
        "lotName": [f"lot{row // 5}" for row in range(count)],
        "failureType": [nested(labels[row % 4]) for row in range(count)],
        spelling: [nested("Test" if row >= 40 else "Training") for row in range(count)],
    } | columns
    file = folder / "LSWMD.pkl"
    file.write_bytes(table({name: column for name, column in made.items() if column}))
    return file


def load(file: Path, **options: Any) -> Dataset:
    return wm811k.load(str(file), str(file.parent / "cache"), **{"size": 32, **options})


class TestReading:
    def test_labelled_maps_at_one_size_and_at_their_own(self, tmp_path: Path) -> None:
        dataset = load(write(tmp_path))
        wafers = dataset.wafers
        assert wafers.maps.shape == (45, 32, 32)
        assert wafers.classes == DEFECTS
        assert wafers.labels.sum(0).tolist() == [0, 0, 0, 15, 0, 0, 0, 0]
        assert wafers.native is not None
        assert np.array_equal(wafers.native[1], maps(60)[1])
        assert np.array_equal(wafers.native[3], maps(60)[4]), "the fourth wafer has no label"
        assert dataset.facts["unlabelled"] == 15

    @pytest.mark.parametrize("resize", ["keep", "nearest", "area"])
    def test_maps_come_to_the_size_as_asked_for(self, resize: Resize, tmp_path: Path) -> None:
        file = write(tmp_path)
        load(file, size=30, resize=resize)
        load(file, size=40, resize="area" if resize == "nearest" else "nearest")
        dataset = load(file, size=40, resize=resize)
        wafers = dataset.wafers
        assert wafers.size == (40, 40)
        assert wafers.resize == dataset.facts["resize"] == resize
        np.testing.assert_array_equal(wafers.maps, resized(wafers.own_sizes(), (40, 40), resize))

    def test_unless_asked_otherwise_a_die_stays_a_die(self, tmp_path: Path) -> None:
        wafers = load(write(tmp_path), size=52).wafers
        assert wafers.resize == "keep"
        np.testing.assert_array_equal(wafers.maps[0], np.pad(maps(60)[0], [(13, 14), (12, 13)]))

    def test_each_die_of_a_resized_map_is_the_nearest_one(self, tmp_path: Path) -> None:
        wafers = load(write(tmp_path), size=50, resize="nearest").wafers
        native = maps(60)[0]
        for y, x in ((0, 0), (10, 49), (49, 25)):
            assert wafers.maps[0, y, x] == native[int((y + 0.5) * 25 / 50), int((x + 0.5) * 27 / 50)]

    def test_parts_keep_their_own_maps_beside_them(self, tmp_path: Path) -> None:
        dataset = load(write(tmp_path))
        part = dataset.part("test")
        assert part.native is not None
        row = int(np.flatnonzero(dataset.split == 2)[0])
        assert np.array_equal(part.native[0], dataset.wafers.native[row])  # type: ignore[index]

    def test_a_second_start_does_not_read_the_pickle_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = write(tmp_path)
        first = load(file)
        monkeypatch.setattr(wm811k, "read_columns", lambda _: pytest.fail("read again"))
        assert load(file).fingerprint == first.fingerprint

    def test_a_second_start_reads_no_dies(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = write(tmp_path)
        first = load(file)
        for name in ("resized", "content_keys_of"):
            monkeypatch.setattr(wm811k, name, lambda *_: pytest.fail("made again"))
        assert load(file).fingerprint == first.fingerprint
        with pytest.raises(pytest.fail.Exception, match="made again"):
            load(file, size=33)

    @pytest.mark.parametrize("split", ["lot", "content"])
    def test_each_seed_has_its_split_at_every_start(self, split: str, tmp_path: Path) -> None:
        file = write(tmp_path)
        first, other, again = (load(file, split=split, seed=seed).split.tolist() for seed in (0, 1, 0))
        assert first == again != other

    def test_who_changes_maps_changes_no_others(self, tmp_path: Path) -> None:
        file = write(tmp_path)
        before = load(file).fingerprint
        load(file).wafers.maps[:] = 0
        assert load(file).fingerprint == before

    def test_maps_that_were_not_made_whole_are_made_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(wm811k, "_BLOCK", 20)
        file, blocks = write(tmp_path), []

        def stops_in_the_second_block(native: RaggedMaps, *how: Any) -> NDArray[np.uint8]:
            blocks.append(native)
            if len(blocks) == 2:
                raise KeyboardInterrupt
            return resized(native, *how)

        with monkeypatch.context() as patched:
            patched.setattr(wm811k, "resized", stops_in_the_second_block)
            with pytest.raises(KeyboardInterrupt):
                load(file)
        assert not list((tmp_path / "cache").rglob("*32x32*"))
        wafers = load(file).wafers
        np.testing.assert_array_equal(wafers.maps, resized(wafers.own_sizes(), (32, 32), "keep"))

    def test_a_file_without_a_label_has_no_maps_to_learn_from(self, tmp_path: Path) -> None:
        dataset = load(write(tmp_path, failureType=[EMPTY] * 60))
        assert len(dataset.wafers) == 0
        assert dataset.facts["unlabelled"] == 60
        with pytest.raises(WaferlabError, match="no map is in its train part"):
            dataset.require("train")

    def test_another_file_in_its_place_is_read(self, tmp_path: Path) -> None:
        first = load(write(tmp_path))
        assert load(write(tmp_path, waferMap=maps(60, seed=1))).fingerprint != first.fingerprint

    def test_a_conversion_that_fails_leaves_nothing_behind(self, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError):
            load(write(tmp_path, waferMap=[*maps(59), np.full((3, 3), 7, np.uint8)]))
        assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


class TestSplit:
    def test_by_lot_where_there_are_lots(self, tmp_path: Path) -> None:
        dataset = load(write(tmp_path))
        assert dataset.facts["split_by"] == "lot"
        lots = np.array([row // 5 for row in range(60) if row % 4 != 3])
        assert all(len(set(dataset.split[lots == lot])) == 1 for lot in range(12))
        assert set(dataset.split.tolist()) == {0, 1, 2}

    @pytest.mark.parametrize("lots", [[], ["lot0"] * 60], ids=["no column", "one lot for all"])
    def test_by_content_where_there_are_none(self, lots: list[str], tmp_path: Path) -> None:
        dataset = load(write(tmp_path, lotName=lots))
        assert dataset.facts["split_by"] == "content"
        with pytest.raises(WaferlabError, match="no column lotName, or one lot alone"):
            load(tmp_path / "LSWMD.pkl", split="lot")

    @pytest.mark.parametrize("spelling", ["trianTestLabel", "trainTestLabel"])
    def test_as_published(self, spelling: str, tmp_path: Path) -> None:
        dataset = load(write(tmp_path, spelling), split="official", fractions=(0.6, 0.3, 0.1))
        rows = np.array([row for row in range(60) if row % 4 != 3])
        assert (dataset.split[rows >= 40] == 2).all()
        assert set(dataset.split[rows < 40].tolist()) == {0, 1}

    @pytest.mark.parametrize("split", ["lot", "content"])
    def test_identical_maps_are_on_one_side(self, split: str, tmp_path: Path) -> None:
        twins = [*maps(30), *maps(30)]
        labels = [nested("none")] * 60
        dataset = load(write(tmp_path, waferMap=twins, failureType=labels), split=split)
        assert (dataset.split >= 0).sum() == 30


@pytest.mark.parametrize(
    ("columns", "fault"),
    [
        ({"waferMap": []}, "has no column waferMap; it has failureType, lotName"),
        ({"failureType": [nested("Egde-Ring")] * 60}, "failureType holds 'Egde-Ring' in row 0; expected one of center"),
        ({"waferMap": [*maps(59), np.full((3, 3), 7, np.uint8)]}, "holds the die state 7"),
        ({"waferMap": [*maps(59), np.zeros((3, 3))]}, "row 59 is no map"),
        ({"waferMap": [*maps(59), "text"]}, "row 59 is no map"),
    ],
    ids=["no maps", "unknown label", "unknown state", "float map", "text for a map"],
)
def test_a_wrong_file_is_refused_by_what_is_wrong(columns: dict[str, Any], fault: str, tmp_path: Path) -> None:
    with pytest.raises(WaferlabError, match=fault):
        load(write(tmp_path, **columns))


def test_a_missing_file_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(WaferlabError, match=r"is no file\. Get LSWMD\.pkl"):
        load(tmp_path / "LSWMD.pkl")


@pytest.mark.real
def test_the_real_maps(tmp_path: Path) -> None:
    file = Path(os.environ.get("WAFERLAB_DATA", "data")) / "wm811k" / "LSWMD.pkl"
    if not file.is_file():
        pytest.skip(f"needs {file}; set WAFERLAB_DATA to the folder that holds wm811k/")
    dataset = wm811k.load(str(file), str(tmp_path))
    wafers = dataset.wafers
    assert set(np.unique(wafers.maps)) == {0, 1, 2}
    assert wafers.labels.sum(1).max() == 1
    assert (wafers.labels.sum(0) > 100).all()
    assert (wafers.labels.sum(1) == 0).sum() > 25_000
    smaller = (wafers.own_sizes().shapes <= 52).all(1)
    dies = [np.bincount(own.ravel(), minlength=3)[1:] for own in wafers[np.flatnonzero(smaller)].own_sizes()]
    shown = [(wafers.maps[smaller] == state).sum((1, 2)) for state in (1, 2)]
    np.testing.assert_array_equal(np.array(dies).T, shown)
    for part in ("train", "val", "test"):
        assert dataset.part(part).labels.any(0).all()  # type: ignore[arg-type]
