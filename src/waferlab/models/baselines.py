"""Trivial classifiers: what a table's models have to beat. They need no tuning and a second of training."""

from collections.abc import Callable
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from waferlab.data.dataset import Wafers
from waferlab.wafer import FAIL, NO_DIE

RINGS = 5
SECTORS = 12
CHUNK = 2048


class Baseline(Protocol):
    """A classifier of wafer maps that learns from labels in one call."""

    @property
    def parameters(self) -> int:
        """Number of learned values."""

    def fit(self, wafers: Wafers) -> Self:
        """Learn from labelled maps."""

    def logits(self, maps: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, H, W) die states to (N, C) raw scores; above 0 is "defect present"."""


class Majority:
    """Predicts the most frequent label row of training whatever the map; its scores are 1 and -1."""

    def fit(self, wafers: Wafers) -> Self:
        """Find the most frequent row."""
        rows, counts = np.unique(wafers.labels, axis=0, return_counts=True)
        self.row = np.where(rows[counts.argmax()], 1, -1).astype(np.float32)
        return self

    @property
    def parameters(self) -> int:
        """One for each class."""
        return self.row.size

    def logits(self, maps: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, C): the same row for every map."""
        return np.tile(self.row, (len(maps), 1))


class ZoneDensity:
    """Logistic regression, one for each class, on `zone_densities`."""

    def fit(self, wafers: Wafers) -> Self:
        """Fit on standardised densities; a class that never varies in training gets its smoothed log odds.

        On one core: so small a problem gains nothing from more, and its result would depend on how many there are.
        """
        features = zone_densities(wafers.maps)
        mean, spread = features.mean(0), features.std(0)
        spread[spread == 0] = 1
        standardised = (features - mean) / spread
        self.weights = np.zeros((features.shape[1], len(wafers.classes)), np.float32)
        self.bias = np.zeros(len(wafers.classes), np.float32)
        for c, bits in enumerate(wafers.labels.T):
            present = int(bits.sum())
            if 0 < present < len(bits):
                with threadpool_limits(1):
                    regression = LogisticRegression(max_iter=1000).fit(standardised, bits)
                self.weights[:, c] = regression.coef_[0] / spread
                self.bias[c] = regression.intercept_[0] - mean @ self.weights[:, c]
            else:
                self.bias[c] = np.log((present + 0.5) / (len(bits) - present + 0.5))
        return self

    @property
    def parameters(self) -> int:
        """Weights and biases; the standardisation is folded into them."""
        return self.weights.size + self.bias.size

    def logits(self, maps: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, C) log odds."""
        return zone_densities(maps) @ self.weights + self.bias


#: The baselines by the name that tables show.
BASELINES: dict[str, Callable[[], Baseline]] = {"majority": Majority, "zone_density": ZoneDensity}


def zone_densities(maps: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Share of failing dies in 5 rings x 12 sectors and on the whole wafer: (N, 61) float32 in [0, 1].

    Each ring's sectors are sorted by their density, so that turning or mirroring the wafer changes next to nothing.
    Zones are laid over the whole (H, W) grid, which the wafer is taken to fill; a zone without dies has density 0.
    """
    zones = _zone_membership(*maps.shape[1:])
    densities = np.empty((len(maps), zones.shape[1]), np.float32)
    for start in range(0, len(maps), CHUNK):
        pixels = maps[start : start + CHUNK].reshape(-1, len(zones))
        fails = (pixels == FAIL).astype(np.float32) @ zones
        dies = (pixels != NO_DIE).astype(np.float32) @ zones
        densities[start : start + CHUNK] = fails / np.maximum(dies, 1)
    rings = densities[:, :-1].reshape(-1, RINGS, SECTORS)
    rings.sort(axis=2)
    return densities


def _zone_membership(height: int, width: int) -> NDArray[np.float32]:
    """(H*W, zones + 1) of 0 and 1: the zone of each pixel, and a last column for the whole wafer."""
    y, x = np.meshgrid(*(2 * (np.arange(side) + 0.5) / side - 1 for side in (height, width)), indexing="ij")
    ring = np.minimum(np.hypot(y, x) * RINGS, RINGS - 1).astype(np.int64)
    sector = ((np.arctan2(y, x) / (2 * np.pi) % 1) * SECTORS).astype(np.int64) % SECTORS
    zone = (ring * SECTORS + sector).ravel()
    return np.hstack([np.eye(RINGS * SECTORS, dtype=np.float32)[zone], np.ones((zone.size, 1), np.float32)])
