from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from waferlab.data import arrays
from waferlab.errors import WaferlabError

Arrays = dict[str, NDArray[np.generic]]
BITS = np.array([[0, 0], [1, 0], [0, 1], [1, 1]] * 5)
TEXT = np.array(["Normal", "Center", "Loc", "Center+Loc"] * 5)


@pytest.fixture
def maps() -> NDArray[np.int64]:
    """Twenty distinct maps of 4 x 6 dies."""
    return np.random.default_rng(0).integers(0, 3, (20, 4, 6))


def save_npz(folder: Path, content: Arrays) -> Path:
    np.savez_compressed(folder / "my.npz", **content)  # type: ignore[arg-type]
    return folder / "my.npz"


def save_folder(folder: Path, content: Arrays) -> Path:
    (folder / "my").mkdir()
    for name, array in content.items():
        np.save(folder / "my" / f"{name}.npy", array)
    return folder / "my"


@pytest.mark.parametrize("save", [save_npz, save_folder])
@pytest.mark.parametrize(
    ("labels", "classes"),
    [(BITS, ("class_0", "class_1")), (BITS.astype(bool), ("class_0", "class_1")), (TEXT, ("Center", "Loc"))],
    ids=["bits", "bool", "text"],
)
def test_bits_and_text_give_the_same_labels(
    tmp_path: Path,
    maps: NDArray[np.int64],
    save: Callable[[Path, Arrays], Path],
    labels: NDArray[np.generic],
    classes: tuple[str, ...],
) -> None:
    dataset = arrays.load(str(save(tmp_path, {"maps": maps, "labels": labels})))
    assert (dataset.name, dataset.classes) == ("arrays", classes)
    assert dataset.wafers.maps.dtype == dataset.wafers.labels.dtype == np.uint8
    assert np.array_equal(dataset.wafers.maps, maps)
    assert np.array_equal(dataset.wafers.labels, BITS)
    assert dataset.wafers.masks is None


def test_class_numbers_become_one_bit_each(tmp_path: Path, maps: NDArray[np.int64]) -> None:
    numbers = np.arange(20) % 3
    path = save_npz(tmp_path, {"maps": maps, "labels": numbers})
    assert np.array_equal(arrays.load(str(path)).wafers.labels, np.eye(3)[numbers])
    named = arrays.load(str(path), classes=["a", "b", "c", "unseen"])
    assert named.classes == ("a", "b", "c", "unseen")
    assert np.array_equal(named.wafers.labels, np.eye(4)[numbers])


def test_class_names_come_from_the_config_before_the_data(tmp_path: Path, maps: NDArray[np.int64]) -> None:
    path = save_npz(tmp_path, {"maps": maps, "labels": BITS, "classes": np.array(["a", "b"])})
    assert arrays.load(str(path)).classes == ("a", "b")
    assert arrays.load(str(path), classes=["c", "d"]).classes == ("c", "d")


def test_given_classes_order_the_bits_of_text(tmp_path: Path, maps: NDArray[np.int64]) -> None:
    path = save_npz(tmp_path, {"maps": maps, "labels": TEXT})
    assert np.array_equal(arrays.load(str(path), classes=["Loc", "Center"]).wafers.labels, BITS[:, ::-1])


def test_labels_from_a_table(tmp_path: Path, maps: NDArray[np.int64]) -> None:
    folder = save_folder(tmp_path, {"maps": maps})
    lines = ["Center, Loc", *(f"{center},{loc}" for center, loc in BITS)]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    dataset = arrays.load(str(folder))
    assert dataset.classes == ("Center", "Loc")
    assert np.array_equal(dataset.wafers.labels, BITS)


def test_a_folder_for_each_pattern(tmp_path: Path, maps: NDArray[np.int64]) -> None:
    for number, (wafer, pattern) in enumerate(zip(maps, TEXT, strict=True)):
        (tmp_path / pattern).mkdir(exist_ok=True)
        np.save(tmp_path / pattern / f"{number:02}.npy", wafer)
    dataset = arrays.load(str(tmp_path))
    in_order = np.argsort(TEXT, kind="stable")
    assert dataset.classes == ("Center", "Loc")
    assert np.array_equal(dataset.wafers.maps, maps[in_order])
    assert np.array_equal(dataset.wafers.labels, BITS[in_order])


def test_masks_are_read(tmp_path: Path, maps: NDArray[np.int64]) -> None:
    masks = (maps == 2) * 3
    dataset = arrays.load(str(save_npz(tmp_path, {"maps": maps, "labels": BITS, "masks": masks})))
    assert dataset.wafers.masks is not None
    assert np.array_equal(dataset.wafers.masks, masks)


def test_maps_are_split_by_content(tmp_path: Path, maps: NDArray[np.int64]) -> None:
    maps[4] = maps[0]
    dataset = arrays.load(str(save_npz(tmp_path, {"maps": maps, "labels": BITS})), fractions=(0.6, 0.2, 0.2))
    assert dataset.split[4] == -1
    assert dataset.facts["left_out"] == 1
    assert [len(dataset.part(part)) for part in ("train", "val", "test")] == [11, 4, 4]


def test_the_datas_own_split_is_used_as_it_is(tmp_path: Path, maps: NDArray[np.int64]) -> None:
    maps[4] = maps[0]
    sides = np.array(["train"] * 10 + ["val"] * 4 + ["test"] * 6)
    dataset = arrays.load(str(save_npz(tmp_path, {"maps": maps, "labels": BITS, "split": sides})))
    assert dataset.split.tolist() == [0] * 10 + [1] * 4 + [2] * 6


def test_a_map_on_two_sides_of_the_datas_own_split_is_refused(tmp_path: Path, maps: NDArray[np.int64]) -> None:
    maps[12] = maps[3]
    sides = np.array(["train"] * 10 + ["test"] * 10)
    path = save_npz(tmp_path, {"maps": maps, "labels": BITS, "split": sides})
    with pytest.raises(WaferlabError, match=r"my\.npz: split .* two sides: rows 3 \(train\) and 12 \(test\) are equal"):
        arrays.load(str(path))


def changed(array: NDArray[np.generic], value: object) -> NDArray[np.generic]:
    """The array with another value in row 3."""
    other = array.copy()
    other[3] = value
    return other


SIDES = np.array(["train"] * 20)
FAULTS: dict[str, tuple[Callable[[NDArray[np.int64]], Arrays], str]] = {
    "no maps": (lambda m: {"labels": BITS}, r"my\.npz has no array 'maps'; it holds: labels"),
    "no labels": (lambda m: {"maps": m}, r"my\.npz has no array 'labels'; it holds: maps"),
    "one map": (lambda m: {"maps": m[0], "labels": BITS}, r"maps has shape \(4, 6\); expected \(N, H, W\)"),
    "no rows": (lambda m: {"maps": m[:0], "labels": BITS[:0]}, r"maps has shape \(0, 4, 6\), so no rows"),
    "state 3": (lambda m: {"maps": changed(m, 3), "labels": BITS}, r"maps holds 3 in row 3; .* from 0 to 2"),
    "lengths": (lambda m: {"maps": m, "labels": BITS[:9]}, r"labels has shape \(9, 2\); expected \(20, C\)"),
    "text lengths": (lambda m: {"maps": m, "labels": TEXT[:9]}, r"labels has shape \(9,\); expected \(20\)"),
    "no bit": (lambda m: {"maps": m, "labels": changed(BITS, 2)}, r"labels holds 2 in row 3; .* from 0 to 1"),
    "part of a class": (lambda m: {"maps": m, "labels": np.full(20, 0.5)}, r"labels holds 0.5 in row 0"),
    "objects": (lambda m: {"maps": m, "labels": TEXT.astype(object)}, r"labels holds Python objects"),
    "all normal": (lambda m: {"maps": m, "labels": np.array(["Normal"] * 20)}, r"every map is Normal; .*classes="),
    "empty defect": (lambda m: {"maps": m, "labels": changed(TEXT, "Loc+")}, r"the pattern 'Loc\+' \(map 3\)"),
    "blank": (lambda m: {"maps": m, "labels": changed(TEXT, " Loc")}, r"the pattern ' Loc' \(map 3\)"),
    "normal and more": (lambda m: {"maps": m, "labels": changed(TEXT, "Normal+Loc")}, r"the pattern 'Normal\+Loc'"),
    "name that joins": (
        lambda m: {"maps": m, "labels": BITS, "classes": np.array(["a+b", "c"])},
        r"without '\+' and outer blanks; got \['a\+b', 'c'\]",
    ),
    "more masks than bits": (
        lambda m: {"maps": m, "labels": np.arange(20) % 9, "masks": m * 0},
        r"masks has a bit for each class, and 8 bits; there are 9 classes",
    ),
    "few names": (lambda m: {"maps": m, "labels": BITS, "classes": np.array(["a"])}, r"needs 2 different class names"),
    "same names": (
        lambda m: {"maps": m, "labels": BITS, "classes": np.array(["a", "a"])},
        r"needs 2 different class names, .*; got \['a', 'a'\]",
    ),
    "unknown side": (
        lambda m: {"maps": m, "labels": BITS, "split": changed(SIDES, "Test")},
        r"split holds 'Test' in row 3; expected train, val, test",
    ),
    "split length": (lambda m: {"maps": m, "labels": BITS, "split": SIDES[:9]}, r"split has shape \(9,\)"),
    "mask size": (lambda m: {"maps": m, "labels": BITS, "masks": m[:, 1:]}, r"masks has shape \(20, 3, 6\)"),
    "mask bit": (lambda m: {"maps": m, "labels": BITS, "masks": m * 0 + 4}, r"masks holds 4 in row 0; .* from 0 to 3"),
}


@pytest.mark.parametrize(("build", "message"), FAULTS.values(), ids=FAULTS)
def test_a_wrong_file_gets_one_error_that_names_it_and_the_fault(
    build: Callable[[NDArray[np.int64]], Arrays], message: str, tmp_path: Path, maps: NDArray[np.int64]
) -> None:
    path = save_npz(tmp_path, build(maps))
    with pytest.raises(WaferlabError, match=message) as caught:
        arrays.load(str(path))
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (TEXT, ["Center"], r"labels holds the pattern 'Loc', but the classes are Center"),
        (np.arange(20), ["a", "b"], r"labels holds 2 in row 2; .* from 0 to 1"),
        (BITS, ["a", "b", "c"], r"labels needs 2 different class names, .*; got \['a', 'b', 'c'\]"),
    ],
)
def test_classes_that_do_not_fit_the_labels_are_refused(
    tmp_path: Path, maps: NDArray[np.int64], labels: NDArray[np.generic], classes: list[str], message: str
) -> None:
    path = save_npz(tmp_path, {"maps": maps, "labels": labels})
    with pytest.raises(WaferlabError, match=message):
        arrays.load(str(path), classes=classes)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", r"labels\.csv has 0 rows below its header, but there are 20 maps"),
        ("a,b\n0,1\n", r"labels\.csv has 1 rows below its header, but there are 20 maps"),
        (
            "a,b\n" + "0,1\n" * 19 + "0,2\n",
            r"labels\.csv holds '0,2' in row 19; expected 0 or 1 2 times, with commas between",
        ),
        ("a,b\n" + "0\n" * 20, r"labels\.csv holds '0' in row 0; expected 0 or 1 2 times, with commas between"),
        ("a,a\n" + "0,1\n" * 20, r"labels\.csv needs 2 different class names"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, maps: NDArray[np.int64], table: str, message: str) -> None:
    folder = save_folder(tmp_path, {"maps": maps})
    (folder / "labels.csv").write_text(table)
    with pytest.raises(WaferlabError, match=message):
        arrays.load(str(folder))


def test_pattern_folders_with_maps_of_two_sizes_name_the_file(tmp_path: Path) -> None:
    for pattern, size in (("Center", (4, 6)), ("Loc", (4, 5))):
        (tmp_path / pattern).mkdir()
        np.save(tmp_path / pattern / "w.npy", np.zeros(size, np.uint8))
    with pytest.raises(WaferlabError, match=r"Loc/w\.npy has shape \(4, 5\), .*Center/w\.npy has \(4, 6\)"):
        arrays.load(str(tmp_path))


@pytest.mark.parametrize("stray", ["w.npy", "Center/lot/w.npy", "Center/w.npz"])
def test_a_file_beside_the_pattern_folders_is_not_left_unread_in_silence(tmp_path: Path, stray: str) -> None:
    for file in ("Center/w.npy", stray):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    with pytest.raises(WaferlabError, match=rf"{stray} would not be read"):
        arrays.load(str(tmp_path))


def test_a_path_without_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(WaferlabError, match=r"nowhere does not exist; give an npz file or a folder"):
        arrays.load(str(tmp_path / "nowhere"))
    with pytest.raises(WaferlabError, match=r"holds neither maps\.npy nor a subfolder for each pattern"):
        arrays.load(str(tmp_path))
    (tmp_path / "maps.txt").write_text("0 1 2")
    with pytest.raises(WaferlabError, match=r"maps\.txt is no npz file"):
        arrays.load(str(tmp_path / "maps.txt"))


@pytest.mark.parametrize("spelled", ["normal", "NORMAL", "Normal"])
def test_normal_wafers_are_known_however_the_word_is_spelled(spelled: str, tmp_path: Path) -> None:
    maps = np.random.default_rng(0).integers(0, 3, (4, 6, 6), np.uint8)
    np.savez(tmp_path / "mine.npz", maps=maps, labels=np.array([spelled, "Loc", spelled, "Loc"]))
    wafers = arrays.load(str(tmp_path / "mine.npz")).wafers
    assert wafers.classes == ("Loc",)
    assert wafers.labels[:, 0].tolist() == [0, 1, 0, 1]
