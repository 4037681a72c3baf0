"""Label rows in, wafer maps out."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from waferlab.data.dataset import Dataset, Wafers
from waferlab.data.ragged import RaggedMaps, resized
from waferlab.data.simulator.patterns import GENERATORS
from waferlab.data.simulator.wafer import Dies, Notch, WaferParams
from waferlab.data.split import split_by_content
from waferlab.errors import ConfigError, WaferlabError
from waferlab.wafer import DEFECTS, FAIL, NO_DIE, PASS, pattern_labels

#: Maps that share one random stream: few enough to stay in a core's cache. The maps depend on it, so it is fixed.
_CHUNK = 64


def simulate(
    labels: NDArray[np.uint8],
    size: tuple[int, int] | int = 52,
    seed: int | Sequence[int] = 0,
    params: WaferParams | None = None,
    threads: int | None = None,
) -> Wafers:
    """Draws one wafer map a label row, with the mask of the dies that each defect killed.

    Args:
        labels: (N, 8) uint8 bits in the order of `DEFECTS`, in any combination.
        size: (H, W) in dies, or one number for both; at least 12.
        seed: one number or more; equal labels, size, seed and parameters give equal bytes, whatever the machine and the
            number of threads.
        params: the wafer, by default MixedWM38's disc.
        threads: how many to use, by default one a core.

    Returns:
        Maps, labels and masks. Every masked die fails, every bit set in a label killed at least one die, and the fails
        outside the mask are the background's.

    Raises:
        WaferlabError: labels that are no (N, 8) bits, or a size below 12.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if labels.ndim != 2 or labels.shape[1] != len(DEFECTS) or labels.max(initial=0) > 1:
        raise WaferlabError(f"labels of shape {labels.shape} are no rows of {len(DEFECTS)} bits: {', '.join(DEFECTS)}.")
    if min(height, width) < 12:
        raise ConfigError(f"size is {height}x{width}: these defects do not fit on fewer than 12 dies across.")
    params = params or WaferParams()
    dies = Dies.of((height, width), params)
    count = len(labels)
    maps = np.full((count, height * width), NO_DIE, np.uint8)
    masks = np.zeros((count, height * width), np.uint8)
    starts = range(0, count, _CHUNK)

    def fill(start: int, stream: np.random.SeedSequence) -> None:
        chunk = slice(start, start + _CHUNK)
        rng = np.random.Generator(np.random.PCG64(stream))
        maps[chunk, dies.index], masks[chunk, dies.index] = _chunk(labels[chunk], dies, params.background, rng)

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        list(pool.map(fill, starts, np.random.SeedSequence(seed).spawn(len(starts))))
    shape = (count, height, width)
    return Wafers(maps.reshape(shape), labels, DEFECTS, masks.reshape(shape))


def _chunk(
    labels: NDArray[np.uint8], dies: Dies, background: tuple[float, float], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """States and masks of some wafers' dies, (n, D) uint8 each."""
    shape = len(labels), len(dies.index)
    low, high = background
    rate = np.sqrt(rng.random((len(labels), 1), np.float32)) * (high - low) + low
    fails = rng.random(shape, np.float32) < rate
    masks = np.zeros(shape, np.uint8)
    for bit, generator in enumerate(GENERATORS):
        rows = np.flatnonzero(labels[:, bit])
        if len(rows):
            field = generator(rng, dies, len(rows))
            fails[rows] &= field >= 0
            killed = rng.random(field.shape, np.float32) < field
            spared = np.flatnonzero(~killed.any(axis=1))
            killed[spared, field[spared].argmax(axis=1)] = True
            masks[rows] |= killed.view(np.uint8) << bit
    return np.where(fails | (masks > 0), np.uint8(FAIL), np.uint8(PASS)), masks


def load(
    maps: int = 6000,
    size: int = 52,
    seed: int = 0,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    *,
    sizes: Sequence[tuple[int, int]] | None = None,
    normal_share: float | None = None,
    edge_exclusion: float = 0.0,
    notch: Notch = "none",
    background: tuple[float, float] = (0.01, 0.2),
) -> Dataset:
    """Simulated wafers, as many of each of the 38 patterns, and their split.

    Args:
        maps: how many, at least 38.
        sizes: heights and widths of wafers that come as often as each other, instead of one size; each wafer lies in
            the middle of a grid of size x size dies.
        normal_share: share of wafers without a defect, in (0, 1), instead of one of the 38 patterns'.
        size: dies across.
        seed: of the wafers and the split.
        fractions: shares of train, val and test.
        edge_exclusion, notch, background: as in `WaferParams`.

    Raises:
        WaferlabError: a value out of range.
    """
    patterns = pattern_labels()
    if maps < len(patterns):
        raise ConfigError(f"maps is {maps}: give at least {len(patterns)}, one a pattern.")
    if normal_share is None:
        labels = np.resize(patterns, (maps, len(DEFECTS)))
    elif 0 < normal_share < 1:
        labels = np.zeros((maps, len(DEFECTS)), np.uint8)
        abnormal = labels[round(maps * normal_share) :]
        abnormal[:] = np.resize(patterns[1:], abnormal.shape)
    else:
        raise ConfigError(f"normal_share is {normal_share}: give a share between 0 and 1, without the ends.")
    np.random.Generator(np.random.PCG64(seed)).shuffle(labels)
    params = WaferParams(edge_exclusion, notch, background)
    wafers = _of_many_sizes(labels, sizes, size, seed, params) if sizes else simulate(labels, size, seed, params)
    facts: dict[str, str | int] = {"size": f"{size}x{size}", "seed": seed}
    if sizes:
        facts["sizes"] = ", ".join(f"{height}x{width}" for height, width in sizes)
    return Dataset(wafers, split_by_content(wafers, fractions, seed), "simulated", facts)


def _of_many_sizes(
    labels: NDArray[np.uint8], sizes: Sequence[tuple[int, int]], size: int, seed: int, params: WaferParams
) -> Wafers:
    """Each label's wafer, of one size after the other, in the middle of a grid of size x size dies."""
    rows = [np.arange(first, len(labels), len(sizes)) for first in range(len(sizes))]
    drawn = [simulate(labels[some], sizes[place], (seed, place), params) for place, some in enumerate(rows)]
    masks = [part.masks for part in drawn if part.masks is not None]
    back = np.argsort(np.concatenate(rows))

    def in_order(parts: list[NDArray[np.uint8]]) -> RaggedMaps:
        shapes = np.repeat([part.shape[1:] for part in parts], [len(part) for part in parts], axis=0)
        ends = np.cumsum(shapes.prod(1))
        flat = np.concatenate([part.ravel() for part in parts])
        return RaggedMaps(flat, shapes, ends - shapes.prod(1)).only(back)

    grid, own = (size, size), in_order([part.maps for part in drawn])
    return Wafers(resized(own, grid, "keep"), labels, DEFECTS, resized(in_order(masks), grid, "keep"), own, "keep")
