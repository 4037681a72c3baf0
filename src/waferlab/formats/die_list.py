"""Tables with a row a die, in CSV or Parquet: lot, wafer, x, y, bin."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import chain, compress, count, groupby, pairwise
from operator import itemgetter, ne
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from waferlab.data.npz import reading
from waferlab.errors import WaferlabError
from waferlab.formats import tables
from waferlab.formats.bins import ids, placed, plain
from waferlab.formats.block import MOST_PLACES, Block, Format, MixedError, Reading, Wafer, in_blocks, wafer_name
from waferlab.wafer import FAIL, PASS

#: Lot and wafer, the numbers of rows, and the texts that these have for x, y and bin.
_Run = tuple[tuple[str, str], Sequence[int], list[Sequence[str]]]

#: What each column may be called, in any case, blanks, ``_``, ``-`` and ``.`` left out; of several, the first counts.
_CALLED: Final = {
    "lot": ("lot", "lotid", "lotname"),
    "wafer": ("wafer", "waferid", "wafername", "waferno", "wafernumber", "waferindex"),
    "x": ("x", "diex", "xcoord", "xcoordinate", "col", "column"),
    "y": ("y", "diey", "ycoord", "ycoordinate", "row"),
    "bin": ("bin", "hardbin", "hbin", "softbin", "sbin", "bincode"),
}
_FARTHEST: Final = 1 << 31  # coordinate of a die, either way
#: In lower case: what programs write for nothing.
_NO_BIN: Final = frozenset(("", "nan", "na", "#n/a", "n/a", "null", "none"))
_WORDS: Final = frozenset(("pass", "fail", "good", "bad", "true", "false"))  # which bins pass, where none is named?


def read(path: Path, told: Reading) -> Iterator[Block]:
    """Maps of a table, CSV or Parquet, that lists every die.

    The columns are found by their names: ``lot``, ``wafer``, ``x``, ``y`` and ``bin``, or what else they are usually
    called (``lot_id``, ``die_x``, ``hard_bin``, …). Coordinates are any whole numbers; a map reaches from the smallest
    to the largest of its wafer, x to the right and y down. Dies in one of `Reading.pass_bins` (1, unless told) pass,
    others fail, and a place that isn't listed has no die. Of a die that is listed twice, the last row counts: a retest.
    Bins that are words (``PASS``, ``true``) are read only if those that pass are told. Blanks around a value are none.

    The rows of a wafer stand together; those of one block are in memory.

    Raises:
        WaferlabError: columns are missing, a row isn't as described, or a wafer comes back after another one.
    """
    with reading(str(path)):
        where = f"{path}, {'row' if tables.is_parquet(path) else 'line'}"
        rows = tables.rows(path, partial(_places, path=path))
        yield from in_blocks(_wafers(_runs(rows, where), told, path, where), path)


def write(blocks: Iterable[Block], path: Path) -> None:
    """A table with the columns lot, wafer, x, y and bin (1 pass, 2 fail), from 0; CSV, unless the path ends otherwise.

    Places around the outermost dies aren't kept, since a list can't say them.

    Raises:
        WaferlabError: a wafer has no die, there is no wafer, or Parquet is asked for where pyarrow isn't installed.
    """
    tables.write((_dies(name, each, path) for name, each in chain.from_iterable(blocks)), path)


def _wafers(runs: Iterable[_Run], told: Reading, path: Path, where: str) -> Iterator[Wafer]:
    """Each wafer, when its last row is read."""
    meanings = [lru_cache(1 << 16)(each) for each in (_coordinate, _coordinate, _states(told.pass_bins))]
    seen = set[tuple[str, str]]()
    for pair, parts in groupby(runs, itemgetter(0)):
        name, dies, rows = wafer_name(*pair), list[NDArray[np.int64]](), 0
        for _, numbers, texts in parts:
            if pair in seen:
                raise MixedError(f"{where} {numbers[0]:,}: wafer {name} comes back after others; sort by lot and wafer")
            rows += len(numbers)
            if rows > MOST_PLACES:
                raise WaferlabError(f"{where} {numbers[0]:,}: wafer {name} has more rows than any wafer has dies")
            dies.append(np.stack([_values(*each, numbers, where) for each in zip(texts, meanings, strict=True)]))
        seen.add(pair)
        x, y, states = np.concatenate(dies, axis=1)
        yield name, placed(x, y, states, f"{path}: wafer {name}")


def _runs(parts: Iterable[tables.Rows], where: str) -> Iterator[_Run]:
    """The rows of one wafer after another, as far as they came together."""
    for numbers, lots, wafers, *texts in parts:
        names = list(zip(lots, wafers, strict=True))
        for start, end in pairwise([0, *compress(count(1), map(ne, names[1:], names)), len(names)]):
            lot, wafer = map(str.strip, names[start])
            if not wafer:  # nor is it known whether the wafer before it has ended
                raise WaferlabError(f"{where} {numbers[start]:,} names no wafer")
            yield (lot, wafer), numbers[start:end], [each[start:end] for each in texts]


def _values(texts: Sequence[str], value: Callable[[str], int], numbers: Sequence[int], where: str) -> NDArray[np.int64]:
    """What the texts of a column say."""
    try:
        return np.fromiter(map(value, texts), np.int64, len(texts))
    except ValueError as error:
        text, expected = error.args
        raise WaferlabError(f"{where} {numbers[texts.index(text)]:,} has {text[:40]!r} for {expected}") from None


def _coordinate(text: str) -> int:
    try:
        number = np.nan if "_" in text else float(text)  # as tables have whole numbers, too: 12.0
    except ValueError:
        number = np.nan
    if not (number.is_integer() and abs(number) < _FARTHEST):
        raise ValueError(text, "a coordinate; expected a whole number")
    return int(number)


def _states(pass_bins: Iterable[str] | None) -> Callable[[str], int]:
    """What says whether a bin passes."""
    passing = {plain(label) for label in (("1",) if pass_bins is None else pass_bins)}

    def state(text: str) -> int:
        label = text.strip()
        if label.lower() in _NO_BIN:
            raise ValueError(text, "a bin")
        if pass_bins is None and label.lower() in _WORDS:
            raise ValueError(text, "a bin; say which bins pass, as the file writes them: pass_bins=[…]")
        return PASS if plain(label) in passing else FAIL

    return state


def _dies(name: str, states: NDArray[np.uint8], path: Path) -> dict[str, list[Any]]:
    """The columns of a wafer's dies; as a die state says 1 for pass and 2 for fail, it is the bin."""
    lot, wafer = ids(name)
    y, x = np.nonzero(states)
    if not len(x):
        raise WaferlabError(f"{path}: wafer {name} has no die, so no row in a list of dies; leave it out")
    columns = ([lot] * len(x), [wafer] * len(x), x.tolist(), y.tolist(), states[y, x].tolist())
    return dict(zip(_CALLED, columns, strict=True))


def _recognises(head: bytes) -> bool:
    line = head.decode(tables.encoding_of(head), "replace").partition("\n")[0].replace('"', "")
    is_csv = any(all(_found(line.split(each)).values()) for each in tables.SEPARATORS)
    return head.startswith(tables.PARQUET) or is_csv


def _found(header: Sequence[str]) -> dict[str, list[int]]:
    """Where each of the five columns could be, best first."""
    called = [re.sub(r"[\s_.-]", "", name).lower() for name in header]
    return {column: [called.index(name) for name in names if name in called] for column, names in _CALLED.items()}


def _places(header: Sequence[str], path: Path) -> list[int]:
    """Where they are."""
    found = _found(header)
    if missing := [column for column, places in found.items() if not places]:
        raise WaferlabError(
            f"{path} has no column {', '.join(missing)}; expected {', '.join(_CALLED)}, and it has: "
            f"{', '.join(header)[:200] or 'none'}"
        )
    return [places[0] for places in found.values()]


FORMAT: Final = Format(
    name="dies",
    suffixes=(".csv", ".tsv", ".parquet"),
    recognises=_recognises,
    read=read,
    write=write,
)
