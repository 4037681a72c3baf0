"""Wafer maps as fabs have them: one module a format, all of them listed here.

Nothing here needs torch.
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Final

from waferlab.data.npz import reading as faults
from waferlab.errors import WaferlabError
from waferlab.formats import die_list, e142, g85, lswmd, npz, png, sinf, stdf, store
from waferlab.formats.block import Block, Format, Reading, Wafer, in_blocks
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
_ANYTHING: Final = (".csv", ".txt", ".xml")  # suffixes of files that may have nothing to do with wafers


def read(path: Path, name: str | None = None, reading: Reading | None = None) -> Iterator[Block]:
    """The wafers of a file, or of all files of a folder, block by block.

    A folder is a store, if it is one, or else its files, also those of subfolders, are read one after another, sorted
    by path; files of no known format are left out, and named on standard error. A wafer that its file only numbers, or
    names as itself, is named there after the file: ``lot7/maps/0``, ``lot7/w3``.

    Args:
        path: of the file or folder.
        name: of the format; None: by suffix and content.
        reading: what the file doesn't say itself.

    Raises:
        WaferlabError: there is no such file or format, or a file is damaged.
    """
    reading = reading or Reading()
    if name is not None and name not in FORMATS:
        raise WaferlabError(f"there is no format {name!r}; there are: {_all()}")
    if not path.exists():
        raise WaferlabError(f"{path} is no file or folder; say where the wafer maps are")
    if path.is_dir() and not store.is_store(path):
        return in_blocks(_wafers(path, name, reading), path)
    if (found := FORMATS[name] if name else _format_of(path)) is None:
        raise WaferlabError(f"{path} is of no known format; say which it has. There are: {_all()}")
    return found.read(path, reading)


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


def _wafers(folder: Path, name: str | None, reading: Reading) -> Iterator[Wafer]:
    """Those of all files and stores in a folder."""
    stores, left_out = set[Path](), list[str]()
    for path in sorted(folder.rglob("*")):
        is_part = path.parent in stores or path.name.startswith(".")
        if is_part or (path.is_dir() and not store.is_store(path)):
            continue
        if path.is_dir():
            stores.add(path)
        place, found = path.relative_to(folder), _format_of(path, name)
        if found is None or (path.suffix.lower() in _ANYTHING and not found.recognises(_head(path))):
            left_out.append(str(place))
            continue
        place = place if path.is_dir() else place.with_suffix("")
        yield from ((_called(wafer, place), each) for wafer, each in chain.from_iterable(found.read(path, reading)))
    if left_out:
        some = ", ".join(left_out[:5]) + ", …" * (len(left_out) > 5)
        note(f"left out of {folder}, as of {f'another format than {name}' if name else 'no known format'}: {some}")


def _called(wafer: str, file: Path) -> str:
    """What a wafer is called beside those of other files."""
    return file.as_posix() if wafer == file.name else f"{file.as_posix()}/{wafer}" if wafer.isdecimal() else wafer


def _head(path: Path) -> bytes:
    with faults(str(path)), path.open("rb") as file:
        return file.read(_HEAD)


def _all() -> str:
    return ", ".join(f"{each.name} ({' '.join(each.suffixes) or 'a folder'})" for each in FORMATS.values())
