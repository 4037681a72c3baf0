"""Tables whose rows are many and come some at a time, in CSV or Parquet."""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from io import StringIO
from itertools import chain, compress, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

from waferlab.data.npz import DAMAGE
from waferlab.errors import WaferlabError
from waferlab.whole_file import whole_file

_ROWS: Final = 1 << 10  # that come together: their texts fit into a processor's cache
_LONGEST: Final = 1 << 16  # characters of a line; of one that goes on, the parts have too few values
_GROUP: Final = 1 << 20  # rows that Parquet keeps together
#: First bytes of a file in Parquet.
PARQUET: Final = b"PAR1"

#: One or more rows of a table: the number of each in its file, and the texts of each column that is wanted.
Rows = tuple[Sequence[Any], ...]
#: Values by the column's name, as many in each.
Columns = Mapping[str, Sequence[Any]]
#: Where the columns are that are wanted, by the names of all.
Choose = Callable[[Sequence[str]], Sequence[int]]


def rows(path: Path, choose: Choose) -> Iterator[Rows]:
    """Rows of a table, some at a time.

    CSV has commas, and lines are numbered from 1, the header's; Parquet is known by its first bytes.

    Raises:
        WaferlabError: the file is damaged, or needs pyarrow, which isn't installed; or what `choose` raises.
    """
    return (_of_parquet if is_parquet(path) else _of_csv)(path, choose)


def is_parquet(path: Path) -> bool:
    """Whether a table is in Parquet, by its first bytes."""
    with path.open("rb") as file:
        return file.read(len(PARQUET)) == PARQUET


def write(tables: Iterable[Columns], path: Path) -> None:
    """Tables on top of one another: as Parquet, if the path ends with ``.parquet``, otherwise as CSV.

    Raises:
        WaferlabError: there is none, or Parquet is asked for where pyarrow isn't installed.
    """
    tables = iter(tables)
    if (first := next(tables, None)) is None:
        raise WaferlabError(f"{path}: there is nothing to be written")
    (_write_parquet if path.suffix.lower() == ".parquet" else _write_csv)(first, chain([first], tables), path)


def _of_csv(path: Path, choose: Choose) -> Iterator[Rows]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(iter(partial(file.readline, _LONGEST), ""), strict=True, skipinitialspace=True)
        try:
            header = next(lines, [])
            picked = [itemgetter(place) for place in choose(header)]
            done = lines.line_num
            while some := list(islice(lines, _ROWS)):
                numbers: Sequence[int] = range(done + 1, lines.line_num + 1)
                done = lines.line_num
                if len(numbers) != len(some):
                    raise csv.Error(
                        f"of the {len(numbers)} lines up to it, one ends within a value; is a quote missing?"
                    )
                if set(map(len, some)) != {len(header)}:
                    numbers, some = _without_blanks(numbers, some, len(header), path)
                if some:
                    yield (numbers, *(list(map(each, some)) for each in picked))
        except csv.Error as error:
            raise WaferlabError(f"{path}, line {lines.line_num:,} is no CSV: {error}") from error


def _without_blanks(
    numbers: Sequence[int], some: list[list[str]], width: int, path: Path
) -> tuple[list[int], list[list[str]]]:
    """Rows but those of blank lines; refuses one that has more or fewer values than the header."""
    for number, row in zip(numbers, some, strict=True):
        if row and len(row) != width:
            raise WaferlabError(f"{path}, line {number:,} has {len(row):,} values, and the header {width:,}")
    return list(compress(numbers, some)), list(filter(None, some))


def _of_parquet(path: Path, choose: Choose) -> Iterator[Rows]:
    arrow, parquet = _pyarrow(path)
    done = 1
    try:
        with parquet.ParquetFile(path, buffer_size=1 << 20, page_checksum_verification=True) as file:
            names = file.schema_arrow.names
            columns = [names[place] for place in choose(names)]
            for batch in file.iter_batches(_ROWS, columns=columns):
                texts = (batch.column(name).cast(arrow.string()).fill_null("").to_pylist() for name in columns)
                if len(batch):
                    yield (range(done, done + len(batch)), *texts)
                done += len(batch)
    except (arrow.ArrowException, OSError, LookupError, OverflowError, *DAMAGE) as error:
        fault, *_ = str(error).splitlines() or [type(error).__name__]
        raise WaferlabError(f"{path} is damaged, or holds neither numbers nor text: {fault[:200]!r}") from error


def _write_csv(first: Columns, tables: Iterable[Columns], path: Path) -> None:
    with whole_file(path) as file:
        file.write(_csv([first]))
        for each in tables:
            file.write(_csv(zip(*each.values(), strict=True)))


def _csv(lines: Iterable[Iterable[Any]]) -> bytes:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue().encode()


def _write_parquet(first: Columns, tables: Iterable[Columns], path: Path) -> None:
    arrow, parquet = _pyarrow(path)
    schema = arrow.table(first).schema
    with whole_file(path) as file, parquet.ParquetWriter(file, schema, write_page_checksum=True) as writer:
        held = schema.empty_table()
        for each in tables:
            held = arrow.concat_tables([held, arrow.table(each, schema)])
            if len(held) >= _GROUP:
                writer.write_table(held)
                held = schema.empty_table()
        writer.write_table(held)


def _pyarrow(path: Path) -> tuple[Any, Any]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise WaferlabError(
            f'{path}: Parquet needs pyarrow, which isn\'t installed: pip install "waferlab[parquet]"'
        ) from error
