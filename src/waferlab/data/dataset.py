"""The one plain object that every data source yields and every task reads."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from waferlab.data.ragged import RaggedMaps, Resize, resized
from waferlab.data.rows import Rows, pieces
from waferlab.errors import ConfigError, WaferlabError

Part = Literal["train", "val", "test", "unlabelled"]
#: What every experiment needs; a part's place here is its code in a split.
PARTS: tuple[Part, ...] = ("train", "val", "test")
#: Maps for training whose labels nobody is told, and their code.
UNLABELLED: Part = "unlabelled"
CODES: dict[Part, int] = {part: code for code, part in enumerate((*PARTS, UNLABELLED))}
#: What a student sees that a teacher teaches.
TAUGHT: tuple[Part, ...] = ("train", UNLABELLED)


@dataclass(frozen=True)
class Wafers:
    """Wafer maps, or images, and what is known of them.

    Attributes:
        maps: (N, H, W) uint8, 0 no die, 1 pass, 2 fail; or (N, H, W, C) pixels of images, which stay on the disk.
        labels: (N, C) uint8 bits, one column per class.
        classes: names of the C columns.
        masks: (N, H, W) uint8, or None: bit c is set where class c killed the die. Only a simulator knows it.
        native: the same maps in their own sizes, where `maps` were resized, or None.
        resize: how they were.
    """

    maps: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    classes: tuple[str, ...]
    masks: NDArray[np.uint8] | None = None
    native: RaggedMaps | None = None
    resize: Resize = "nearest"

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, index: NDArray[np.int64] | slice) -> "Wafers":
        masks = None if self.masks is None else self.masks[index]
        native = None if self.native is None else self.native.only(index)
        maps: Any = self.maps
        maps = maps.only(index) if isinstance(maps, Rows) else maps[index]
        return Wafers(maps, self.labels[index], self.classes, masks, native, self.resize)

    def own_sizes(self) -> RaggedMaps:
        """The maps in their own sizes."""
        return self.native or RaggedMaps.of(self.maps)

    def from_own_sizes(self, values: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """What belongs to the dies of each of `own_sizes` (h, w), where these dies, or the nearest, are in `maps`."""
        if not values:
            return np.zeros((0, *self.size))
        own = self.own_sizes()
        sizes = own.shapes.prod(1)
        flat = np.concatenate([each.ravel() for each in values])
        placed = RaggedMaps(flat, own.shapes, np.cumsum(sizes) - sizes)
        return resized(placed, self.size, "keep" if self.resize == "keep" else "nearest")

    @property
    def is_abnormal(self) -> NDArray[np.bool_]:
        """(N,) whether a wafer has a defect: a bit of its label is set."""
        found: NDArray[np.bool_] = self.labels.max(1, initial=0) > 0
        return found

    def normal(self) -> "Wafers":
        """Those without a defect.

        Raises:
            WaferlabError: there are none.
        """
        rows = np.flatnonzero(~self.is_abnormal)
        if not len(rows):
            raise WaferlabError("no wafer of the training part is without a defect, and a detector learns from these")
        return self[rows]

    @property
    def are_images(self) -> bool:
        """Whether they are images, of pixels with channels."""
        return len(self.maps.shape) == 4

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of every map, in dies, or of every image, in pixels."""
        return self.maps.shape[1], self.maps.shape[2]


def maps_alone(*wafers: Wafers) -> Wafers:
    """The maps of all of them, in this order, without classes, labels and masks; those of one alone aren't copied."""
    maps = wafers[0].maps if len(wafers) == 1 else np.concatenate([each.maps for each in wafers])
    return Wafers(maps, np.zeros((len(maps), 0), np.uint8), ())


@dataclass(frozen=True)
class Dataset:
    """A source's wafers and their split.

    Attributes:
        wafers: all maps, in the source's order.
        split: (N,) int8: 0 train, 1 val, 2 test, 3 unlabelled, -1 left out (a duplicate, say).
        name: the source, for tables: ``mixedwm38``, ``simulated``, …
        facts: what a person wants to know of the source: checksum, repairs made, duplicates dropped.
        names: what each map is called where it is a file of its own (N), or None.
    """

    wafers: Wafers
    split: NDArray[np.int8]
    name: str
    facts: dict[str, str | int]
    names: tuple[str, ...] | None = None

    def part(self, *parts: Part) -> Wafers:
        """The maps of these parts, in the source's order."""
        return self.wafers[np.flatnonzero(self.within(*parts))]

    def within(self, *parts: Part) -> NDArray[np.bool_]:
        """(N,) whether a map is in one of these parts."""
        return np.isin(self.split, [CODES[part] for part in parts])

    def require(self, *parts: Part) -> None:
        """Refuse to go on without maps in these parts.

        Raises:
            WaferlabError: one is empty.
        """
        for part in parts:
            if not self.within(part).any():
                raise WaferlabError(
                    f"{self.name}: no map is in its {part} part, of {len(self.split)} maps in all (equal maps count "
                    "once); give more maps, or other shares: dataset.fractions=[0.8,0.1,0.1], or another split, where "
                    "the data brings its own"
                )

    def withholding(self, defects: Sequence[str]) -> "Dataset":
        """Without wafers that have one of these defects, alone or among others, in train and val; test has them still.

        Raises:
            ConfigError: there is no such defect.
        """
        if unknown := set(defects) - set(self.classes):
            raise ConfigError(f"withhold: {', '.join(sorted(unknown))}: {self.name} knows {', '.join(self.classes)}")
        if not defects:
            return self
        bits = [self.classes.index(defect) for defect in defects]
        has_one = (self.wafers.labels[:, bits] > 0).any(1) & ~self.within("test")
        split = np.where(has_one, np.int8(-1), self.split)
        return replace(self, split=split, facts=self.facts | {"withheld": ", ".join(defects)})

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the label columns."""
        return self.wafers.classes

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits that name maps, labels, classes and split; equal only where all of them are."""
        wafers = self.wafers
        return digest([wafers.maps, wafers.labels, self.split], ",".join(self.classes))


def digest(arrays: Iterable[NDArray[np.generic]], text: str = "") -> str:
    """Sixteen hex digits of a SHA-256 over arrays (shape, dtype, bytes) and a text."""
    sha = hashlib.sha256(text.encode())
    for array in arrays:
        sha.update(f"{array.shape}{array.dtype.str}".encode())
        for piece in pieces(array) if array.shape else [np.ascontiguousarray(array)]:
            sha.update(piece.data)
    return sha.hexdigest()[:16]
