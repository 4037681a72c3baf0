"""What the XML files of SEMI E142 and G85 have in common: elements of a file nobody vouches for, and bins in rows."""

import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse
from numpy.typing import NDArray

from waferlab.data import npz
from waferlab.errors import WaferlabError
from waferlab.formats.bins import Axes, placed, plain, whole
from waferlab.formats.block import Reading, check_grid
from waferlab.wafer import FAIL, NO_DIE, PASS

#: The characters that bins of each BinType have, and how many; of decimal ones the file may say otherwise.
_BIN: Final = {
    "ascii": (r"\S", 1),
    "decimal": (r"\d", 3),
    "hexadecimal": ("[0-9A-Fa-f]", 2),
    "integer2": ("[0-9A-Fa-f]", 4),
}
_DEEPEST: Final = 64  # elements within each other; the standards need nine
_WIDEST: Final = 1 << 20  # characters of a row
_LONGEST: Final = 1 << 24  # bytes in which no element begins or ends


def has_element(head: bytes, names: str) -> bool:
    """Whether an element of one of these names, alternatives of a pattern, is in a file's head, in UTF-8 or UTF-16."""
    return bool(re.search(rf"<([\w.-]+:)?({names})[\s>]".encode(), head.replace(b"\0", b"")))


def elements(path: Path) -> Iterator[tuple[str, str, Element]]:
    """``start`` and ``end``, name without namespace, element: of each in turn; after its end, it is forgotten.

    Raises:
        WaferlabError: the file can't be read, is no well-formed XML, or declares a document type. With that come
            entities, which can reach for other files or grow without end.
    """
    within: list[Element] = []
    with npz.reading(str(path)), path.open("rb") as file:
        sips = _Sips(file, path)
        try:
            for event, element in iterparse(sips, ("start", "end"), forbid_dtd=True):
                sips.taken = 0
                yield event, element.tag.rpartition("}")[2], element
                if event == "start":
                    within.append(element)
                else:
                    within.pop()
                    if within:
                        within[-1].remove(element)
                if len(within) > _DEEPEST:
                    raise WaferlabError(f"{path} has {len(within)} elements within each other; it is no wafer map")
        except DefusedXmlException as error:
            raise WaferlabError(f"{path} declares a document type, which is not safe to read; remove it") from error
        except ParseError as error:
            raise WaferlabError(f"{path} is cut short, or no XML: {error}") from error
        except LookupError as error:
            raise WaferlabError(f"{path} can't be read: {error}; save it in UTF-8") from error


@dataclass
class _Sips:
    """A file that is read only as long as elements come."""

    file: IO[bytes]
    path: Path
    taken: int = 0

    def read(self, size: int) -> bytes:
        """At least so many bytes, and as many again as no element came in: a parser may look at all of these anew."""
        taken = self.file.read(max(size, self.taken))
        self.taken += len(taken)
        if self.taken > _LONGEST:
            raise WaferlabError(f"{self.path} has an element of more than {_LONGEST:,} bytes; it is no wafer map")
        return taken


@dataclass
class BinMap:
    """The bins of one wafer, as its file lists them: rows from top to bottom, or one die after another.

    Attributes:
        where: the file and the wafer, for messages.
        bin_type: ``ascii`` (a character), ``decimal`` (as many digits as the null bin and the defined ones, else
            three), ``hexadecimal`` (two digits) or ``integer2`` (four); where blanks are between them, they may have
            fewer. Where it is empty, bins have blanks between them or are as long as the null bin.
        null: the bin of places without a die; empty: there are none.
        axes: how the coordinates of single dies run; rows are as drawn, whatever these say.
    """

    where: str
    bin_type: str
    null: str
    axes: Axes
    _passing: set[str] = field(default_factory=set)
    _lengths: set[int] = field(default_factory=set)  # of bins that are defined
    _codes: dict[str, int] = field(default_factory=dict)
    _rows: list[NDArray[np.uint16]] = field(default_factory=list)
    _dies: "array[int]" = field(default_factory=lambda: array("i"))  # x, y, index of each

    @classmethod
    def of(cls, element: Element, where: str, axes: Axes) -> "BinMap":
        """Of the element that has BinType and NullBin."""
        bin_type, null = element.get("BinType", ""), element.get("NullBin", "")
        if bin_type and bin_type.lower() not in _BIN:
            raise WaferlabError(f"{where}: BinType {bin_type!r}; expected Ascii, Decimal, HexaDecimal or Integer2")
        return cls(where, bin_type.lower(), null if null == " " else null.strip(), axes)

    def define(self, element: Element) -> None:
        """Note a bin's length and BinQuality; of the latter, only ``Pass`` tells anything."""
        code = element.get("BinCode", "").strip()
        self._lengths.add(len(code))
        if element.get("BinQuality", "").strip().lower() == "pass":
            self._passing.add(code)

    def add(self, element: Element) -> None:
        """Take the die of an element with X and Y, or the row of one without; several rows have a line each."""
        text = element.text or ""
        if element.attrib.keys() & {"X", "Y"}:
            self._add_die(element.get("X", ""), element.get("Y", ""), text.strip())
            return
        for line in text.splitlines():
            if line.strip() or (line and self.null == " "):
                self._add_row(line)

    def _add_die(self, x: str, y: str, code: str) -> None:
        number = len(self._dies) // 3 + 1
        check_grid(number, 1, f"{self.where}: dies one after another")
        where = f"{self.where}: die {number:,}"
        if not code:
            raise WaferlabError(f"{where} has no bin")
        self._dies.extend((whole(x, f"{where}: X"), whole(y, f"{where}: Y"), self._index(code)))

    def _add_row(self, line: str) -> None:
        where = f"{self.where}: row {len(self._rows) + 1:,}"
        if len(line) > _WIDEST:
            raise WaferlabError(f"{where} has {len(line):,} characters; no wafer has as many columns")
        bins = list(line) if self.null == " " else self._bins(line, where)
        index = {code: self._index(code) for code in set(bins)}
        self._rows.append(np.fromiter(map(index.__getitem__, bins), np.uint16, len(bins)))
        if len(bins) != len(self._rows[0]):
            raise WaferlabError(f"{where} has {len(bins):,} bins, the first row {len(self._rows[0]):,}")
        check_grid(len(self._rows), len(bins), where)

    def _bins(self, line: str, where: str) -> list[str]:
        parts, (of, length) = line.split(), _BIN.get(self.bin_type, (r"\S", len(self.null) or 1))
        longest, said = length if self.bin_type else len(line), f"{where} is {line.strip()[:40]!r}"
        kind = f"BinType {self.bin_type}" if self.bin_type else f"the form of NullBin {self.null!r}"
        if self.bin_type == "decimal":
            told = (self._lengths | {len(self.null)}) - {0} or {length}
            if len(parts) == 1 and min(told) < max(told) != length:
                raise WaferlabError(f"{said}; bins of {min(told)} to {max(told)} digits need blanks between them")
            length = longest = max(told) if len(parts) == 1 else max(length, *told)
            kind += f" with {length} digits"
        if len(parts) > 1 and all(map(re.compile(rf"{of}{{1,{longest}}}").fullmatch, set(parts))):
            return parts
        bins: list[str] = re.findall(rf"{of}{{{length}}}", line)
        if sum(map(len, bins)) != sum(map(len, parts)):
            raise WaferlabError(f"{said}, which are not all bins of {kind}")
        return bins

    def _index(self, code: str) -> int:
        if len(self._codes) > np.iinfo(np.uint16).max:
            raise WaferlabError(f"{self.where} has more than {len(self._codes) - 1:,} different bins; is it damaged?")
        return self._codes.setdefault(code, len(self._codes))

    def wafer(self, told: Reading) -> NDArray[np.uint8]:
        """The map (h, w) of die states.

        The null bin is no die, whatever else is said of it. Of the others those pass that the reader names, else those
        of quality ``Pass``, else bin 1. All that remain fail: reference, edge, skipped and ugly dies, and bins that
        the file doesn't define.
        """
        if bool(self._rows) == bool(self._dies):
            raise WaferlabError(f"{self.where} lists {'rows as well as single dies' if self._rows else 'no bins'}")
        good = (self._passing or {"1"}) if told.pass_bins is None else told.pass_bins
        passing, null = set(map(plain, good)), plain(self.null)
        states = np.array(
            [NO_DIE if plain(code) == null else PASS if plain(code) in passing else FAIL for code in self._codes],
            np.uint8,
        )
        if self._rows:
            return states[np.stack(self._rows)]
        x, y, codes = np.array(self._dies).reshape(-1, 3).T
        return placed(x, y, states[codes], self.where, self.axes)
