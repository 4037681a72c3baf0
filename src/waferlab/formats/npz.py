"""Maps of one size as numpy keeps them: an array in a ``.npy`` file, or in a ``.npz`` archive."""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Final
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from waferlab.data.npz import Stored, stored_arrays
from waferlab.data.ragged import RaggedMaps
from waferlab.errors import WaferlabError
from waferlab.formats.block import PLACES_AT_ONCE, WAFERS_AT_ONCE, Block, Format, Reading, check_grid
from waferlab.wafer import FAIL
from waferlab.whole_file import whole_file

#: MixedWM38's name for its maps.
_MIXEDWM38: Final = "arr_0"


def read(path: Path, _: Reading) -> Iterator[Block]:
    """Maps (N, H, W), or one (H, W), of numbers of any type: 0 no die, 1 pass, 2 fail; named by their rows.

    A ``.npy`` file is read as it is. Of a ``.npz``, it is the array ``maps``, else ``arr_0``, in which a 3 is a fail
    as well (MixedWM38's file has the value in 214 places), else the only one that has three axes. Arrays in Fortran's
    order are held whole; of others, no more than a block is.

    Raises:
        WaferlabError: there is no such array, it holds something else, or the file is damaged.
    """
    stored = Stored(path) if path.suffix.lower() == ".npy" else _maps_of(path)
    if is_one := len(stored.shape) == 2:
        stored.check_shape("H", "W")
    else:
        stored.check_shape("N", "H", "W")
    height, width = stored.shape[-2:]
    check_grid(height, width, str(stored))
    highest = FAIL + 1 if stored.member == f"{_MIXEDWM38}.npy" else FAIL
    at_once = height if is_one else min(WAFERS_AT_ONCE, PLACES_AT_ONCE // (height * width))
    done = 0
    for rows in stored.rows(highest, at_once):
        maps = np.minimum(rows, FAIL).reshape(-1, height, width)
        yield Block([str(row) for row in range(done, done + len(maps))], RaggedMaps.of(maps))
        done += len(maps)


def write(blocks: Iterable[Block], path: Path) -> None:
    """One array (N, H, W) uint8, the only one of a ``.npy`` file, or ``maps`` of a deflated ``.npz``; without names.

    Raises:
        WaferlabError: there is no map, or the maps are of several sizes.
    """
    if path.suffix.lower() != ".npz":
        with whole_file(path) as file:
            _write(blocks, file, path)
        return
    with whole_file(path) as file, tempfile.TemporaryFile(dir=path.parent) as plain:
        _write(blocks, plain, path)  # in an archive, the number of maps couldn't be put before them afterwards
        plain.seek(0)
        with ZipFile(file, "w", ZIP_DEFLATED) as archive, archive.open("maps.npy", "w", force_zip64=True) as member:
            shutil.copyfileobj(plain, member)


@contextmanager
def growing(file: BinaryIO, *rest: int, dtype: str = "|u1") -> Iterator[Callable[[NDArray[Any]], None]]:
    """Adds rows, arrays (n, *rest), to an array in a ``.npy`` file; how many there are is known at the end."""
    count = 0

    def header() -> None:  # numpy leaves room for a number that grows
        npy.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": (count, *rest)})

    def add(rows: NDArray[Any]) -> None:
        nonlocal count
        file.write(np.ascontiguousarray(rows, dtype).data)
        count += len(rows)

    header()
    yield add
    file.seek(0)
    header()


def _write(blocks: Iterable[Block], file: BinaryIO, path: Path) -> None:
    wafers = chain.from_iterable(blocks)
    _, first = next(wafers, ("", None))
    if first is None:
        raise WaferlabError(f"{path}: there is no wafer to be written")
    with growing(file, *first.shape) as add:
        add(first[None])
        for name, each in wafers:
            if each.shape != first.shape:
                raise WaferlabError(
                    f"{path}: wafer {name} has {each.shape[0]} x {each.shape[1]} places, the first "
                    f"{first.shape[0]} x {first.shape[1]}; maps of several sizes go into the format store"
                )
            add(each[None])


def _maps_of(path: Path) -> Stored:
    """The array of an archive that holds the maps."""
    arrays = stored_arrays(path)
    for name in ("maps", _MIXEDWM38):
        if name in arrays:
            return arrays[name]
    found = [each for each in arrays.values() if len(each.shape) == 3]
    if len(found) != 1:
        raise WaferlabError(
            f"{path} has no array maps, and {len(found)} with three axes, not one; it holds: "
            f"{', '.join(sorted(arrays)) or 'none'}"
        )
    return found[0]


FORMAT: Final = Format(
    name="npz",
    suffixes=(".npz", ".npy"),
    recognises=lambda head: head.startswith((b"\x93NUMPY", b"PK\x03\x04")),
    read=read,
    write=write,
    has_bins=False,
)
