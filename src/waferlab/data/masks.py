"""Which dies of an abnormal wafer are abnormal: known from the simulator, agreed upon for real wafers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import ceil
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from waferlab.data.dataset import Wafers
from waferlab.errors import WaferlabError
from waferlab.wafer import FAIL, NO_DIE

Mask = NDArray[np.bool_]

#: Dies touch at sides and corners.
_TOUCH: Final = np.ones((3, 3), bool)
_BLOCK: Final = 6
#: From this rate of failing dies on, chance alone joins most of them, and the wafer as a whole is the pattern.
_PERCOLATION: Final = 0.35


def exact(wafers: Wafers) -> Mask:
    """Dies that a defect killed, apart from background fails.

    Raises:
        WaferlabError: only a simulator knows it.
    """
    if wafers.masks is None:
        raise WaferlabError("mask=exact: only simulated wafers know which dies a defect killed; use fail or pattern")
    made: Mask = wafers.masks > 0
    return made


def fail(wafers: Wafers) -> Mask:
    """All failing dies of wafers with a defect: the literature's convention; background fails are among them."""
    made: Mask = (wafers.maps == FAIL) & wafers.is_abnormal[:, None, None]
    return made


def pattern(wafers: Wafers) -> Mask:
    """Failing dies, of wafers with a defect, that lie in clusters larger than chance makes them.

    A cluster counts if, on wafers whose dies fail independently at this wafer's background rate, fewer than 1 of 100
    have one as large. The background rate is the median of those of blocks of 6x6 dies, rounded up to a multiple of
    0.02, at least 0.04. So it knows of neighbourhood only, not of the densities and filters that trivial scores use.
    Small clusters amid many fails remain unseen.
    """
    masks = [
        _clusters_beyond_chance(wafer) if is_abnormal else np.zeros_like(wafer, bool)
        for wafer, is_abnormal in zip(wafers.own_sizes(), wafers.is_abnormal, strict=True)
    ]
    return wafers.from_own_sizes(masks).astype(bool)


@dataclass(frozen=True)
class Truth:
    """What is known of N wafers.

    Attributes:
        is_abnormal: (N,) bool: a bit of the label is set.
        masks: (N, H, W) bool, abnormal dies.
        dies: (N, H, W) bool, dies there are.
    """

    is_abnormal: Mask
    masks: Mask
    dies: Mask

    @classmethod
    def of(cls, wafers: Wafers, mask: str) -> "Truth":
        """By the name of a mask in `MASKS`."""
        return cls(wafers.is_abnormal, MASKS[mask](wafers), wafers.maps != NO_DIE)


#: By the name that configurations and tables use.
MASKS: Final[dict[str, Callable[[Wafers], Mask]]] = {"exact": exact, "fail": fail, "pattern": pattern}


def _clusters_beyond_chance(wafer: NDArray[np.uint8]) -> Mask:
    fails: Mask = wafer == FAIL
    rate = _background_rate(fails, wafer != NO_DIE)
    if rate >= _PERCOLATION:
        return fails
    clusters, _ = label(fails, _TOUCH)
    sizes = np.bincount(clusters.ravel())
    sizes[0] = 0
    made: Mask = sizes[clusters] >= _largest_by_chance(max(0.04, ceil(rate * 50) / 50))
    return made


def _background_rate(fails: Mask, dies: Mask) -> float:
    """Median share of failing dies over blocks of 6x6 that are at least half wafer."""
    starts = [np.arange(0, side, _BLOCK) for side in fails.shape]
    counts, failed = (np.add.reduceat(np.add.reduceat(each, starts[0], 0, int), starts[1], 1) for each in (dies, fails))
    full = counts >= _BLOCK**2 / 2
    return float(np.median(failed[full] / counts[full])) if full.any() else 0.0


@cache
def _largest_by_chance(share: float, wafers: int = 300) -> int:
    """Dies of the largest cluster that 99 of 100 wafers stay below whose dies fail independently."""
    random = np.random.Generator(np.random.PCG64(0))
    y, x = np.indices((52, 52)) - 25.5
    disc = x * x + y * y < 26**2
    largest = []
    for _ in range(wafers):
        clusters, found = label(disc & (random.random(disc.shape) < share), _TOUCH)
        largest.append(np.bincount(clusters.ravel())[1:].max() if found else 0)
    return int(np.quantile(largest, 0.99)) + 1
