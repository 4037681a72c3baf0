"""Deterministic splits by content: no map is ever on two sides, whatever the order of the rows."""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from itertools import pairwise
from math import floor, isclose, prod

import numpy as np
from numpy.typing import NDArray

from waferlab.data.dataset import CODES, PARTS, UNLABELLED, Dataset, Wafers
from waferlab.data.rows import pieces
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
    return split_by_keys(content_keys(wafers.maps, seed), wafers.labels, fractions)


def split_by_keys(keys: NDArray[np.bytes_], labels: NDArray[np.uint8], fractions: Sequence[float]) -> NDArray[np.int8]:
    """`split_by_content` for maps of any sizes, given their keyed hashes (N,) and labels (N, C)."""
    check_fractions(fractions)
    split = np.full(len(keys), LEFT_OUT, np.int8)
    if not len(keys):
        return split
    patterns = np.unique(labels, axis=0, return_inverse=True)[1]
    rows = _undisputed(keys, patterns)
    rows = rows[np.argsort(patterns[rows], kind="stable")]
    for stratum in np.split(rows, np.flatnonzero(np.diff(patterns[rows])) + 1):
        cuts = np.cumsum([0, *counts(len(stratum), fractions)])
        for side, (start, end) in enumerate(pairwise(cuts)):
            split[stratum[start:end]] = side
    return split


def split_by_group(
    groups: NDArray[np.int64],
    keys: NDArray[np.bytes_],
    labels: NDArray[np.uint8],
    fractions: Sequence[float],
    seed: int,
) -> NDArray[np.int8]:
    """Split so that no group (a lot, say) is on two sides; identical maps are treated as in `split_by_content`.

    Groups are ordered by a hash of their number, keyed with the seed, and cut where the maps reach the fractions.

    Args:
        groups: (N,) the group of each map.
        keys: (N,) equal only where the maps are.
        labels: (N, C) bits.
        fractions: train, val, test, as in `split_by_content`.
        seed: another seed, another split.

    Returns:
        (N,) int8: 0 train, 1 val, 2 test, -1 left out.
    """
    check_fractions(fractions)
    names, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.argsort([blake2b(str(name).encode(), key=str(seed).encode()).digest() for name in names])
    middle = (np.cumsum(sizes[order]) - sizes[order] / 2) / len(groups)
    side = np.empty(len(names), np.int8)
    side[order] = np.minimum(np.searchsorted(np.cumsum(fractions), middle, side="right"), len(PARTS) - 1)
    split = np.full(len(groups), LEFT_OUT, np.int8)
    rows = _undisputed(keys, np.unique(labels, axis=0, return_inverse=True)[1])
    split[rows] = side[group[rows]]
    return split


def hide_labels(dataset: Dataset, labelled: float) -> Dataset:
    """Of each pattern's training maps, a share stays; the others become the part ``unlabelled``, chosen by content.

    A pattern with more than one map has at least one on either side.

    Args:
        labelled: the share, above 0; 1 changes nothing.
    """
    if labelled == 1:
        return dataset
    rows = np.flatnonzero(dataset.within("train"))
    train = dataset.wafers[rows]
    side = split_by_content(train, (labelled, 1 - labelled, 0), seed=0)
    split = dataset.split.copy()
    split[rows[side != 0]] = CODES[UNLABELLED]
    return replace(dataset, split=split, facts=dataset.facts | {"labelled": f"{labelled:g}"})


def _undisputed(keys: NDArray[np.bytes_], patterns: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first row of each content, in the order of the keys, but of those whose rows have different patterns."""
    keys, first, group = np.unique(keys, return_index=True, return_inverse=True)
    disputed = np.zeros(len(keys), bool)
    disputed[group[patterns != patterns[first[group]]]] = True
    return first[~disputed]


def content_keys(maps: NDArray[np.uint8], seed: int = 0) -> NDArray[np.bytes_]:
    """(N,) 16-byte keys, equal only where the maps are; BLAKE2b over each map's bytes, keyed with the seed."""
    key = str(seed).encode()
    rows = (row for piece in pieces(maps) for row in piece.reshape(len(piece), prod(piece.shape[1:])))
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
