"""Wafer maps and labels of one's own, as numpy arrays or as a folder for each pattern."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from waferlab.data.dataset import PARTS, Dataset, Wafers
from waferlab.data.npz import Stored, pick, reading, stored_arrays
from waferlab.data.split import LEFT_OUT, check_fractions, content_keys, split_by_content
from waferlab.errors import WaferlabError
from waferlab.wafer import FAIL

NORMAL = "Normal"
Labels = tuple[NDArray[np.uint8], tuple[str, ...]]  # (N, C) bits and the C names


def load(
    path: str, classes: Sequence[str] | None = None, fractions: Sequence[float] = (0.8, 0.1, 0.1), seed: int = 0
) -> Dataset:
    """Read maps and labels in one of three layouts.

    1. A ``.npz`` file with the arrays

       - ``maps``: (N, H, W) numbers, 0 no die, 1 pass, 2 fail;
       - ``labels``: (N, C) bits; or (N,) class numbers from 0, one class a map; or (N,) text, the defects of each map
         joined by ``+``, such as ``Center+Scratch``, or ``Normal`` for none;
       - ``classes``, optional: (C,) text, names of the C columns or class numbers;
       - ``split``, optional: (N,) text, ``train``, ``val`` or ``test``; used as it is;
       - ``masks``, optional: (N, H, W) numbers, bit c set where class c killed the die.

    2. A folder with the same arrays as ``maps.npy``, ``labels.npy`` and so on. Instead of ``labels.npy`` it may hold
       ``labels.csv``: a header with the class names, then one row of 0 and 1 for each map.
    3. A folder with a subfolder for each pattern, named like the text labels, that holds one ``.npy`` file of (H, W)
       numbers for each map.

    Args:
        path: the file or folder.
        classes: names of the classes in the order of the label bits, instead of the data's own. Without any, bits and
            class numbers are named ``class_0``, ``class_1``, …; text labels give their defects in alphabetical order.
        fractions: train, val, test, as in `split_by_content`; not used where the data brings its split.
        seed: of the split.

    Returns:
        All maps. Facts: ``left_out`` (duplicates, which are on no side of a split by content).

    Raises:
        WaferlabError: a file is missing, unreadable or not as described; the message names the file and the fault.
    """
    check_fractions(fractions)
    source = Path(path)
    if source.is_dir() and not (source / "maps.npy").exists():
        maps, labels, names = _read_pattern_folders(source, classes)
        wafers, split = Wafers(maps, labels, names), None
    elif source.exists():
        wafers, split = _read_arrays(source, classes)
    else:
        raise WaferlabError(f"{path} does not exist; give an npz file or a folder: dataset.path=…")
    if split is None:
        split = split_by_content(wafers, fractions, seed)
    return Dataset(wafers, split, "arrays", {"left_out": int(np.count_nonzero(split == LEFT_OUT))})


def _read_arrays(source: Path, classes: Sequence[str] | None) -> tuple[Wafers, NDArray[np.int8] | None]:
    arrays = {file.stem: Stored(file) for file in source.glob("*.npy")} if source.is_dir() else stored_arrays(source)
    maps = pick(arrays, "maps", source)
    maps.check_shape("N", "H", "W")
    if not classes and "classes" in arrays:
        classes = arrays["classes"].texts()
    table = source / "labels.csv"
    if "labels" not in arrays and table.is_file():
        labels, names = _read_table(table, maps.shape[0], classes)
    else:
        labels, names = _read_labels(pick(arrays, "labels", source), maps.shape[0], classes)
    masks = None
    if "masks" in arrays:
        if len(names) > 8:
            raise WaferlabError(
                f"{arrays['masks']} has a bit for each class, and 8 bits; there are {len(names)} classes"
            )
        arrays["masks"].check_shape(*maps.shape)
        masks = arrays["masks"].codes(highest=2 ** len(names) - 1)
    wafers = Wafers(maps.codes(highest=FAIL), labels, names, masks)
    return wafers, _read_split(arrays["split"], wafers.maps) if "split" in arrays else None


def _read_labels(stored: Stored, rows: int, classes: Sequence[str] | None) -> Labels:
    """Labels from bits, class numbers or text."""
    if len(stored.shape) != 1:
        stored.check_shape(rows, "C")
        names = _names(classes, stored.shape[1], str(stored))
        return stored.codes(highest=1), names
    stored.check_shape(rows)
    if stored.header.dtype.kind == "U":
        return _bits(stored.texts(), classes, str(stored))
    numbers = stored.codes(highest=len(classes) - 1 if classes else 255)
    names = _names(classes, len(classes) if classes else int(numbers.max()) + 1, str(stored))
    return np.eye(len(names), dtype=np.uint8)[numbers], names


def _read_table(table: Path, maps: int, classes: Sequence[str] | None) -> Labels:
    """Labels from a CSV file with one column for each class."""
    with reading(str(table)), table.open(encoding="utf-8-sig", newline="") as file:
        header, *rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row] or [[]]
    if len(rows) != maps:
        raise WaferlabError(f"{table} has {len(rows)} rows below its header, but there are {maps} maps")
    for number, row in enumerate(rows):
        if len(row) != len(header) or not set(row) <= {"0", "1"}:
            raise WaferlabError(
                f"{table} holds {','.join(row)!r} in row {number}; expected 0 or 1 {len(header)} times, "
                "with commas between"
            )
    return np.array(rows, np.uint8), _names(classes or header, len(header), str(table))


def _read_pattern_folders(
    source: Path, classes: Sequence[str] | None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], tuple[str, ...]]:
    files = [Stored(file) for file in sorted(source.glob("*/*.npy"))]
    if not files:
        raise WaferlabError(f"{source} holds neither maps.npy nor a subfolder for each pattern with .npy files in it")
    unread = sorted({*source.rglob("*.np[yz]")} - {file.path for file in files})
    if unread:
        raise WaferlabError(f"{unread[0]} would not be read: a map is one file {source}/PATTERN/NAME.npy")
    files[0].check_shape("H", "W")
    for file in files:
        if file.shape != files[0].shape:
            raise WaferlabError(
                f"{file} has shape {file.shape}, {files[0]} has {files[0].shape}; all maps of a folder have one size"
            )
    labels, names = _bits([file.path.parent.name for file in files], classes, str(source))
    return np.stack([file.codes(highest=FAIL) for file in files]), labels, names


def _bits(patterns: Sequence[str], classes: Sequence[str] | None, where: str) -> Labels:
    """Labels from pattern names such as ``Center+Scratch``."""
    defects = [set() if _is_normal(pattern) else set(pattern.split("+")) for pattern in patterns]
    for row, (pattern, each) in enumerate(zip(patterns, defects, strict=True)):
        if not all(map(_is_name, each)):
            raise WaferlabError(
                f"{where} holds the pattern {pattern!r} (map {row}); a pattern is {NORMAL}, or defects joined by '+', "
                "without blanks around them"
            )
    names = tuple(classes or sorted(set().union(*defects)))
    if not names:
        raise WaferlabError(f"{where}: every map is {NORMAL}; name the classes there could be with dataset.classes=[…]")
    for pattern, each in zip(patterns, defects, strict=True):
        if not each <= set(names):
            raise WaferlabError(f"{where} holds the pattern {pattern!r}, but the classes are {', '.join(names)}")
    return np.array([[name in each for name in names] for each in defects], np.uint8), _names(names, len(names), where)


def _names(classes: Sequence[str] | None, count: int, where: str) -> tuple[str, ...]:
    """As many class names as there are label columns."""
    names = tuple(classes or (f"class_{column}" for column in range(count)))
    if len(names) != count or len(set(names)) < count or not all(map(_is_name, names)):
        raise WaferlabError(
            f"{where} needs {count} different class names, none empty or {NORMAL}, without '+' and outer blanks; got "
            f"{list(names)}"
        )
    return names


def _is_name(text: str) -> bool:
    """Names a defect in tables, where ``+`` joins several, and ``Normal`` stands for none."""
    return text != "" and not _is_normal(text) and "+" not in text and text == text.strip()


def _is_normal(text: str) -> bool:
    return text.lower() == NORMAL.lower()


def _read_split(stored: Stored, maps: NDArray[np.uint8]) -> NDArray[np.int8]:
    """The data's own split, refused if one map is on two of its sides."""
    stored.check_shape(len(maps))
    sides = stored.texts()
    for row, side in enumerate(sides):
        if side not in PARTS:
            raise WaferlabError(f"{stored} holds {side!r} in row {row}; expected {', '.join(PARTS)}")
    split = np.array([PARTS.index(side) for side in sides], np.int8)
    _, first, group = np.unique(content_keys(maps), return_index=True, return_inverse=True)
    leaks = np.flatnonzero(split != split[first[group]])
    if leaks.size:
        row, twin = leaks[0], first[group][leaks[0]]
        raise WaferlabError(
            f"{stored} puts one map on two sides: rows {twin} ({sides[twin]}) and {row} ({sides[row]}) are equal, "
            f"{leaks.size} such rows in all; leave copies out, or leave the array out to have the maps split by content"
        )
    return split
