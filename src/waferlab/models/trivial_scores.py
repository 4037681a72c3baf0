"""Anomaly scores that need no training: what a detector has to beat. Each reads a wafer at its own size."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, median_filter

from waferlab.data.dataset import Wafers
from waferlab.wafer import FAIL, NO_DIE

DieMap = NDArray[np.float32]
Score = Callable[[NDArray[np.uint8]], tuple[DieMap, float]]


def share(wafer: NDArray[np.uint8]) -> tuple[DieMap, float]:
    """The share of failing dies; each failing die stands out as much as any other."""
    fails = (wafer == FAIL).astype(np.float32)
    return fails, _share(wafer)


def density(wafer: NDArray[np.uint8]) -> tuple[DieMap, float]:
    """Fails smoothed over 1.5 dies (Gaussian sigma), and their highest density."""
    smooth = gaussian_filter((wafer == FAIL).astype(np.float32), 1.5, mode="constant")
    return smooth, float(smooth.max())


def density_at_fails(wafer: NDArray[np.uint8]) -> tuple[DieMap, float]:
    """The same density, at failing dies alone."""
    smooth, score = density(wafer)
    return np.where(wafer == FAIL, smooth, 0), score


def excess_density(wafer: NDArray[np.uint8]) -> tuple[DieMap, float]:
    """Fails smoothed over 2.5 dies, less the wafer's share of fails, and the highest excess."""
    smooth = gaussian_filter((wafer == FAIL).astype(np.float32), 2.5, mode="constant") - _share(wafer)
    return smooth, float(smooth.max())


def median_residual(wafer: NDArray[np.uint8]) -> tuple[DieMap, float]:
    """Fails that survive a 3x3 median, and their share of all dies."""
    left = ((wafer == FAIL) & (median_filter(wafer == FAIL, 3, mode="constant"))).astype(np.float32)
    return left, float(left.sum() / max(np.count_nonzero(wafer != NO_DIE), 1))


#: By the name that tables use.
TRIVIAL_SCORES: Final[dict[str, Score]] = {
    "fail_share": share,
    "fail_density": density,
    "density_at_fails": density_at_fails,
    "excess_density": excess_density,
    "median_residual": median_residual,
}


def trivial_maps(wafers: Wafers, score: Score) -> tuple[DieMap, NDArray[np.float32]]:
    """Die maps (N, H, W), at the wafers' common size, and scores (N,) of a trivial detector."""
    made = [score(wafer) for wafer in wafers.own_sizes()]
    die_maps = wafers.from_own_sizes([each for each, _ in made])
    return die_maps, np.array([value for _, value in made], np.float32)


def _share(wafer: NDArray[np.uint8]) -> float:
    return float((wafer == FAIL).sum() / max(np.count_nonzero(wafer != NO_DIE), 1))
