"""Wafer maps as fabs have them: one module a format, all of them listed here.

Nothing here needs torch.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from waferlab.data.npz import reading as faults
from waferlab.errors import Bad, WaferlabError
from waferlab.formats import die_list, e142, g85, lswmd, npz, png, sinf, stdf, store
from waferlab.formats.block import Block, Format, Reading, check_size
from waferlab.formats.folder import Folder
from waferlab.progress import note

#: All formats, by name.
FORMATS: dict[str, Format] = {
    each.name: each
    for each in (
        *(npz.FORMAT, lswmd.FORMAT, store.FORMAT, die_list.FORMAT, png.FORMAT),
        *(e142.FORMAT, g85.FORMAT, sinf.FORMAT, stdf.FORMAT),
    )
}

_HEAD: Final = 4096  # bytes that a format is recognised by
_ANYTHING: Final = (".csv", ".tsv", ".txt", ".xml")  # suffixes of files that may have nothing to do with wafers


def read(path: Path, name: str | None = None, reading: Reading | None = None, bad: Bad = "refuse") -> Iterator[Block]:
    """The wafers of a file, or of all files of a folder, block by block.

    A folder is a store, if it is one, or else its files, also those of subfolders, are read one after another, sorted
    by path; files of no known format are left out, and named on standard error. A wafer that its file only numbers, or
    names as itself, is named there after the file: ``lot7/maps/0``, ``lot7/w3``. What is remarkable of how wafers lie
    is said there at the end.

    Args:
        path: of the file or folder.
        name: of the format; None: by suffix and content.
        reading: what the file doesn't say itself.
        bad: of a folder: ``refuse`` it for a file that can't be read, or ``skip`` such files and name them at the end.

    Raises:
        WaferlabError: there is no such file or format, or a file is damaged.
    """
    reading = reading or Reading()
    if name is not None and name not in FORMATS:
        raise WaferlabError(f"there is no format {name!r}; there are: {_all()}")
    if not (path.is_file() or path.is_dir()):
        fault = "is neither a file nor a folder" if path.exists() else "doesn't exist"
        raise WaferlabError(f"{path} {fault}; say where the wafer maps are")
    if path.is_dir() and not store.is_store(path):
        return _told(Folder(path, partial(_format_in_folder, name=name), name, reading, bad).blocks(), reading)
    check_size(path)
    if (found := FORMATS[name] if name else _format_of(path)) is None:
        raise WaferlabError(f"{path} is of no known format; say which it has: format=…. There are: {_all()}")
    reading.note_if_idle([found])
    return _told(found.read(path, reading), reading)


def _told(blocks: Iterator[Block], reading: Reading) -> Iterator[Block]:
    """The same blocks; behind them, what was found in them is said."""
    yield from blocks
    for line in reading.remarks.lines():
        note(line)


def _format_in_folder(path: Path, name: str | None) -> Format | None:
    """The format of a file among others, which may have nothing to do with wafers."""
    found = _format_of(path, name)
    is_doubtful = found is not None and path.suffix.lower() in _ANYTHING and not found.recognises(_head(path))
    return None if is_doubtful else found


def _format_of(path: Path, name: str | None = None) -> Format | None:
    """The format of a file or store by suffix, and by content where several have that suffix; or the one asked for."""
    if path.is_dir():
        found = [store.FORMAT]
    else:
        found = [each for each in FORMATS.values() if path.name.lower().endswith(each.suffixes)]
    if name is not None:
        return next((each for each in found if each.name == name), None)
    if len(found) < 2:
        return found[0] if found else None
    return next((each for each in found if each.recognises(_head(path))), None)


def _head(path: Path) -> bytes:
    with faults(str(path)), path.open("rb") as file:
        return file.read(_HEAD)


def _all() -> str:
    return ", ".join(f"{each.name} ({' '.join(each.suffixes) or 'a folder'})" for each in FORMATS.values())
