"""Bins, numbers, names and places of dies, as the formats of wafer mappers and testers have them."""

import re
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from waferlab.errors import WaferlabError
from waferlab.formats.block import check_grid, lot_and_wafer


class Axes(NamedTuple):
    """How coordinates run: x to the `left`, else to the right; y `up`, else down."""

    left: bool = False
    up: bool = False

    def drawn(self, wafer: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A map (h, w), whose rows and columns are in the order of coordinates, with its top in row 0 and left in 0."""
        return wafer[:: -1 if self.up else 1, :: -1 if self.left else 1]


#: Where nothing says otherwise, as programs draw pictures.
RIGHT_DOWN: Final = Axes()


def plain(code: str) -> str:
    """A bin as bins compare: ``1``, ``01`` and ``1.0`` are one, ``0a`` and ``A`` too; a single character is itself."""
    return code if len(code) < 2 else re.sub(r"\.0*$", "", code).lstrip("0").upper() or "0"


def whole(text: str, where: str) -> int:
    """A whole number of at most nine digits.

    Args:
        where: the file, the place in it and what the number is, for the message of a `WaferlabError`.
    """
    digits = text.strip()
    if not digits.removeprefix("-").isdecimal() or len(digits) > 9:
        raise WaferlabError(f"{where} is {text[:40]!r}; expected a whole number of at most nine digits")
    return int(digits)


def ids(name: str) -> tuple[str, str]:
    """Lot and wafer of a name, to be written in a line of text.

    Raises:
        WaferlabError: the name has characters that no line of text can hold.
    """
    if not name.isprintable():
        raise WaferlabError(f"the wafer's name {name[:40]!r} can't be written; rename it without control characters")
    return lot_and_wafer(name)


def placed(
    x: NDArray[Any], y: NDArray[Any], states: NDArray[Any], where: str, axes: Axes = RIGHT_DOWN
) -> NDArray[np.uint8]:
    """The map (h, w) of dies at coordinates, from the smallest to the largest of each axis.

    Args:
        x: (N,) whole numbers, columns of at least one die.
        y: (N,) whole numbers, rows.
        states: (N,) die states; of a die listed twice, such as one that was tested again, the last one counts.
        where: the file and the place in it, for the message of a `WaferlabError` where dies lie too far apart.
        axes: which way the coordinates run.
    """
    rows, columns = (axis.astype(np.int64) - int(axis.min()) for axis in (y, x))
    height, width = int(rows.max()) + 1, int(columns.max()) + 1
    check_grid(height, width, f"{where}: x from {x.min()} to {x.max()} and y from {y.min()} to {y.max()}")
    wafer = np.zeros(height * width, np.uint8)
    places, last = np.unique((rows * width + columns)[::-1], return_index=True)  # numpy alone promises no order
    wafer[places] = states[::-1][last]
    return axes.drawn(wafer.reshape(height, width))
