"""Wafers as they came, before they were brought to a model's size: by these, dies are counted."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from waferlab.data.ragged import RaggedMaps, places
from waferlab.edge.card import Card
from waferlab.wafer import NO_DIE, PASS, STATES


@dataclass(frozen=True)
class Own:
    """What some wafers, or images, are in their own size.

    Attributes:
        maps: of wafers (n); None of images.
        empty: (n,) whether a wafer has no die.
        failed: (n,) whether it has some, and none of them passes.
        shrunk: how many are larger than the model's grid.
    """

    maps: RaggedMaps | None
    empty: NDArray[np.bool_]
    failed: NDArray[np.bool_]
    shrunk: int = 0

    @classmethod
    def of(cls, own: RaggedMaps | None, maps: NDArray[np.uint8], card: Card) -> "Own":
        """Of wafers, or images, that came to `maps` of the model's size; None: which they had from the beginning."""
        empty, failed = np.zeros((2, len(maps)), bool)
        if card.states > STATES:
            return cls(None, empty, failed)
        found = own or RaggedMaps.of(maps)
        for rows, some in found.by_shape():
            empty[rows] = ~some.any((1, 2))
            failed[rows] = (some != PASS).all((1, 2)) & ~empty[rows]
        return cls(found, empty, failed, int((found.shapes > np.array(card.size)).any(1).sum()))

    def dies_at(self, is_wanted: NDArray[np.bool_], card: Card) -> list[int]:
        """How many dies of each wafer came to lie in such places of the model's grid, (n, H, W)."""
        counts = np.zeros(len(is_wanted), np.int64)
        for rows, some in self.maps.by_shape() if self.maps else ():
            y, x = places((some.shape[1], some.shape[2]), card.size, card.resize)
            counts[rows] = (is_wanted[rows][:, y[:, None], x] & (some != NO_DIE)).sum((1, 2))
        found: list[int] = counts.tolist()
        return found
