"""WM-811K: 811,457 real wafer maps of many sizes, 172,950 labelled (Wu, Jang, Chen, IEEE TSM 28(1), 2015)."""

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock
from numpy.lib import format as npy
from numpy.typing import NDArray

from waferlab.data.dataset import PARTS, Dataset, Wafers
from waferlab.data.pickled_frame import Column, read_columns
from waferlab.data.ragged import RaggedMaps, Resize, content_keys_of, resized, write
from waferlab.data.split import LEFT_OUT, check_fractions, split_by_group, split_by_keys
from waferlab.errors import ConfigError, WaferlabError
from waferlab.progress import progress, say
from waferlab.wafer import DEFECTS, FAIL
from waferlab.whole_file import whole_file

#: Label codes in the store: a defect's place in `DEFECTS`, or one of these.
NONE, UNLABELLED = -1, -2
_CODES = {name.lower(): code for code, name in enumerate(DEFECTS)} | {"none": NONE, "": UNLABELLED}
TEST = 1
_SIDES = {"": -1, "training": 0, "test": TEST}

_BLOCK = 8192  # maps
#: Of the cache; to be raised when what is in it changes, so that older ones aren't read.
_LAYOUT = 1


def load(
    path: str,
    cache: str,
    size: int = 52,
    resize: Resize = "keep",
    split: Literal["auto", "official", "lot", "content"] = "auto",
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    seed: int = 0,
) -> Dataset:
    """Read the labelled maps of the public ``LSWMD.pkl``, or of a part of it in the same layout.

    The pickle is read once, by a reader that runs nothing it names, and kept as plain arrays in the cache; from then on
    a start takes a second. Columns: ``waferMap``, ``failureType``, and where there are such ``lotName`` and
    ``trianTestLabel`` (as the public file spells it) or ``trainTestLabel``.

    Args:
        path: the pickle.
        cache: folder for the arrays made from it.
        size: height and width of the maps that networks see; the maps' own sizes stay beside them.
        resize: how they come to it: ``keep``, ``nearest`` or ``area``, as `waferlab.data.ragged.resized` has it.
        split: ``official`` (its test part; validation is cut from its training part by lot), ``lot`` (no lot on two
            sides), ``content`` (no map on two sides), or ``auto``: by lot where lots are known, else by content.
        fractions: train, val, test.
        seed: of the split.

    Raises:
        WaferlabError: the file is missing, would run code, or is not what it should be; or the split needs a column
            that it doesn't have.
    """
    check_fractions(fractions)
    home = _converted(Path(path), Path(cache))
    codes = np.load(home / "labels.npy")
    rows = np.flatnonzero(codes != UNLABELLED)
    native = RaggedMaps.read(home).only(rows)
    labels = (codes[rows, None] == np.arange(len(DEFECTS))).astype(np.uint8)
    wafers = Wafers(_resized(home, native, size, resize), labels, DEFECTS, native=native, resize=resize)
    lots, official = (
        np.load(file)[rows] if (file := home / f"{name}.npy").exists() else None for name in ("lots", "official")
    )
    if split == "auto":
        split = "content" if lots is None else "lot"
    sides = _sides(split, _keys(home, native, seed), labels, lots, official, fractions, seed)
    facts: dict[str, str | int] = {
        "resize": resize,
        "split_by": split,
        "unlabelled": len(codes) - len(rows),
        "left_out": int(np.count_nonzero(sides == LEFT_OUT)),
    }
    return Dataset(wafers, sides, "wm811k", facts)


def _sides(
    split: str,
    keys: NDArray[np.bytes_],
    labels: NDArray[np.uint8],
    lots: NDArray[np.int64] | None,
    official: NDArray[np.int8] | None,
    fractions: Sequence[float],
    seed: int,
) -> NDArray[np.int8]:
    if split == "content":
        return split_by_keys(keys, labels, fractions)
    if lots is None:
        raise WaferlabError(f"dataset.split={split}: this file has no column lotName, or one lot alone; choose content")
    if split == "lot":
        return split_by_group(lots, keys, labels, fractions, seed)
    if official is None or not (official == TEST).any():
        raise WaferlabError(
            "dataset.split=official: this file's column trianTestLabel names no test wafers; choose lot"
        )
    learn = sum(fractions[:2])
    if not learn:
        raise ConfigError("dataset.split=official: fractions are those of its training part; give train or val a share")
    sides = split_by_group(lots, keys, labels, (fractions[0] / learn, fractions[1] / learn, 0), seed)
    sides[(official == TEST) & (sides != LEFT_OUT)] = PARTS.index("test")
    sides[official < 0] = LEFT_OUT
    return sides


def _resized(home: Path, native: RaggedMaps, size: int, resize: Resize) -> NDArray[np.uint8]:
    """The labelled maps at one size."""
    blocks = _blocks(f"resizing maps to {size}x{size}", native)
    made = (resized(block, (size, size), resize) for block in blocks)
    return _stored(home / f"{resize}-{size}x{size}.npy", "|u1", (len(native), size, size), made)


def _keys(home: Path, native: RaggedMaps, seed: int) -> NDArray[np.bytes_]:
    """What tells the labelled maps apart."""
    made = (content_keys_of(block, seed) for block in _blocks("comparing maps", native))
    return _stored(home / f"keys-{seed}.npy", "|S16", (len(native),), made)


def _blocks(what: str, maps: RaggedMaps) -> Iterator[RaggedMaps]:
    """Some thousands of maps that lie together on the disk, and the next, with a bar of those that are done."""
    with progress(what, len(maps)) as bar:
        for start in range(0, len(maps), _BLOCK):
            block = maps.only(slice(start, start + _BLOCK))
            yield block
            bar.advance(len(block))


def _stored(file: Path, dtype: str, shape: tuple[int, ...], blocks: Iterable[NDArray[Any]]) -> NDArray[Any]:
    """An array made once, of blocks of it, that stays on the disk until it is used."""
    if not file.exists():
        with whole_file(file) as stream:
            npy.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
            for block in blocks:
                stream.write(block.data)
    return np.asarray(np.load(file, mmap_mode="c"))


def _converted(path: Path, cache: Path) -> Path:
    """The folder of arrays made from this pickle, by this process or an earlier one."""
    if not path.is_file():
        raise WaferlabError(
            f"{path} is no file. Get LSWMD.pkl of WM-811K (Wu, Jang, Chen: 'Wafer map failure pattern recognition and "
            "similarity ranking for large-scale data sets', 2015; mirlab.org/dataset/public), then say where it is: "
            "dataset.path=…"
        )
    facts = path.stat()
    home = cache / f"{path.stem}-{facts.st_size}-{facts.st_mtime_ns}-v{_LAYOUT}"
    cache.mkdir(parents=True, exist_ok=True)
    if not home.exists():
        say(f"{path.name} becomes plain arrays, once")
    with FileLock(home.with_suffix(".lock")):
        if not home.exists():
            with tempfile.TemporaryDirectory(dir=cache) as folder:
                _convert(path, Path(folder))
                os.rename(folder, home)  # whole, or not there
    return home


def _convert(path: Path, folder: Path) -> None:
    columns = read_columns(path)
    maps = _column(columns, path, "waferMap")
    for row, each in enumerate(maps):
        if not isinstance(each, np.ndarray) or each.ndim != 2 or each.dtype != np.uint8 or not each.size:
            raise WaferlabError(f"{path}: waferMap in row {row} is no map of uint8 die states")
    write(maps, folder)
    highest = max(int(each.max()) for each in maps)
    if highest > FAIL:
        raise WaferlabError(f"{path}: waferMap holds the die state {highest}; expected 0 no die, 1 pass, 2 fail")
    np.save(folder / "labels.npy", _codes(_column(columns, path, "failureType"), _CODES, f"{path}: failureType"))
    official = columns.get("trianTestLabel", columns.get("trainTestLabel"))
    if official is not None:
        np.save(folder / "official.npy", _codes(official, _SIDES, f"{path}: trianTestLabel"))
    if "lotName" in columns:
        names, lots = np.unique([str(lot) for lot in columns["lotName"]], return_inverse=True)
        if len(names) > 1:
            np.save(folder / "lots.npy", lots)


def _column(columns: dict[str, Column], path: Path, name: str) -> Column:
    if name not in columns:
        raise WaferlabError(f"{path} has no column {name}; it has {', '.join(sorted(columns))}")
    return columns[name]


def _codes(column: Column, codes: dict[str, int], where: str) -> NDArray[np.int8]:
    """Codes of nested texts, whatever their case."""
    made = np.empty(len(column), np.int8)
    for row, value in enumerate(column):
        text = _text(value)
        if text.lower() not in codes:
            raise WaferlabError(
                f"{where} holds {text[:40]!r} in row {row}; expected one of {', '.join(filter(None, codes))}"
            )
        made[row] = codes[text.lower()]
    return made


def _text(value: Any) -> str:
    """The text in nested arrays such as ``[['none']]``; empty where there is none."""
    while isinstance(value, (np.ndarray, list, tuple)):
        if len(value) == 0:
            return ""
        value = value[0]
    return str(value)
