"""Deterministic splits by content: no map is ever on two sides, whatever the order of the rows."""

from collections.abc import Sequence
from hashlib import blake2b
from itertools import pairwise
from math import floor, isclose

import numpy as np
from numpy.typing import NDArray

from waferlab.data.dataset import PARTS, Wafers
from waferlab.errors import ConfigError

LEFT_OUT = -1


def split_by_content(wafers: Wafers, fractions: Sequence[float], seed: int) -> NDArray[np.int8]:
    """Split maps by what they show, stratified over the label combinations (the patterns).

    Each pattern's distinct maps are ordered by a hash of their pixels, keyed with the seed, and cut at the fractions.
    So a map's side depends on the set of maps and the seed alone; shuffling the rows changes nothing. Of identical maps
    the first row is used and the others are left out. Where identical maps carry different labels, all are left out:
    nobody can say which label is right.

    Args:
        wafers: maps and labels.
        fractions: train, val, test; not negative, summing to 1. Each pattern's counts are rounded by largest remainder;
            a pattern with enough maps has at least one on every side whose fraction is above 0.
        seed: another seed, another split.

    Returns:
        (N,) int8: 0 train, 1 val, 2 test, -1 left out.

    Raises:
        ConfigError: the fractions are no split.
    """
    check_fractions(fractions)
    split = np.full(len(wafers), LEFT_OUT, np.int8)
    if not len(wafers):
        return split
    keys, first, group = np.unique(content_keys(wafers.maps, seed), return_index=True, return_inverse=True)
    patterns = np.unique(wafers.labels, axis=0, return_inverse=True)[1]
    disputed = np.zeros(len(keys), bool)
    disputed[group[patterns != patterns[first[group]]]] = True

    rows = first[~disputed]  # in the order of their keys
    rows = rows[np.argsort(patterns[rows], kind="stable")]
    for stratum in np.split(rows, np.flatnonzero(np.diff(patterns[rows])) + 1):
        cuts = np.cumsum([0, *counts(len(stratum), fractions)])
        for side, (start, end) in enumerate(pairwise(cuts)):
            split[stratum[start:end]] = side
    return split


def content_keys(maps: NDArray[np.uint8], seed: int = 0) -> NDArray[np.bytes_]:
    """(N,) 16-byte keys, equal only where the maps are; BLAKE2b over each map's bytes, keyed with the seed."""
    rows = np.ascontiguousarray(maps).reshape(len(maps), -1)
    key = str(seed).encode()
    return np.array([blake2b(row.data, digest_size=16, key=key).digest() for row in rows], "S16")


def check_fractions(fractions: Sequence[float]) -> None:
    """Raise a `ConfigError` unless there are three fractions, none negative, that sum to 1."""
    valid = len(fractions) == len(PARTS) and all(fraction >= 0 for fraction in fractions)
    if not valid or not isclose(sum(fractions), 1, abs_tol=1e-6):
        raise ConfigError(
            f"fractions: {list(fractions)} is no split; give three numbers for train, val and test, "
            "none negative, that sum to 1, such as [0.8, 0.1, 0.1]"
        )


def counts(total: int, fractions: Sequence[float]) -> list[int]:
    """Cut a total at fractions by largest remainder; no side with a fraction above 0 stays empty if that can be."""
    exact = [total * fraction for fraction in fractions]
    sizes = [floor(size) for size in exact]
    by_remainder = sorted(range(len(exact)), key=lambda side: sizes[side] - exact[side])
    for side in by_remainder[: total - sum(sizes)]:
        sizes[side] += 1
    wanted = [side for side, fraction in enumerate(fractions) if fraction > 0]
    if total >= len(wanted):
        for side in wanted:
            if not sizes[side]:
                sizes[sizes.index(max(sizes))] -= 1
                sizes[side] = 1
    return sizes
