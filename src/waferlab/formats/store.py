"""The compact store: a folder with all dies in one flat array, as `waferlab.data.ragged` keeps maps of many sizes."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from waferlab.data.npz import Stored, reading, texts_of
from waferlab.data.ragged import RaggedMaps
from waferlab.errors import WaferlabError
from waferlab.formats.block import MOST_PLACES, WAFERS_AT_ONCE, Block, Format, Reading, check_grid, check_states
from waferlab.formats.npz import growing

_DIES: Final = "dies.npy"
_SHAPES: Final = "shapes.npy"
_NAMES: Final = "names.npy"


def is_store(folder: Path) -> bool:
    """Whether a folder is a store, rather than one of files."""
    return (folder / _DIES).is_file()


def read(path: Path, _: Reading) -> Iterator[Block]:
    """Maps of a folder with these arrays:

    - ``dies.npy``: (sum of all sizes,) uint8 die states, map after map, each row by row;
    - ``shapes.npy``: (N, 2) whole numbers, height and width of each map;
    - ``names.npy``, where they aren't the rows: (N,) text.

    Dies are read block by block, not mapped into memory, which they would fill; of shapes and names the system may keep
    in memory what it has read.

    Raises:
        WaferlabError: an array is missing or damaged, or they contradict each other.
    """
    dies, shapes = _mapped(path / _DIES), _mapped(path / _SHAPES)
    if shapes.dtype.kind not in "iu" or shapes.ndim != 2 or shapes.shape[1] != 2 or not len(shapes):
        raise WaferlabError(
            f"{path / _SHAPES} holds {shapes.dtype} of shape {shapes.shape}; expected whole numbers of (N, 2)"
        )
    blocks = [slice(start, start + WAFERS_AT_ONCE) for start in range(0, len(shapes), WAFERS_AT_ONCE)]
    total = sum(int(_shapes(shapes, rows, path / _SHAPES).prod(1).sum()) for rows in blocks)
    if dies.dtype != np.uint8 or dies.shape != (total,):
        raise WaferlabError(
            f"{path / _DIES} holds {dies.dtype} of shape {dies.shape}; expected uint8 of ({total},), by {_SHAPES}"
        )
    place = (path / _DIES).stat().st_size - total
    names = _names(path / _NAMES, len(shapes))
    for rows in blocks:
        sides = _shapes(shapes, rows, path / _SHAPES)
        ends = np.cumsum(sides.prod(1))
        some, last = np.fromfile(path / _DIES, np.uint8, int(ends[-1]), offset=place), rows.start + len(sides)
        check_states(some, f"{path / _DIES}: one of the maps {rows.start} to {last - 1}")
        place += len(some)
        with reading(str(path / _NAMES)):
            called = (
                map(str, range(rows.start, last)) if names is None else texts_of(names[rows].tobytes(), names.dtype)
            )
        yield Block(list(called), RaggedMaps(some, sides, ends - sides.prod(1)))


def write(blocks: Iterable[Block], path: Path) -> None:
    """The arrays, in a folder that mustn't be there yet; it appears when it is whole.

    Raises:
        WaferlabError: there is such a folder or file.
    """
    if path.exists():
        raise WaferlabError(f"{path} is there already; give the store another name, or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as hidden:  # only its owner may read it, unlike what is in it
        folder = Path(hidden) / path.name
        folder.mkdir()
        names, shapes = _write_dies(blocks, folder / _DIES)
        np.save(folder / _SHAPES, np.array(shapes, np.int32))
        if names != [str(row) for row in range(len(names))]:
            np.save(folder / _NAMES, np.array(names))
        os.rename(folder, path)


def _write_dies(blocks: Iterable[Block], path: Path) -> tuple[list[str], list[tuple[int, ...]]]:
    """Writes the dies, and says the names and shapes."""
    names, shapes = list[str](), list[tuple[int, ...]]()
    with path.open("wb") as file, growing(file) as add:
        for name, each in chain.from_iterable(blocks):
            add(each.ravel())
            names.append(name)
            shapes.append(each.shape)
    return names, shapes


def _shapes(found: NDArray[Any], rows: slice, path: Path) -> NDArray[np.int64]:
    """(n, 2) sides of some of the maps."""
    shapes = found[rows].astype(np.int64)
    wrong = ((shapes < 1) | (shapes > MOST_PLACES)).any(1) | (shapes.prod(1) > MOST_PLACES)
    if wrong.any():
        row = int(wrong.argmax())
        check_grid(int(shapes[row, 0]), int(shapes[row, 1]), f"{path}: map {rows.start + row}")
    return shapes


def _names(path: Path, count: int) -> NDArray[Any] | None:
    """(N,) text; None if the maps have no names but their rows."""
    if not path.exists():
        return None
    names = _mapped(path)
    if names.dtype.kind != "U" or names.shape != (count,):
        raise WaferlabError(f"{path} holds {names.dtype} of shape {names.shape}; expected text of ({count},)")
    return names


def _mapped(path: Path) -> NDArray[Any]:
    """An array that stays on the disk; checked to be one of numbers or text, and to be whole."""
    _ = Stored(path).header
    with reading(str(path)):
        return np.asarray(np.load(path, mmap_mode="r"))


FORMAT: Final = Format(name="store", suffixes=(), recognises=lambda _: False, read=read, write=write, has_bins=False)
