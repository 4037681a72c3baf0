"""The eight defects as fields of kill probability.

Each generator draws one defect on N wafers and returns (N, D) float32: the probability that the defect kills each die,
or -1 where it keeps the background's fails away. Lengths are in wafer radii. The ranges were read off MixedWM38 (Wang
et al. 2020) and widened a little.

Nothing here rounds differently on another machine: only +, -, *, /, square roots and comparisons of IEEE float32, and
random numbers made from integers; directions come from a table, because sines differ in the last bit between libraries.
"""

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from waferlab.data.simulator.wafer import SECTORS, Dies

Field = NDArray[np.float32]
Generator = Callable[[np.random.Generator, Dies, int], Field]

#: Unit vectors around the circle, to 12 bits: (360, 2).
_DIRECTIONS: Final[Field] = np.array(
    [[round(wave(math.radians(turn)) * 4096) / 4096 for wave in (math.cos, math.sin)] for turn in range(360)],
    np.float32,
)


def _draw(rng: np.random.Generator, maps: int, low: float, high: float) -> Field:
    """(N, 1) uniform numbers, one a wafer."""
    return rng.random((maps, 1), np.float32) * (high - low) + low


def _direction(rng: np.random.Generator, maps: int) -> tuple[Field, Field]:
    """Cosine and sine of a random angle, (N, 1) each."""
    table = _DIRECTIONS[rng.integers(360, size=maps)]
    return table[:, :1], table[:, 1:]


def _distance(rng: np.random.Generator, dies: Dies, maps: int, spread: float) -> Field:
    """(N, D) distance of each die from a point near the wafer's centre."""
    dx = dies.x - _draw(rng, maps, -spread, spread)
    dy = dies.y - _draw(rng, maps, -spread, spread)
    dx *= dx
    dy *= dy
    dx += dy
    distance: Field = np.sqrt(dx, out=dx)
    return distance


def center(rng: np.random.Generator, dies: Dies, maps: int) -> Field:
    """A dense round blob near the centre."""
    radius = _draw(rng, maps, max(0.07, 0.8 * dies.pitch), 0.34)
    density = _draw(rng, maps, 0.94, 1.0)
    field: Field = density * (_distance(rng, dies, maps, 0.2) <= radius)
    return field


def donut(rng: np.random.Generator, dies: Dies, maps: int) -> Field:
    """A ring near the centre: a sharp clean hole, a solid body, a rim that frays outwards."""
    distance = _distance(rng, dies, maps, 0.2)
    hole = _draw(rng, maps, 0.07, 0.37)
    fray = _draw(rng, maps, 0.08, 0.16)
    outer = hole + _draw(rng, maps, 0.05, 0.22) + fray
    field = (outer - distance) / fray
    np.clip(field, 0, 0.98, out=field)
    field[distance < hole] = -1
    return field


def _rim(rng: np.random.Generator, dies: Dies, maps: int) -> Field:
    """The outermost dies, densest outside."""
    outside = dies.radius - dies.r
    width = _draw(rng, maps, 0.075, 0.095)
    np.maximum(width, 1.1 * dies.pitch, out=width)
    field = (outside <= width) * _draw(rng, maps, 0.5, 0.8)
    field += (outside <= width * 0.5) * _draw(rng, maps, 0.15, 0.3)
    return field


def edge_ring(rng: np.random.Generator, dies: Dies, maps: int) -> Field:
    """The whole rim."""
    return _rim(rng, dies, maps)


def edge_loc(rng: np.random.Generator, dies: Dies, maps: int) -> Field:
    """An arc of the rim, from a tenth of the circle to most of it."""
    cos, sin = _direction(rng, maps)
    half_extent = _DIRECTIONS[rng.integers(18, 165, maps), :1]
    along = dies.x * cos + dies.y * sin
    field = _rim(rng, dies, maps)
    field *= along >= half_extent * dies.r
    return field


def loc(rng: np.random.Generator, dies: Dies, maps: int) -> Field:
    """A patch between centre and edge, of radial streaks."""
    cos, sin = _direction(rng, maps)
    along = dies.x * cos + dies.y * sin
    across = dies.y * cos - dies.x * sin
    depth = dies.r - _draw(rng, maps, 0.70, 0.82)
    field: Field = 1 - np.maximum(depth * depth * 21, depth * -2.5)
    field *= _draw(rng, maps, 0.8, 1.0)
    field += (rng.random((maps, SECTORS), np.float32) * 0.5 - 0.25)[:, dies.sector]
    np.clip(field, 0, 1, out=field)
    field *= np.abs(across) <= along * _draw(rng, maps, 0.05, 1.0) + 0.7 * dies.pitch
    field *= along > 0
    return field


def scratch(rng: np.random.Generator, dies: Dies, maps: int) -> Field:
    """A thin curved stroke from rim to rim or nearly so, bulging towards the centre."""
    cos, sin = _direction(rng, maps)
    half = _draw(rng, maps, 0.42, 0.82)
    distance = np.sqrt(1 - half * half) * _draw(rng, maps, 0.9, 1.0)
    sagitta = half * _draw(rng, maps, 0.04, 0.28)
    along = dies.y * cos - dies.x * sin
    along += _draw(rng, maps, -0.1, 0.1)
    along /= half
    along *= along
    across = distance - dies.x * cos - dies.y * sin
    across -= sagitta * (1 - along)
    stroke = np.abs(across) <= _draw(rng, maps, 0.55, 0.8) * dies.pitch
    stroke &= along <= 1
    field: Field = stroke * _draw(rng, maps, 0.84, 1.0)
    return field


def _uneven(rng: np.random.Generator, dies: Dies, maps: int, low: float, high: float) -> Field:
    """(N, D) fail rate that drifts across the wafer and from centre to edge."""
    cos, sin = _direction(rng, maps)
    rate = dies.x * cos + dies.y * sin
    rate *= _draw(rng, maps, 0, 0.35)
    rate += (0.5 - dies.r * dies.r) * _draw(rng, maps, -0.15, 0.3)
    rate += _draw(rng, maps, low, high)
    return rate


def _grains(rng: np.random.Generator, dies: Dies, rate: Field) -> Field:
    """Fails at an (N, D) rate that are alike over cells of about two dies, as on maps enlarged from a coarser grid."""
    maps, (height, width) = len(rate), dies.shape
    cells_per_die = rng.integers(120, 165, (maps, 1)) + rng.integers(-12, 13, (2, maps, 1))  # times 256
    row, column = dies.index // width, dies.index % width
    cell = row * cells_per_die[0] // 256 * width + column * cells_per_die[1] // 256
    noise: Field = np.take_along_axis(rng.random((maps, height * width), np.float32), cell, axis=1)
    return np.where(noise < rate, np.float32(1), np.float32(-1))


def near_full(rng: np.random.Generator, dies: Dies, maps: int) -> Field:
    """Nearly every die; the outermost ones often survive."""
    rate = _uneven(rng, dies, maps, 0.7, 1.05)
    rate *= dies.radius - dies.r >= _draw(rng, maps, -0.04, 0.05)
    return _grains(rng, dies, rate)


def random(rng: np.random.Generator, dies: Dies, maps: int) -> Field:
    """Dies all over the wafer, in grains and drifts."""
    return _grains(rng, dies, _uneven(rng, dies, maps, 0.27, 0.66))


#: In the order of `waferlab.wafer.DEFECTS`.
GENERATORS: Final[tuple[Generator, ...]] = (center, donut, edge_loc, edge_ring, loc, near_full, scratch, random)
