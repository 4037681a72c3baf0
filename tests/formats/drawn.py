"""Wafers drawn by hand, and those that were read, for tests of formats."""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from waferlab.formats.block import Block

Map = NDArray[np.uint8]


def grid(*rows: str) -> Map:
    """A map drawn with a digit a die."""
    return np.array([[int(die) for die in row] for row in rows], np.uint8)


def block(wafers: Mapping[str, Map]) -> Block:
    """Wafers by name."""
    return Block.of(list(wafers), list(wafers.values()))


def drawn(blocks: Iterable[Block]) -> dict[str, list[str]]:
    """The rows of digits of each wafer by name; refuses two of one name."""
    wafers = [wafer for each in blocks for wafer in each]
    found = {name: ["".join(map(str, row)) for row in states.tolist()] for name, states in wafers}
    assert len(found) == len(wafers)
    assert all(states.dtype == np.uint8 for _, states in wafers)
    return found
