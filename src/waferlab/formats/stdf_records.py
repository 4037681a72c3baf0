"""The records of STDF V4, whatever they say: a length, a type and a subtype, then so many bytes of data.

Source: Standard Test Data Format Specification, version 4 (Teradyne).
"""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from struct import Struct, pack
from typing import BinaryIO, Final, Literal

from waferlab.data import npz
from waferlab.errors import WaferlabError

#: REC_TYP and REC_SUB.
Kind = tuple[int, int]
#: Of bytes in a number, as in formats of `struct`.
Order = Literal["<", ">"]

FAR, MIR, MRR, PCR = (0, 10), (1, 10), (1, 20), (1, 30)
WIR, WRR, WCR, PIR, PRR = (2, 10), (2, 20), (2, 30), (5, 10), (5, 20)

_ORDERS: Final[dict[bytes, Order]] = {b"\x02\x00\x00\x0a": "<", b"\x00\x02\x00\x0a": ">"}  # by the header of FAR
_FAR_SIZE: Final = 6  # its header, CPU_TYPE and STDF_VER
_TYPES: Final = frozenset((0, 1, 2, 5, 10, 15, 20, 50, *range(180, 256)))  # those from 180 on are testers' own
_GZIP: Final = b"\x1f\x8b"


def is_stdf(head: bytes) -> bool:
    """Whether a file that begins with these bytes begins with FAR, perhaps packed by gzip."""
    if head.startswith(_GZIP):
        try:
            head = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, 4)
        except zlib.error:
            return False
    return head[:4] in _ORDERS


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """A file's bytes, unpacked while they are read if gzip has packed them.

    Raises:
        WaferlabError: they can't be read or unpacked.
    """
    with npz.reading(str(path)), path.open("rb") as file:
        packed = file.peek(2)[:2] == _GZIP
        yield BufferedReader(gzip.GzipFile(fileobj=file), 1 << 16) if packed else file


def order_of(file: BufferedReader, path: Path) -> Order:
    """The order of bytes in which a file is written, as its first record (FAR) tells, which is read.

    Raises:
        WaferlabError: the file doesn't begin with FAR, or has another version than 4.
    """
    far = file.read(_FAR_SIZE)
    if len(far) < _FAR_SIZE or far[:4] not in _ORDERS:
        raise WaferlabError(f"{path} is no STDF file: it begins with {far.hex(' ') or 'nothing'}, not with FAR")
    if far[5] != 4:
        raise WaferlabError(f"{path} is STDF of version {far[5]}; only version 4 is read")
    return _ORDERS[far[:4]]


def records(file: BufferedReader, order: Order, path: Path) -> Iterator[tuple[int, Kind, bytes]]:
    """Place of the first byte, kind and data of each record behind FAR.

    Raises:
        WaferlabError: the file ends within a record, or what should be one is none; says at which byte.
    """
    header = Struct(f"{order}HBB")
    at = _FAR_SIZE
    while begin := file.read(header.size):
        length, kind, subkind = header.unpack(begin) if len(begin) == header.size else (0, 0, 0)
        data = file.read(length)
        if len(begin) < header.size or len(data) < length:
            raise WaferlabError(f"{path} is cut short: it ends within the record at byte {at:,}; copy it again")
        if kind not in _TYPES or kind == subkind == 0:  # zeros: what a disk has where nothing was written
            raise WaferlabError(f"{path} is damaged: at byte {at:,} no record begins (it would be {kind}, {subkind})")
        yield at, (kind, subkind), data
        at += header.size + length


def text(data: bytes, at: int) -> str:
    """The text (Cn) whose length stands at this byte of a record; empty where the record ends before."""
    length = data[at] if at < len(data) else 0
    found = data[at + 1 : at + 1 + length]
    if len(found) < length:
        raise WaferlabError("is shorter than the text in it; the file is damaged")
    return found.decode("utf-8", "replace").strip(" \0")


@contextmanager
def packed(file: BinaryIO, path: Path) -> Iterator[BinaryIO | gzip.GzipFile]:
    """Where to write records that go to a file: packed by gzip if the path ends in ``.gz``."""
    if path.suffix.lower() != ".gz":
        yield file
        return
    with gzip.GzipFile(fileobj=file, mode="wb", mtime=0) as zipped:
        yield zipped


def record(kind: Kind, data: bytes) -> bytes:
    """A record of little-endian data, with its header."""
    return pack("<HBB", len(data), *kind) + data
