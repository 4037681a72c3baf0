"""SINF, the Simplified INF: wafer maps as text that probers write and die sorters read.

A header of ``KEY:value`` lines, of which LOT, WAFER, ROWCT, COLCT and BCEQU are used, then ROWCT lines ``RowData:``
with COLCT hexadecimal bins each, from top to bottom: ``__`` where there is no die, ``@@`` where none was inspected,
which counts as no die. A further header begins a further wafer. FNLOC says where the flat or notch lies: nothing is
turned by it. Of the bins those pass that the reader names, else those of BCEQU, else bin 1; all others fail, reference
and edge dies too. Wafers are named LOT/WAFER; one without WAFER after the file.
"""

import re
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from waferlab.data import npz
from waferlab.errors import WaferlabError
from waferlab.formats.bins import ids, plain, whole
from waferlab.formats.block import Block, Format, Reading, Wafer, check_grid, in_blocks, wafer_name
from waferlab.wafer import FAIL, NO_DIE, PASS
from waferlab.whole_file import whole_file

_LONGEST: Final = 1 << 20  # characters of a line
_USED: Final = frozenset(("LOT", "WAFER", "ROWCT", "COLCT", "BCEQU"))
_BIN: Final = re.compile(r"_+|@+|[0-9A-Fa-f]+")
_CODES: Final = np.array(["__", "01", "02"])  # of each die state


def read(path: Path, told: Reading) -> Iterator[Block]:
    """Maps of a file as described above.

    Raises:
        WaferlabError: a line is none of these, or there are more or fewer rows or bins than the header says.
    """
    return in_blocks(_wafers(path, told), path)


def _wafers(path: Path, told: Reading) -> Iterator[Wafer]:
    header: dict[str, str] = {}
    rows: list[NDArray[np.uint8]] = []
    for number, key, value in _lines(path):
        where = f"{path}: line {number:,}"
        if key == "FNLOC":
            told.remarks.notch(key, value)
        if key != "ROWDATA":
            if rows:
                raise WaferlabError(f"{where} is {key} after {len(rows):,} rows; expected ROWCT {header['ROWCT']}")
            header |= {key: value} if key in _USED else {}
            continue
        height, width = (whole(header.get(key, ""), f"{where}: {key} above it") for key in ("ROWCT", "COLCT"))
        check_grid(height, width, where)
        rows.append(_row(value, header, told, where))
        if len(rows[-1]) != width:
            raise WaferlabError(f"{where} has {len(rows[-1]):,} bins; expected COLCT {width:,}")
        if len(rows) == height:
            yield wafer_name(header.get("LOT", ""), header.get("WAFER") or path.stem), np.stack(rows)
            header, rows = {}, []
    if header:
        raise WaferlabError(f"{path} ends after {len(rows):,} rows of ROWCT {header.get('ROWCT')}; it is cut short")


def _lines(path: Path) -> Iterator[tuple[int, str, str]]:
    """Number from 1, upper-case key and value of each line that isn't blank."""
    with npz.reading(str(path)), path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(iter(partial(file.readline, _LONGEST), ""), 1):
            key, colon, value = map(str.strip, line.partition(":"))
            if len(line) == _LONGEST or (line.strip() and not (colon and re.fullmatch(r"\w+", key))):
                found = line.strip()[:40]
                raise WaferlabError(f"{path}: line {number:,} is {found!r}; expected KEY:value, such as ROWCT:62")
            if colon:
                quoted = len(value) > 1 and value[0] == value[-1] == '"'
                yield number, key.upper(), value[1:-1] if quoted else value


def _row(text: str, header: dict[str, str], told: Reading, where: str) -> NDArray[np.uint8]:
    """Die states (w,) of a row's bins."""
    bins = text.split()
    if wrong := [code for code in set(bins) if not _BIN.fullmatch(code)]:
        raise WaferlabError(f"{where}: {min(wrong)[:40]!r} is no bin; expected hexadecimal digits, __ or @@")
    good = re.findall(r"\w+", header.get("BCEQU", "")) or ["1"] if told.pass_bins is None else told.pass_bins
    passing = set(map(plain, good))
    states = {code: NO_DIE if code[0] in "_@" else PASS if plain(code) in passing else FAIL for code in set(bins)}
    return np.fromiter(map(states.__getitem__, bins), np.uint8, len(bins))


def write(blocks: Iterable[Block], path: Path) -> None:
    """Bins 01 pass and 02 fail; what isn't known of a wafer, such as the size of its dies, is left blank."""
    with whole_file(path) as file:
        for name, each in chain.from_iterable(blocks):
            lot, wafer = ids(name)
            file.write(
                f"DEVICE:\nLOT:{lot}\nWAFER:{wafer}\nFNLOC:180\nROWCT:{each.shape[0]}\nCOLCT:{each.shape[1]}\n"
                f"BCEQU:01\nREFPX:\nREFPY:\nDUTMS:mm\nXDIES:\nYDIES:\n".encode()
            )
            file.writelines(f"RowData:{' '.join(row)}\n".encode() for row in _CODES[each].tolist())


def _recognises(head: bytes) -> bool:
    return bool(re.search(rb"(?im)^\s*(ROWCT|COLCT|RowData)\s*:", head))


FORMAT: Final = Format(
    name="sinf",
    suffixes=(".sinf", ".txt", ".map"),
    recognises=_recognises,
    read=read,
    write=write,
)
