"""Tables that grow block by block, and appear under their name when they are whole."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np

from waferlab.errors import WaferlabError
from waferlab.whole_file import whole_file

#: Adds rows: columns of one length by name, the same ones every time.
AddRows = Callable[[Mapping[str, Sequence[Any]]], None]


@contextmanager
def table(path: Path) -> Iterator[AddRows]:
    """A table of rows: Parquet, if the path ends so, otherwise CSV.

    Raises:
        WaferlabError: Parquet is asked for where pyarrow isn't installed.
    """
    with _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path) as add:
        yield add


@contextmanager
def _csv(path: Path) -> Iterator[AddRows]:
    with whole_file(path) as file:
        text = TextIOWrapper(file, "utf-8", newline="")
        writer, is_first = csv.writer(text, lineterminator="\n"), True

        def add(columns: Mapping[str, Sequence[Any]]) -> None:
            nonlocal is_first
            if is_first:
                writer.writerow(columns)
            is_first = False
            writer.writerows(zip(*(map(_plain, column) for column in columns.values()), strict=True))

        try:
            yield add
        finally:
            text.detach()  # its end would be the file's


@contextmanager
def _parquet(path: Path) -> Iterator[AddRows]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise WaferlabError(
            f'{path}: Parquet needs pyarrow, which isn\'t installed: pip install "waferlab[parquet]"'
        ) from error
    writer: Any = None
    with whole_file(path) as file:

        def add(columns: Mapping[str, Sequence[Any]]) -> None:
            nonlocal writer
            rows = pyarrow.table(dict(columns))
            writer = writer or parquet.ParquetWriter(file, rows.schema)
            writer.write_table(rows)

        try:
            yield add
        finally:
            if writer:
                writer.close()


def _plain(value: Any) -> Any:
    """As CSV has it: numbers of few digits, nothing for what is none, 1 and 0 for true and false."""
    if isinstance(value, bool | np.bool_):
        return int(value)
    if not isinstance(value, float | np.floating):
        return value
    return "" if np.isnan(value) else f"{value:.6g}"
