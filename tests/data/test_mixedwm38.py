import hashlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from waferlab.data import mixedwm38
from waferlab.errors import WaferlabError
from waferlab.wafer import DEFECTS, pattern_labels, pattern_name

Arrays = dict[str, NDArray[np.generic]]


@pytest.fixture
def arrays() -> Arrays:
    """Ten distinct maps of each of the 38 patterns, in the layout of the public file."""
    maps = np.random.default_rng(0).integers(0, 3, (380, 52, 52), np.int32)
    return {"arr_0": maps, "arr_1": np.repeat(pattern_labels(), 10, axis=0).astype(np.int32)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "wafers.npz"


def test_maps_labels_and_classes_come_in_the_files_order(arrays: Arrays, file: Path) -> None:
    np.savez_compressed(file, **arrays)
    dataset = mixedwm38.load(str(file))
    assert (dataset.name, dataset.classes) == ("mixedwm38", DEFECTS)
    assert dataset.wafers.maps.dtype == dataset.wafers.labels.dtype == np.uint8
    assert np.array_equal(dataset.wafers.maps, arrays["arr_0"])
    assert np.array_equal(dataset.wafers.labels, arrays["arr_1"])


def test_threes_are_read_as_fails_and_counted(arrays: Arrays, file: Path) -> None:
    arrays["arr_0"][7, 1, :5] = 3
    np.savez(file, **arrays)
    dataset = mixedwm38.load(str(file))
    assert dataset.facts["pixels_repaired"] == 5
    assert dataset.wafers.maps[7, 1, :5].tolist() == [2] * 5
    assert dataset.wafers.maps.max() == 2


def test_duplicates_are_left_out_and_counted(arrays: Arrays, file: Path) -> None:
    arrays["arr_0"][1] = arrays["arr_0"][0]
    np.savez(file, **arrays)
    dataset = mixedwm38.load(str(file))
    assert dataset.facts["left_out"] == 1
    assert dataset.split[1] == -1


def test_the_checksum_tells_the_original_from_other_files(
    arrays: Arrays, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(file, **arrays)
    sha = hashlib.sha256(file.read_bytes()).hexdigest()
    assert mixedwm38.load(str(file)).facts["checksum"] == f"{sha[:16]}, not the original 38,015-map file"
    monkeypatch.setattr(mixedwm38, "SHA256", sha)
    assert mixedwm38.load(str(file)).facts["checksum"] == f"{sha[:16]}, the original file"


def test_fractions_and_seed_reach_the_split(arrays: Arrays, file: Path) -> None:
    np.savez(file, **arrays)
    halves = mixedwm38.load(str(file), fractions=(0.5, 0.2, 0.3))
    assert np.bincount(halves.split).tolist() == [190, 76, 114]
    assert not np.array_equal(halves.split, mixedwm38.load(str(file), (0.5, 0.2, 0.3), seed=1).split)


def with_value(array: NDArray[np.generic], value: float) -> NDArray[np.generic]:
    """The array with one wrong value, in row 3."""
    wrong = array.astype(np.float64) if value != int(value) else array.copy()
    wrong[3].flat[0] = value
    return wrong


FAULTS = {
    "no maps": (lambda m, y: {"arr_1": y}, r"has no array 'arr_0'; it holds: arr_1"),
    "no labels": (lambda m, y: {"arr_0": m}, r"has no array 'arr_1'; it holds: arr_0"),
    "other size": (
        lambda m, y: {"arr_0": m[:, :50], "arr_1": y},
        r"arr_0 has shape \(380, 50, 52\); expected \(N, 52, 52\)",
    ),
    "flat maps": (lambda m, y: {"arr_0": m.reshape(380, -1), "arr_1": y}, r"arr_0 has shape \(380, 2704\)"),
    "few bits": (lambda m, y: {"arr_0": m, "arr_1": y[:, :7]}, r"arr_1 has shape \(380, 7\); expected \(380, 8\)"),
    "lengths": (lambda m, y: {"arr_0": m, "arr_1": y[:9]}, r"arr_1 has shape \(9, 8\); expected \(380, 8\)"),
    "no rows": (lambda m, y: {"arr_0": m[:0], "arr_1": y[:0]}, r"arr_0 has shape .*no rows"),
    "state 4": (lambda m, y: {"arr_0": with_value(m, 4), "arr_1": y}, r"arr_0 holds 4 in row 3; .* from 0 to 3"),
    "state -1": (lambda m, y: {"arr_0": with_value(m, -1), "arr_1": y}, r"arr_0 holds -1 in row 3"),
    "half state": (lambda m, y: {"arr_0": with_value(m, 1.5), "arr_1": y}, r"arr_0 holds 1.5 in row 3"),
    "text": (lambda m, y: {"arr_0": m.astype(str), "arr_1": y}, r"arr_0 holds <U\d+; expected whole numbers"),
    "no bit": (lambda m, y: {"arr_0": m, "arr_1": with_value(y, 2)}, r"arr_1 holds 2 in row 3; .* from 0 to 1"),
    "half bit": (lambda m, y: {"arr_0": m, "arr_1": with_value(y, 0.5)}, r"arr_1 holds 0.5 in row 3"),
    "unknown pattern": (
        lambda m, y: {"arr_0": m[:1], "arr_1": np.ones((1, 8), np.int32)},
        r"arr_1 labels row 0 Center\+Donut.*, none of MixedWM38's 38 patterns",
    ),
    "swapped columns": (
        lambda m, y: {"arr_0": m, "arr_1": y[:, [0, 1, 2, 3, 4, 5, 7, 6]]},
        r"arr_1 has its last two columns swapped; expected the order .*Scratch, Random",
    ),
}


@pytest.mark.parametrize(("build", "message"), FAULTS.values(), ids=FAULTS)
def test_a_wrong_file_gets_one_error_that_names_it_and_the_fault(build, message, arrays, file) -> None:  # type: ignore[no-untyped-def]
    np.savez_compressed(file, **build(arrays["arr_0"], arrays["arr_1"]))
    with pytest.raises(WaferlabError, match=message) as caught:
        mixedwm38.load(str(file))
    assert str(caught.value).startswith(str(file))


def test_pickled_objects_are_refused(arrays: Arrays, file: Path) -> None:
    np.savez(file, arr_0=arrays["arr_0"].astype(object), arr_1=arrays["arr_1"])
    with pytest.raises(WaferlabError, match=r"wafers\.npz: arr_0 holds Python objects"):
        mixedwm38.load(str(file))


@pytest.mark.parametrize("kept", [0.3, 0.999])
def test_a_truncated_file_is_called_so(arrays: Arrays, file: Path, kept: float) -> None:
    np.savez(file, **arrays)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(WaferlabError, match=r"wafers\.npz is cut short"):
        mixedwm38.load(str(file))


@pytest.mark.parametrize("content", [b"", b"<html>404</html>"])
def test_a_file_that_is_no_zip_is_called_so(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(WaferlabError, match=r"wafers\.npz is no npz file"):
        mixedwm38.load(str(file))


def test_a_missing_file_says_where_to_get_it(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.npz", tmp_path):
        with pytest.raises(
            WaferlabError, match=r"is no file\. Get Wafer_Map_Datasets\.npz .* dataset\.path=…"
        ) as caught:
            mixedwm38.load(str(path))
        assert str(caught.value).startswith(str(path))


def test_more_maps_than_there_are_is_another_data_set(
    arrays: Arrays, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mixedwm38, "MAPS", 379)
    np.savez(file, **arrays)
    with pytest.raises(WaferlabError, match=r"holds 380 maps, MixedWM38 379; use dataset=arrays"):
        mixedwm38.load(str(file))


@pytest.mark.real
def test_the_real_maps(real_mixedwm38: Path) -> None:
    dataset = mixedwm38.load(str(real_mixedwm38))
    wafers, split = dataset.wafers, dataset.split
    assert wafers.maps.shape == (25_361, 52, 52)
    assert {pattern_name(bits) for bits in np.unique(wafers.labels, axis=0)} == {
        pattern_name(bits) for bits in pattern_labels()
    }
    for part in ("train", "val", "test"):
        assert len(np.unique(dataset.part(part).labels, axis=0)) == 38  # type: ignore[arg-type]

    contents = [wafer.tobytes() for wafer in wafers.maps[split >= 0]]
    assert len(set(contents)) == len(contents)
    np.testing.assert_allclose(np.bincount(split[split >= 0]) / len(contents), (0.8, 0.1, 0.1), atol=0.001)
    assert dataset.facts["left_out"] == 25_361 - len({wafer.tobytes() for wafer in wafers.maps})
