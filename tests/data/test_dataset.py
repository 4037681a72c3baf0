"""The object between sources and tasks: its parts, and a fingerprint that changes with anything that matters."""

from dataclasses import replace

import numpy as np
import pytest

from waferlab.data.dataset import Dataset, Wafers, digest
from waferlab.errors import ConfigError


@pytest.fixture
def dataset() -> Dataset:
    random = np.random.default_rng(0)
    maps = random.integers(0, 3, (6, 4, 5), np.uint8)
    labels = random.integers(0, 2, (6, 2), np.uint8)
    return Dataset(Wafers(maps, labels, ("a", "b")), np.array([0, 2, 1, -1, 0, 2], np.int8), "made", {})


def test_parts_hold_their_maps_in_the_sources_order(dataset: Dataset) -> None:
    for part, rows in (("train", [0, 4]), ("val", [2]), ("test", [1, 5])):
        wafers = dataset.part(part)  # type: ignore[arg-type]
        np.testing.assert_array_equal(wafers.maps, dataset.wafers.maps[rows])
        np.testing.assert_array_equal(wafers.labels, dataset.wafers.labels[rows])
        assert wafers.classes == dataset.classes == ("a", "b")


def test_what_is_left_out_is_in_no_part(dataset: Dataset) -> None:
    assert sum(len(dataset.part(part)) for part in ("train", "val", "test")) == 5  # type: ignore[arg-type]


def test_withheld_defects_are_left_out_of_training_and_validation_only(dataset: Dataset) -> None:
    shown = dataset.withholding(["b"])
    for part in ("train", "val"):
        assert not shown.part(part).labels[:, 1].any()  # type: ignore[arg-type]
        before = dataset.part(part).labels  # type: ignore[arg-type]
        assert len(shown.part(part)) == (before[:, 1] == 0).sum()  # type: ignore[arg-type]
    np.testing.assert_array_equal(shown.part("test").maps, dataset.part("test").maps)
    assert shown.facts["withheld"] == "b"


def test_a_withheld_defect_that_no_wafer_could_have_is_refused(dataset: Dataset) -> None:
    with pytest.raises(ConfigError, match="withhold: c: made knows a, b"):
        dataset.withholding(["c"])


def test_size_is_height_and_width(dataset: Dataset) -> None:
    assert dataset.wafers.size == (4, 5)


def test_masks_are_indexed_with_their_maps(dataset: Dataset) -> None:
    masked = replace(dataset.wafers, masks=np.arange(120, dtype=np.uint8).reshape(6, 4, 5))
    part = masked[np.array([3, 1])]
    assert part.masks is not None
    np.testing.assert_array_equal(part.masks[0], np.arange(60, 80).reshape(4, 5))
    assert dataset.wafers[np.array([3])].masks is None


def test_the_fingerprint_changes_with_maps_labels_classes_and_split_and_with_nothing_else(dataset: Dataset) -> None:
    wafers = dataset.wafers
    flipped = wafers.labels.copy()
    flipped[0, 0] ^= 1
    other = [
        replace(dataset, wafers=replace(wafers, maps=wafers.maps[::-1])),
        replace(dataset, wafers=replace(wafers, labels=flipped)),
        replace(dataset, wafers=replace(wafers, classes=("a", "c"))),
        replace(dataset, split=np.roll(dataset.split, 1)),
        replace(dataset, wafers=replace(wafers, maps=wafers.maps.reshape(6, 5, 4))),
    ]
    assert len({each.fingerprint for each in (dataset, *other)}) == 6
    assert replace(dataset, name="renamed", facts={"note": "new"}).fingerprint == dataset.fingerprint


def test_a_digest_is_of_content_not_of_memory_layout() -> None:
    array = np.arange(12).reshape(3, 4)
    assert digest([array]) == digest([np.asfortranarray(array)])
    assert digest([array]) != digest([array.reshape(4, 3)])
    assert digest([array]) != digest([array.astype(np.int32)])
    assert digest([array], "a") != digest([array], "b")
    assert len(digest([])) == 16
