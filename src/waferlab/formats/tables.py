"""Tables whose rows are many and come some at a time, in CSV or Parquet."""

import csv
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
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
#: Between values of CSV, of which the first counts by which a header has all columns.
SEPARATORS: Final = (",", ";", "\t")
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

    CSV has one of the `SEPARATORS`, and lines are numbered from 1, the header's; it is in UTF-8, or in UTF-16 with its
    mark. Parquet is known by its first bytes.

    Raises:
        WaferlabError: the file is damaged, or needs pyarrow, which isn't installed; or what `choose` raises.
    """
    return (_of_parquet if is_parquet(path) else _of_csv)(path, choose)


def encoding_of(head: bytes) -> str:
    """Of the text of a file that begins with these bytes: UTF-16, where its mark stands first, else UTF-8."""
    return "utf-16" if head.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig"


def is_parquet(path: Path) -> bool:
    """Whether a table is in Parquet, by its first bytes."""
    with path.open("rb") as file:
        return file.read(len(PARQUET)) == PARQUET


def write(tables: Iterable[Columns], path: Path) -> None:
    """Tables on top of one another: Parquet, if the path ends with ``.parquet``, else CSV, with tabs in ``.tsv``.

    Raises:
        WaferlabError: there is none, or Parquet is asked for where pyarrow isn't installed.
    """
    tables = iter(tables)
    if (first := next(tables, None)) is None:
        raise WaferlabError(f"{path}: there is nothing to be written")
    (_write_parquet if path.suffix.lower() == ".parquet" else _write_csv)(first, chain([first], tables), path)


def _of_csv(path: Path, choose: Choose) -> Iterator[Rows]:
    with path.open("rb") as raw:
        encoding = encoding_of(raw.read(2))
    with path.open(encoding=encoding, newline="") as file:
        texts = iter(partial(file.readline, _LONGEST), "")
        try:
            first = next(texts, "")
            lines = _reader(chain([first], texts), _separator(first, choose))
            header: list[str] = next(lines, [])
            picked = [itemgetter(place) for place in choose(header)]
            done = lines.line_num
            while some := list(islice(lines, _ROWS)):
                numbers: Sequence[int] = range(done + 1, lines.line_num + 1)
                done = lines.line_num
                if len(numbers) != len(some):
                    raise csv.Error(
                        f"of the {len(numbers)} lines up to it, one ends within a value; is a quote missing?"
                    )
                fault = ""
                if set(map(len, some)) != {len(header)}:
                    numbers, some, fault = _without_blanks(numbers, some, len(header))
                if some:
                    yield (numbers, *(list(map(each, some)) for each in picked))
                if fault:
                    raise WaferlabError(f"{path}, {fault}")
        except csv.Error as error:
            raise WaferlabError(f"{path}, line {lines.line_num:,} is no CSV: {error}") from error
        except UnicodeDecodeError as error:
            raise WaferlabError(_undecodable(path, encoding)) from error


def _separator(line: str, choose: Choose) -> str:
    """What stands between the names of a header."""
    for separator in SEPARATORS:
        with suppress(WaferlabError, csv.Error):
            choose(next(_reader([line], separator), []))
            return separator
    return SEPARATORS[0]


def _reader(lines: Iterable[str], separator: str) -> Any:
    return csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=separator != "\t")


def _undecodable(path: Path, encoding: str) -> str:
    """What is to be said of a file with bytes that aren't text in this encoding."""
    if encoding == "utf-16":
        return f"{path} begins as text in UTF-16, and goes on as none; save it in UTF-8"
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                shown = line[max(0, error.start - 20) : error.start + 20].decode("ascii", "replace").strip()
                return f"{path}, line {number:,} is no text in UTF-8, at the � of {shown!r}; save the file in UTF-8"
    return f"{path} is no text in UTF-8; save it so"


def _without_blanks(
    numbers: Sequence[int], some: list[list[str]], width: int
) -> tuple[list[int], list[list[str]], str]:
    """Rows but those of blank lines, up to one that has more or fewer values than the header; and that fault."""
    fault = ""
    for place, (number, row) in enumerate(zip(numbers, some, strict=True)):
        if row and len(row) != width:
            fault, some = f"line {number:,} has {len(row):,} values, and the header {width:,}", some[:place]
            break
    return list(compress(numbers, some)), list(filter(None, some)), fault


def _of_parquet(path: Path, choose: Choose) -> Iterator[Rows]:
    arrow, parquet = _pyarrow(path)
    done = 1
    try:
        with parquet.ParquetFile(path, buffer_size=1 << 20, page_checksum_verification=True) as file:
            names = file.schema_arrow.names
            columns = [names[place] for place in choose(names)]
            for name in columns:
                if names.count(name) > 1:
                    raise WaferlabError(
                        f"{path} has {names.count(name)} columns {name!r}; leave one, rename the others"
                    )
                if arrow.types.is_nested(file.schema_arrow.field(name).type):
                    raise WaferlabError(
                        f"{path}: column {name!r} has lists or records; expected a number or text a row"
                    )
            for batch in file.iter_batches(_ROWS, columns=columns):
                texts = (batch.column(name).cast(arrow.string()).fill_null("").to_pylist() for name in columns)
                if len(batch):
                    yield (range(done, done + len(batch)), *texts)
                done += len(batch)
    except (arrow.ArrowException, OSError, LookupError, OverflowError, *DAMAGE) as error:
        fault, *_ = str(error).splitlines() or [type(error).__name__]
        raise WaferlabError(f"{path} is damaged, or holds neither numbers nor text: {fault[:200]!r}") from error


def _write_csv(first: Columns, tables: Iterable[Columns], path: Path) -> None:
    separator = "\t" if path.suffix.lower() == ".tsv" else SEPARATORS[0]
    with whole_file(path) as file:
        file.write(_csv([first], separator))
        for each in tables:
            file.write(_csv(zip(*each.values(), strict=True), separator))


def _csv(lines: Iterable[Iterable[Any]], separator: str) -> bytes:
    text = StringIO()
    csv.writer(text, delimiter=separator, lineterminator="\n").writerows(lines)
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
