"""The domain: die states, the eight defects, the 38 patterns, encodings and dihedral views.

A wafer map is an (H, W) uint8 array of die states. A label is a row of bits, one per defect class.
Everything here is numpy, so that it also serves a machine without torch.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

NO_DIE: Final = 0
PASS: Final = 1
FAIL: Final = 2
STATES: Final = 3

#: The eight defects, in the order of MixedWM38's label bits (Wang et al. 2020).
DEFECTS: Final = ("Center", "Donut", "Edge-Loc", "Edge-Ring", "Loc", "Near-full", "Scratch", "Random")

#: The 38 patterns of MixedWM38 as superposed defects: none, 8 singles, 13 pairs, 12 triples, 4 quadruples.
PATTERNS: Final[tuple[tuple[str, ...], ...]] = (
    (),
    *((defect,) for defect in DEFECTS),
    *(
        (base, *rest)
        for rest in (("Edge-Loc",), ("Edge-Ring",), ("Loc",), ("Scratch",))
        for base in ("Center", "Donut")
    ),
    ("Edge-Loc", "Loc"),
    ("Edge-Loc", "Scratch"),
    ("Edge-Ring", "Loc"),
    ("Edge-Ring", "Scratch"),
    ("Loc", "Scratch"),
    *(
        (base, edge, *rest)
        for base in ("Center", "Donut")
        for edge in ("Edge-Loc", "Edge-Ring")
        for rest in (("Loc",), ("Scratch",))
    ),
    *((base, "Loc", "Scratch") for base in ("Center", "Donut")),
    *((edge, "Loc", "Scratch") for edge in ("Edge-Loc", "Edge-Ring")),
    *((base, edge, "Loc", "Scratch") for base in ("Center", "Donut") for edge in ("Edge-Loc", "Edge-Ring")),
)

#: Name of the encoding of images.
PIXELS: Final = "pixels"
#: Of red, green and blue on ImageNet, which pretrained networks were shown in these units.
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)

#: What each die state becomes at a model's input: rows are no die, pass, fail; columns are channels. With
#: ``pixels``, rows are the brightnesses of images.
ENCODINGS: Final[dict[str, NDArray[np.float32]]] = {
    "ordinal": np.array([[0], [0.5], [1]], np.float32),
    "signed": np.array([[0], [-1], [1]], np.float32),
    "die_fail": np.array([[0, 0], [1, 0], [1, 1]], np.float32),
    "one_hot": np.eye(STATES, dtype=np.float32),
    PIXELS: ((np.arange(256)[:, None] / 255 - _MEAN) / _DEVIATION).astype(np.float32),
}


def pattern_name(bits: NDArray[np.uint8], classes: tuple[str, ...] = DEFECTS) -> str:
    """Name of one label row, such as ``Center+Scratch``; ``Normal`` where no bit is set."""
    return "+".join(name for name, bit in zip(classes, bits, strict=True) if bit) or "Normal"


def pattern_labels() -> NDArray[np.uint8]:
    """The 38 patterns as label rows: (38, 8) uint8 of 0 and 1, in the order of `PATTERNS`."""
    return np.array([[defect in pattern for defect in DEFECTS] for pattern in PATTERNS], np.uint8)


def pattern_order(rows: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(P,) indices that sort label rows (P, C) as `PATTERNS` are: by number of defects, then by the first ones."""
    return np.lexsort((*(1 - rows.T[::-1]), rows.sum(1)))


def dihedral_indices(height: int, width: int) -> NDArray[np.int64]:
    """Flat pixel indices of the dihedral views of an (H, W) map, so that ``flat[:, indices[v]]`` is view ``v``.

    Returns (8, H*W) for square maps: the four rotations, then the four of the mirror image; view 0 is the map itself.
    For other shapes, (4, H*W): only the views that keep the shape.
    """
    grid = np.arange(height * width).reshape(height, width)
    turns = range(4) if height == width else (0, 2)
    views = [np.rot90(side, turn) for side in (grid, grid[:, ::-1]) for turn in turns]
    return np.stack([view.ravel() for view in views])
