"""The wafer before any defect: which dies exist, and where they lie."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from waferlab.errors import ConfigError

Notch = Literal["none", "flat", "notch"]

#: Angular sectors of a wafer, for what varies with the angle.
SECTORS = 96


@dataclass(frozen=True)
class WaferParams:
    """What is common to all simulated wafers. The defaults give the 2,061 dies of MixedWM38 at 52x52.

    Attributes:
        edge_exclusion: outer share of the radius without dies, 0 to 0.5.
        notch: the orientation mark at the bottom: a ``flat`` cuts a chord off, a ``notch`` a small half disc.
        background: lowest and highest fail rate of a wafer apart from its defects, 0 to 1. Each wafer draws its own,
            high ones more often (the density rises linearly from the lowest); defects do not change it, so that the
            share of failing dies alone tells little.

    Raises:
        WaferlabError: a value out of range.
    """

    edge_exclusion: float = 0.0
    notch: Notch = "none"
    background: tuple[float, float] = (0.01, 0.2)

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        low, high = self.background
        if not 0 <= low <= high <= 1:
            raise ConfigError(f"background is {self.background}: give two fail rates, 0 <= lowest <= highest <= 1.")
        if not 0 <= self.edge_exclusion <= 0.5:
            raise ConfigError(f"edge_exclusion is {self.edge_exclusion}: give a share of the radius from 0 to 0.5.")
        if self.notch not in ("none", "flat", "notch"):
            raise ConfigError(f"notch is {self.notch!r}: choose none, flat or notch.")


@dataclass(frozen=True)
class Dies:
    """The D dies of a wafer in an (H, W) grid; the wafer is the unit disc, x to the right, y down.

    Attributes:
        index: (D,) int64, flat position in the grid.
        x, y: (D,) float32, centre of each die.
        pitch: larger of a die's two sides, in wafer radii.
        radius: radius within which dies exist; below 1 with edge exclusion.
    """

    index: NDArray[np.int64]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    pitch: float
    radius: float
    shape: tuple[int, int]

    @classmethod
    def of(cls, shape: tuple[int, int], params: WaferParams) -> "Dies":
        """The dies of an (H, W) grid, without those of the edge exclusion and of the notch."""
        # 0.44 of a die to spare is what MixedWM38's disc has: 51 dies across in a grid of 52, 2,061 in all.
        half = np.array(shape) / 2 - 0.44
        y, x = (np.indices(shape) - np.array(shape)[:, None, None] // 2) / half[:, None, None]
        pitch, radius = float(1 / half.min()), 1 - params.edge_exclusion
        on_wafer = x * x + y * y <= radius**2
        if params.notch == "flat":
            on_wafer &= y < 1 - max(0.08, pitch)
        elif params.notch == "notch":
            on_wafer &= x * x + (y - 1) ** 2 > max(0.06, 1.5 * pitch) ** 2
        index = np.flatnonzero(on_wafer)
        return cls(
            index, x.ravel()[index].astype(np.float32), y.ravel()[index].astype(np.float32), pitch, radius, shape
        )

    @cached_property
    def r(self) -> NDArray[np.float32]:
        """(D,) distance of each die from the wafer's centre, in wafer radii."""
        return np.sqrt(self.x * self.x + self.y * self.y)

    @cached_property
    def sector(self) -> NDArray[np.int64]:
        """(D,) angular sector of each die, 0 to `SECTORS` - 1."""
        turn = np.arctan2(self.y, self.x) / (2 * np.pi)
        return np.floor(turn * SECTORS + 0.25).astype(np.int64) % SECTORS
