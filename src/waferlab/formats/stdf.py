"""STDF V4: the log of a tester, wafer after wafer and part after part; plain or packed by gzip, in either byte order.

Only the records that make a map are understood: MIR (the lot), WIR and WRR (a wafer begins and ends on a head), PRR (a
part's place, bin and verdict), WCR (how coordinates run: POS_X and POS_Y; right and down, where nothing says so).
WF_FLAT says where the flat lies: nothing is turned by it. A part passes if the reader names its hard bin, else by
PART_FLG, else, where that holds no verdict, if its hard bin is 1. Of a part tested again the last test counts. Parts
without coordinates or wafer are left out, which is said once. Wafers are named LOT_ID/WAFER_ID; one without WAFER_ID by
its place in the file, from 1.
"""

from array import array
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from struct import Struct, pack
from typing import Final

import numpy as np
from numpy.typing import NDArray

from waferlab.errors import WaferlabError
from waferlab.formats import stdf_records as stdf
from waferlab.formats.bins import RIGHT_DOWN, Axes, ids, placed, plain
from waferlab.formats.block import (
    MOST_PLACES,
    PLACES_AT_ONCE,
    WAFERS_AT_ONCE,
    Block,
    Format,
    Reading,
    Wafer,
    in_blocks,
    wafer_name,
)
from waferlab.formats.remarks import Remarks
from waferlab.progress import note
from waferlab.wafer import FAIL, NO_DIE, PASS
from waferlab.whole_file import whole_file

_NOWHERE: Final = -32768  # a coordinate that is missing
_UNKNOWN: Final = 0xFFFFFFFF  # a count that is missing
#: PIR and PRR, the latter up to Y_COORD; what is left out of it is optional.
_PART: Final = np.dtype(
    [("begin", "V12"), ("flag", "u1"), ("tests", "<u2"), ("bin", "<u2"), ("soft", "<u2"), ("x", "<i2"), ("y", "<i2")]
)
_FAILED, _NO_VERDICT = 0x08, 0x10  # of PART_FLG


def read(path: Path, told: Reading) -> Iterator[Block]:
    """Maps of a file as described above, in the order in which their wafers end.

    Raises:
        WaferlabError: the file is no STDF of version 4, is cut short or damaged (says at which byte), or has no wafer.
    """
    return in_blocks(_wafers(path, told), path)


def _wafers(path: Path, told: Reading) -> Iterator[Wafer]:
    with stdf.opened(path) as file:
        order = stdf.order_of(file, path)
        log = _Log(order, None if told.pass_bins is None else set(map(plain, told.pass_bins)), told.remarks)
        waiting = list[Wafer]()  # until it is known how coordinates run, which may be said behind them
        for at, kind, data in stdf.records(file, order, path):
            try:
                wafer = log.take(kind, data)
            except WaferlabError as error:
                raise WaferlabError(f"{path}: the record at byte {at:,} {error}") from error
            if wafer is None:
                continue
            waiting.append(wafer)
            is_much = len(waiting) == WAFERS_AT_ONCE or sum(each.size for _, each in waiting) >= PLACES_AT_ONCE
            if log.axes is not None or is_much:
                yield from log.drawn(waiting)
                waiting.clear()
    for cut in log.heads.values():
        raise WaferlabError(f"{path} is cut short: wafer {cut.name or cut.number} begins (WIR), but has no end (WRR)")
    yield from log.drawn(waiting)
    if log.parts or log.empty:
        note(f"{path}: left out {log.parts:,} parts without coordinates or wafer, {log.empty:,} wafers without parts")


@dataclass
class _Tested:
    """A wafer's parts so far."""

    number: int
    name: str
    x: "array[int]" = field(default_factory=lambda: array("h"))
    y: "array[int]" = field(default_factory=lambda: array("h"))
    states: bytearray = field(default_factory=bytearray)


class _Log:
    """What the records of a file have told so far.

    Attributes:
        heads: the wafer on each head, by the first byte of the records about it.
        parts: how many were left out.
        empty: how many wafers were.
        axes: how coordinates run; None: it has not been said yet.
    """

    def __init__(self, order: stdf.Order, passing: Set[str] | None, remarks: Remarks) -> None:
        self.heads: dict[bytes, _Tested] = {}
        self.parts = self.empty = 0
        self.axes: Axes | None = None
        self._lot, self._begun, self._passing, self._remarks = "", 0, passing, remarks
        self._part = Struct(f"{order}2xB2xH2xhh")  # PART_FLG, HARD_BIN, X_COORD, Y_COORD

    def take(self, kind: stdf.Kind, data: bytes) -> Wafer | None:
        """Take a record: the wafer that it ends, if it does and any part of that has a place."""
        match kind:
            case stdf.PRR:
                self._test(self.heads.get(data[:1]), data)
            case stdf.WIR:
                if data[:1] in self.heads:
                    raise WaferlabError("begins a wafer (WIR) before the one on its head has ended (WRR)")
                self._begun += 1
                self.heads[data[:1]] = _Tested(self._begun, stdf.text(data, 6))
            case stdf.WRR:
                return self._end(self.heads.pop(data[:1], None), data)
            case stdf.MIR:
                self._lot = stdf.text(data, 15)
            case stdf.WCR:
                self._configure(data)
        return None

    def drawn(self, wafers: Iterable[Wafer]) -> Iterator[Wafer]:
        """Wafers as they are to be drawn; from here on it is settled how coordinates run."""
        self.axes = axes = self.axes or RIGHT_DOWN
        return ((name, axes.drawn(each)) for name, each in wafers)

    def _configure(self, data: bytes) -> None:
        flat, x, y = (data[at : at + 1].decode("latin-1").strip(" \0").upper() for at in (13, 18, 19))
        self._remarks.notch("WF_FLAT", flat)
        for mark, value, known in (("POS_X", x, "LR"), ("POS_Y", y, "UD")):
            if value not in known:
                self._remarks.strange(mark, value, known[1])
        axes = Axes(x == "L", y == "U")
        if self.axes not in (None, axes):
            raise WaferlabError("has coordinates run otherwise (WCR: POS_X, POS_Y) than the wafers before it")
        self.axes = axes

    def _test(self, wafer: _Tested | None, data: bytes) -> None:
        flag, code, x, y = self._part.unpack_from(data) if len(data) >= self._part.size else (0, 0, _NOWHERE, _NOWHERE)
        if wafer is None or _NOWHERE in (x, y):
            self.parts += 1
            return
        if len(wafer.states) == MOST_PLACES:
            raise WaferlabError(f"is one of more than {MOST_PLACES:,} parts of a wafer; the file is damaged")
        if self._passing is None:
            passes = code == 1 if flag & _NO_VERDICT else not flag & _FAILED
        else:
            passes = str(code) in self._passing
        wafer.x.append(x)
        wafer.y.append(y)
        wafer.states.append(PASS if passes else FAIL)

    def _end(self, wafer: _Tested | None, data: bytes) -> Wafer | None:
        if wafer is None:
            raise WaferlabError("ends a wafer (WRR) that has not begun (WIR)")
        if not wafer.states:
            self.empty += 1
            return None
        name = wafer_name(self._lot, wafer.name or stdf.text(data, 26) or str(wafer.number))
        x, y, states = np.array(wafer.x), np.array(wafer.y), np.frombuffer(wafer.states, np.uint8)
        return name, placed(x, y, states, f"ends wafer {name}")


def write(blocks: Iterable[Block], path: Path) -> None:
    """Parts of hard bin 1 that pass and 2 that fail, row by row; packed if the path ends in ``.gz``.

    Places without a die are not written: rows and columns at the edge of a map that have none are not found again. As a
    file may get wafers of several lots, LOT_ID stays empty and WAFER_ID is the whole name.

    Raises:
        WaferlabError: a name or a map is too large for the fields of a record.
    """
    all_tested = all_good = 0
    with whole_file(path) as plainly, stdf.packed(plainly, path) as file:
        file.write(stdf.record(stdf.FAR, b"\x02\x04"))
        file.write(stdf.record(stdf.MIR, bytes(8) + b"\x01P  \xff\xff " + bytes(5)))
        file.write(stdf.record(stdf.WCR, bytes(13) + b" " + pack("<hh", _NOWHERE, _NOWHERE) + b"RD"))
        for name, wafer in chain.from_iterable(blocks):
            called = wafer_name(*ids(name)).encode()
            if len(called) > 255 or max(wafer.shape) > -_NOWHERE:
                raise WaferlabError(
                    f"{path}: wafer {name[:40]!r}, {wafer.shape[0]:,} x {wafer.shape[1]:,}, doesn't fit into STDF, "
                    f"which has 255 bytes for its name and {-_NOWHERE:,} places for a side"
                )
            called = bytes([len(called)]) + called
            begin_or_end = pack("<BBI", 1, 255, 0)  # head, no group of sites, time
            tested, good = int((wafer != NO_DIE).sum()), int((wafer == PASS).sum())
            all_tested, all_good = all_tested + tested, all_good + good
            file.write(stdf.record(stdf.WIR, begin_or_end + called))
            file.write(_parts(wafer).tobytes())
            file.write(stdf.record(stdf.WRR, begin_or_end + _counts(tested, good) + called))
        file.write(stdf.record(stdf.PCR, b"\xff\x01" + _counts(all_tested, all_good)))
        file.write(stdf.record(stdf.MRR, bytes(4)))


def _parts(wafer: NDArray[np.uint8]) -> NDArray[np.void]:
    """A PIR and a PRR of each die."""
    y, x = np.nonzero(wafer)
    parts = np.zeros(len(x), _PART)
    parts["begin"] = np.void(stdf.record(stdf.PIR, b"\x01\x01") + stdf.record(stdf.PRR, bytes(13))[:4] + b"\x01\x01")
    parts["flag"] = (wafer[y, x] == FAIL) * _FAILED
    parts["bin"] = parts["soft"] = wafer[y, x]
    parts["x"], parts["y"] = x, y
    return parts


def _counts(tested: int, good: int) -> bytes:
    """PART_CNT, RTST_CNT, ABRT_CNT, GOOD_CNT, FUNC_CNT."""
    return pack("<5I", tested, _UNKNOWN, _UNKNOWN, good, _UNKNOWN)


FORMAT: Final = Format(
    name="stdf",
    suffixes=(".stdf", ".std", ".stdf.gz", ".std.gz"),
    recognises=stdf.is_stdf,
    read=read,
    write=write,
)
