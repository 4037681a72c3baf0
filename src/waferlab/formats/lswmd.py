"""WM-811K's own layout: a pickled pandas table with a map in each row, such as the public ``LSWMD.pkl``."""

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np

from waferlab.data.npz import reading
from waferlab.data.pickled_frame import Column, read_columns
from waferlab.errors import WaferlabError
from waferlab.formats.block import (
    Block,
    Format,
    Reading,
    Wafer,
    check_grid,
    check_states,
    in_blocks,
    lot_and_wafer,
    wafer_name,
)
from waferlab.whole_file import whole_file

_MAPS, _LOTS, _WAFERS = "waferMap", "lotName", "waferIndex"
#: Wafer numbers, which the public file has as floating-point ones.
_NUMBER: Final = re.compile("0|[1-9][0-9]{0,8}")


def read(path: Path, _: Reading) -> Iterator[Block]:
    """Maps of the column ``waferMap``, (h, w) uint8 each; named ``lotName/waferIndex``, or by row where these are not.

    The pickle is read by a reader that runs nothing it names, and needs no pandas. It can't be read in parts: the
    whole table is held in memory.

    Raises:
        WaferlabError: the file is no such table, is damaged or would run code, or a row holds no map.
    """
    columns = read_columns(path)
    if _MAPS not in columns:
        raise WaferlabError(f"{path} has no column {_MAPS}; it has {', '.join(sorted(columns)) or 'none'}")
    with reading(str(path)):
        yield from in_blocks(_wafers(path, columns), path)


def write(blocks: Iterable[Block], path: Path) -> None:
    """A table with the columns ``waferMap``, ``lotName`` and ``waferIndex``, which is held in memory whole.

    Raises:
        WaferlabError: pandas, which writes it, isn't installed.
    """
    try:
        pandas = import_module("pandas")
    except ImportError as error:
        raise WaferlabError(f"{path}: writing a pandas table needs pandas: pip install pandas") from error
    wafers = list(chain.from_iterable(blocks))
    names = [lot_and_wafer(name) for name, _ in wafers]
    columns: dict[str, list[Any]] = {
        _MAPS: [each for _, each in wafers],
        _LOTS: [lot for lot, _ in names],
        _WAFERS: [float(wafer) if _NUMBER.fullmatch(wafer) else wafer for _, wafer in names],
    }
    frame = pandas.DataFrame({name: pandas.Series(column, dtype=object) for name, column in columns.items()})
    frame.columns = pandas.Index(list(columns), dtype=object)  # not pandas' own texts, which need it to be read
    with whole_file(path) as file:
        frame.to_pickle(file)


def _wafers(path: Path, columns: Mapping[str, Column]) -> Iterator[Wafer]:
    names = _names(columns)
    if len(names) != len(columns[_MAPS]):
        raise WaferlabError(f"{path} is damaged: it has {len(columns[_MAPS])} maps and {len(names)} names of wafers")
    for row, (name, each) in enumerate(zip(names, columns[_MAPS], strict=True)):
        where = f"{path}: {_MAPS} in row {row}"
        if not isinstance(each, np.ndarray) or each.ndim != 2 or each.dtype != np.uint8:
            raise WaferlabError(f"{where} is no map of uint8 die states")
        check_grid(each.shape[0], each.shape[1], where)
        check_states(each, where)
        yield name, each


def _names(columns: Mapping[str, Column]) -> list[str]:
    if _LOTS not in columns or _WAFERS not in columns:
        return [str(row) for row in range(len(columns[_MAPS]))]
    return [
        wafer_name(str(lot), str(int(wafer)) if isinstance(wafer, float) and wafer.is_integer() else str(wafer))
        for lot, wafer in zip(columns[_LOTS], columns[_WAFERS], strict=True)
    ]


FORMAT: Final = Format(
    name="lswmd",
    suffixes=(".pkl",),
    recognises=lambda head: head.startswith(b"\x80") and b"pandas" in head,
    read=read,
    write=write,
    has_bins=False,
)
