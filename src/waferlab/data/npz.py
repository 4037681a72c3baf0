"""Arrays in ``.npy`` and ``.npz`` files that a stranger may have written: checked, read in blocks, never unpickled."""

import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import IO, Literal, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from waferlab.errors import WaferlabError

BLOCK = 1 << 20  # elements

#: What zipfile and numpy are known to raise on damaged files; the second row on broken headers.
DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError),
    *(tokenize.TokenError, SyntaxError, TypeError),
)


class Header(NamedTuple):
    """What an array's file says of itself."""

    shape: tuple[int, ...]
    order: Literal["C", "F"]
    dtype: np.dtype[np.generic]


@dataclass(frozen=True)
class Stored:
    """One array on disk, not read yet: a ``.npy`` file, or a member of a ``.npz``.

    Reading anything of it raises a `WaferlabError` that names the file and the fault where there is one.
    """

    path: Path
    member: str | None = None

    def __str__(self) -> str:
        """The file and, in a ``.npz``, the array's name."""
        return str(self.path) if self.member is None else f"{self.path}: {self.member.removesuffix('.npy')}"

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self.header.shape

    @cached_property
    def header(self) -> Header:
        """Shape, order and dtype, believed only if the file holds as many bytes as they claim."""
        with self._open() as (stream, header, size):
            held = size - stream.tell()
        shape, _, dtype = header
        if dtype.hasobject:
            raise WaferlabError(
                f"{self} holds Python objects, which could run code when loaded; save plain numbers or text instead"
            )
        if min(shape, default=0) < 0 or not dtype.itemsize or prod(shape) * dtype.itemsize != held:
            raise WaferlabError(f"{self} claims shape {shape} of {dtype} but holds {held:,} bytes; the file is damaged")
        return header

    def check_shape(self, *expected: int | str) -> None:
        """Refuse any other shape; a string, such as ``"N"``, stands for any length above 0."""
        pairs = list(zip(self.shape, expected, strict=False))
        fits = [length == wanted if isinstance(wanted, int) else length > 0 for length, wanted in pairs]
        if len(self.shape) != len(expected) or not all(fits):
            wanted = ", ".join(str(length) for length in expected)
            no_rows = ", so no rows" if self.shape[:1] == (0,) else ""
            raise WaferlabError(f"{self} has shape {self.shape}{no_rows}; expected ({wanted})")

    def codes(self, highest: int) -> NDArray[np.uint8]:
        """The array as uint8, whatever type its numbers have; all must be whole and from 0 to `highest`.

        Truth values can't say more than 0 and 1, and so are refused where there is more to say.

        Peak memory is one byte per element and a block: the array never exists whole in its stored type.
        """
        shape, order, _ = self.header
        codes, done = np.empty(prod(shape), np.uint8), 0
        for block in self._codes(highest, BLOCK):
            codes[done : done + block.size] = block
            done += block.size
        return codes.reshape(shape, order=order)

    def rows(self, highest: int, at_once: int) -> Iterator[NDArray[np.uint8]]:
        """The same, at most `at_once` rows (n, …) at a time, in memory for these alone.

        Only in Fortran's order, which numpy writes if the array has it, a row lies scattered over the file, and the
        array is read whole.
        """
        shape, order, _ = self.header
        if order == "F":
            try:
                codes = self.codes(highest)
            except MemoryError as error:
                raise WaferlabError(
                    f"{self} is larger than the memory; save it in C's order, which is read in parts"
                ) from error
            yield from (codes[start : start + at_once] for start in range(0, len(codes), at_once))
        else:
            blocks = self._codes(highest, at_once * prod(shape[1:]))
            yield from (block.reshape(-1, *shape[1:]) for block in blocks)

    def _codes(self, highest: int, at_once: int) -> Iterator[NDArray[np.uint8]]:
        """The checked codes, so many at a time, in the order of the file."""
        shape, order, dtype = self.header
        expected, size = f"expected whole numbers from 0 to {highest}", prod(shape)
        if dtype.kind not in "biuf" or (dtype.kind == "b" and highest > 1):
            raise WaferlabError(f"{self} holds {dtype}; {expected}")
        with self._open() as (stream, _, _):
            for start in range(0, size, at_once):
                values = np.frombuffer(_read(stream, min(at_once, size - start) * dtype.itemsize), dtype)
                valid = (values >= 0) & (values <= highest)
                if dtype.kind == "f":
                    valid &= values == np.floor(values)
                if not valid.all():
                    wrong = int(np.argmin(valid))
                    row = np.unravel_index(start + wrong, shape, order)[0]
                    raise WaferlabError(f"{self} holds {values[wrong]} in row {row}; {expected}")
                yield values.astype(np.uint8)

    def texts(self) -> list[str]:
        """The strings of a one-dimensional array of text."""
        shape, _, dtype = self.header
        if dtype.kind != "U" or len(shape) != 1:
            raise WaferlabError(f"{self} holds {dtype} of shape {shape}; expected one row of text")
        with self._open() as (stream, _, _):
            return texts_of(_read(stream, shape[0] * dtype.itemsize), dtype)

    @contextmanager
    def _open(self) -> Iterator[tuple[IO[bytes], Header, int]]:
        """The array's bytes from behind its header, the header, and the size of both."""
        with reading(str(self)):
            if self.member is None:
                with self.path.open("rb") as stream:
                    yield stream, _read_header(stream), self.path.stat().st_size
            else:
                with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as stream:
                    yield stream, _read_header(stream), archive.getinfo(self.member).file_size


def texts_of(data: bytes, dtype: np.dtype[np.generic]) -> list[str]:
    """The strings that an array of text holds as bytes, which numpy itself would take for strings whatever they are.

    Raises:
        UnicodeDecodeError: they are none.
    """
    text, width = data.decode("utf-32-be" if dtype.str.startswith(">") else "utf-32-le"), dtype.itemsize // 4
    return [text[start : start + width].rstrip("\0") for start in range(0, len(text), width)]


def stored_arrays(path: Path) -> dict[str, Stored]:
    """The arrays of a ``.npz`` file by name."""
    with reading(str(path)), path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            file.seek(0)
            cut_short = file.read(4) == b"PK\x03\x04"
            fault = "is cut short: copy or download it again" if cut_short else "is no npz file (not a zip archive)"
            raise WaferlabError(f"{path} {fault}")
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
    return {name.removesuffix(".npy"): Stored(path, name) for name in names}


def pick(arrays: dict[str, Stored], name: str, path: Path) -> Stored:
    """The array of that name; a `WaferlabError` that lists the others if it is missing."""
    if name not in arrays:
        raise WaferlabError(f"{path} has no array {name!r}; it holds: {', '.join(sorted(arrays)) or 'none'}")
    return arrays[name]


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Turn what a damaged or unreadable file raises into a `WaferlabError` that starts with `where`."""
    try:
        yield
    except OSError as error:
        raise WaferlabError(f"{where} cannot be read: {error.strerror or error}") from error
    except DAMAGE as error:
        raise WaferlabError(f"{where} is damaged or in another format: {error}") from error


def _read_header(stream: IO[bytes]) -> Header:
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"format {version} is for structured arrays only")
    parse = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = parse(stream)
    return Header(shape, "F" if fortran else "C", dtype)


def _read(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError("it ends too early")
    return data
