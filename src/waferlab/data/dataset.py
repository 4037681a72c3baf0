"""The one plain object that every data source yields and every task reads."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from waferlab.errors import WaferlabError

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class Wafers:
    """Wafer maps and what is known of them.

    Attributes:
        maps: (N, H, W) uint8, 0 no die, 1 pass, 2 fail.
        labels: (N, C) uint8 bits, one column per class.
        classes: names of the C columns.
        masks: (N, H, W) uint8, or None: bit c is set where class c killed the die. Only a simulator knows it.
    """

    maps: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    classes: tuple[str, ...]
    masks: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, index: NDArray[np.int64]) -> "Wafers":
        masks = None if self.masks is None else self.masks[index]
        return Wafers(self.maps[index], self.labels[index], self.classes, masks)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of every map, in dies."""
        return self.maps.shape[1], self.maps.shape[2]


@dataclass(frozen=True)
class Dataset:
    """A source's wafers and their split.

    Attributes:
        wafers: all maps, in the source's order.
        split: (N,) int8: 0 train, 1 val, 2 test, -1 left out (a duplicate, say).
        name: the source, for tables: ``mixedwm38``, ``simulated``, …
        facts: what a person wants to know of the source: checksum, repairs made, duplicates dropped.
    """

    wafers: Wafers
    split: NDArray[np.int8]
    name: str
    facts: dict[str, str | int]

    def part(self, part: Part) -> Wafers:
        """The maps on one side of the split, in the source's order."""
        return self.wafers[np.flatnonzero(self.split == PARTS.index(part))]

    def require(self, *parts: Part) -> None:
        """Refuse to go on without maps in these parts.

        Raises:
            WaferlabError: one is empty.
        """
        for part in parts:
            if not (self.split == PARTS.index(part)).any():
                raise WaferlabError(
                    f"{self.name}: no map is in its {part} part, of {len(self.split)} maps in all (equal maps count "
                    "once); give more maps, or other shares: dataset.fractions=[0.8,0.1,0.1], or another split, where "
                    "the data brings its own"
                )

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
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()[:16]
