"""From a stream of wafers to a table, heat maps and pictures: flat memory, however many there are."""

import heapq
import os
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from waferlab.data.ragged import RaggedMaps, resized
from waferlab.edge.card import Card
from waferlab.edge.model import Anomalies, Patterns, Predictor
from waferlab.edge.own import Own
from waferlab.edge.pictures import drawable, is_ours, picture, save
from waferlab.edge.table import table
from waferlab.errors import ConfigError
from waferlab.formats.block import Block
from waferlab.formats.npz import growing
from waferlab.progress import progress
from waferlab.wafer import STATES, pattern_name
from waferlab.whole_file import whole_file

TABLE, HEAT_MAPS, PICTURES = "predictions.csv", "heat_maps.npy", "pictures"
#: What is said of a wafer instead of a pattern.
NO_DIES: Final = "no dies"
_OTHER_TABLES: Final = (".gz", ".json", ".npy", ".tsv", ".txt", ".xls", ".xlsx")
_IN_FLIGHT: Final = 2  # blocks for each processor that wait or are computed
#: Columns of the table that have another meaning than a class of this name would.
_TAKEN: Final = ("wafer", "image", "file", "pattern", "bits")


class Batch(NamedTuple):
    """Some wafers, or images.

    Attributes:
        names: of each (n,).
        maps: of a model's size, (n, H, W) uint8, or images (n, H, W, 1 or 3).
        own: the same maps as they were before they came to that size; None: so they were.
        files: of which file of a folder each is; empty, if it was no folder.
    """

    names: Sequence[str]
    maps: NDArray[np.uint8]
    own: RaggedMaps | None = None
    files: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to write, and where.

    Attributes:
        output: a folder, or the table itself: a path that ends in ``.csv`` or ``.parquet``.
        threshold: score from which on a wafer is abnormal; None: the model's own.
        die_threshold: the same for a die.
        pictures: of how many wafers: of those that something is most surely wrong with.
        heat_maps: whether to keep the scores of all dies.
        threads: None: one for each processor.
    """

    output: Path = Path("predictions")
    threshold: float | None = None
    die_threshold: float | None = None
    pictures: int = 20
    heat_maps: bool = False
    threads: int | None = None

    def __post_init__(self) -> None:
        """Refuse what can't be written."""
        if self.pictures < 0:
            raise ConfigError(f"pictures={self.pictures} is a number of wafers: 0 or more")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"threads={self.threads}: at least 1")
        for name in ("threshold", "die_threshold"):
            if (line := getattr(self, name)) is not None and not np.isfinite(line):
                raise ConfigError(f"{name}={line} is no finite number")
        if self.output.suffix.lower() in _OTHER_TABLES:
            raise ConfigError(f"output={self.output}: a table ends in .csv or .parquet; anything else is a folder")
        if (folder := self.place(TABLE).parent).exists() and not folder.is_dir():
            raise ConfigError(f"output={self.output}: {folder} is there already, and is no folder")

    def place(self, name: str) -> Path:
        """Where the table, heat maps or pictures go: into the folder, or beside a table that has a name."""
        if self.output.suffix.lower() not in (".csv", ".parquet"):
            return self.output / name
        return self.output if name == TABLE else self.output.with_name(f"{self.output.stem}_{name}")


@dataclass
class Found:
    """What came of it.

    Attributes:
        wafers: how many were predicted.
        patterns: how many have each pattern; of an anomaly model ``abnormal`` and ``normal``.
        empty: how many have no die.
        failed: how many have dies of which none passes.
        shrunk: how many were larger than the model's grid.
        seconds: that it took.
        written: files and folders.
    """

    wafers: int = 0
    patterns: Counter[str] = field(default_factory=Counter)
    empty: int = 0
    failed: int = 0
    shrunk: int = 0
    seconds: float = 0.0
    written: list[Path] = field(default_factory=list)


def of_size(blocks: Iterable[Block], card: Card) -> Iterator[Batch]:
    """The same wafers on a model's grid."""
    for block in blocks:
        yield Batch(block.names, resized(block.maps, card.size, card.resize), block.maps, block.files)


def predict(model: Predictor, batches: Iterable[Batch], wanted: Wanted) -> Found:
    """Write what a model says of wafers; the batches are computed in threads and written in order.

    Raises:
        WaferlabError: a wafer can't be read; then no table is left.
    """
    started, found, is_again = time.perf_counter(), Found(), wanted.place(TABLE).exists()
    lines = _Lines.of(model.card, wanted)
    highest = _Highest(wanted.pictures)
    with ExitStack() as stack:
        add_rows = stack.enter_context(table(wanted.place(TABLE)))
        add_maps: Callable[[NDArray[Any]], None] | None = None
        bar = stack.enter_context(progress("wafers", None))
        for batch, answer in _answered(model, batches, wanted.threads or os.cpu_count() or 1):
            own = Own.of(batch.own, batch.maps, model.card)
            columns, names = _columns(own, answer, model.card, lines)
            whose = {"file": batch.files} if batch.files else {}
            add_rows({"image" if model.card.states > STATES else "wafer": batch.names, **whose, **columns})
            if wanted.heat_maps and isinstance(answer, Anomalies) and answer.die_maps is not None:
                if add_maps is None:
                    file = stack.enter_context(whole_file(wanted.place(HEAT_MAPS)))
                    add_maps = stack.enter_context(growing(file, *model.card.size, dtype="<f4"))
                add_maps(answer.die_maps)
            highest.see(batch, answer, names, own.empty, model.card)
            found.wafers += len(batch.names)
            found.patterns.update(names)
            found.empty += int(own.empty.sum())
            found.failed += int(own.failed.sum())
            found.shrunk += own.shrunk
            bar.advance(len(batch.names), f"{found.wafers / (time.perf_counter() - started):,.0f} a second")
    found.seconds = time.perf_counter() - started
    found.written = [wanted.place(TABLE), *([wanted.place(HEAT_MAPS)] if add_maps else [])]
    found.written += highest.draw(wanted.place(PICTURES), lines.die)
    if add_maps is None and is_again:
        wanted.place(HEAT_MAPS).unlink(missing_ok=True)  # those beside the table that was replaced
    return found


class _Lines(NamedTuple):
    """Scores from which on a wafer, and a die, are abnormal; infinite where the model has no such line."""

    wafer: float
    die: float

    @classmethod
    def of(cls, card: Card, wanted: Wanted) -> "_Lines":
        pairs = ((wanted.threshold, card.threshold), (wanted.die_threshold, card.die_threshold))
        return cls(*(next((line for line in pair if line is not None), np.inf) for pair in pairs))


def _answered(model: Predictor, batches: Iterable[Batch], threads: int) -> Iterator[tuple[Batch, Patterns | Anomalies]]:
    """Answers in the order of the batches; only so many are under way that memory stays flat."""
    in_flight = _IN_FLIGHT * min(threads, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[tuple[Batch, Future[Patterns | Anomalies]]] = deque()
        try:
            for batch in batches:
                waiting.append((batch, pool.submit(model.answer, batch.maps)))
                if len(waiting) >= in_flight:
                    first, answer = waiting.popleft()
                    yield first, answer.result()
            while waiting:
                first, answer = waiting.popleft()
                yield first, answer.result()
        finally:
            for _, answer in waiting:
                answer.cancel()


def _columns(
    own: Own, answer: Patterns | Anomalies, card: Card, lines: _Lines
) -> tuple[Mapping[str, Sequence[Any]], list[str]]:
    """The table's columns for a batch, and in a word what each wafer is; nothing of one without a die."""
    if isinstance(answer, Patterns):
        texts = ["".join(map(str, row)) for row in answer.bits.tolist()]
        said = {text: pattern_name(row, card.classes) for text, row in zip(texts, answer.bits, strict=True)}
        names = [NO_DIES if none else said[text] for text, none in zip(texts, own.empty, strict=True)]
        shares = np.where(own.empty[:, None], np.nan, answer.probabilities).T.tolist()
        bits = ["" if none else text for text, none in zip(texts, own.empty, strict=True)]
        called = [f"{name} (class)" if name in _TAKEN else name for name in card.classes]
        return {"pattern": names, "bits": bits, **dict(zip(called, shares, strict=True))}, names
    is_abnormal = (answer.scores >= lines.wafer) & ~own.empty
    scores = np.where(own.empty, np.nan, answer.scores)
    columns: dict[str, Sequence[Any]] = {"score": scores.tolist(), "abnormal": is_abnormal.tolist()}
    if answer.die_maps is not None:
        columns["abnormal_dies"] = own.dies_at(answer.die_maps >= lines.die, card)
    words = np.where(own.empty, NO_DIES, np.where(is_abnormal, "abnormal", "normal"))
    return columns, words.tolist()


class _Highest:
    """The wafers that something is most surely wrong with, so far."""

    def __init__(self, most: int) -> None:
        self._most, self._seen = most, 0
        self._kept: list[tuple[float, int, str, str, NDArray[np.uint8], NDArray[np.float32] | None]] = []

    def see(
        self, batch: Batch, answer: Patterns | Anomalies, names: Sequence[str], empty: NDArray[np.bool_], card: Card
    ) -> None:
        """Keep those of a batch that are higher than what is kept, but none that is `empty` (n,)."""
        scores = answer.scores if isinstance(answer, Anomalies) else _concern(answer.probabilities, card.normal)
        dies = answer.die_maps if isinstance(answer, Anomalies) else None
        scores = np.where(empty, -np.inf, scores)
        for row in np.argsort(-scores, kind="stable")[: self._most]:
            score = float(scores[row])
            if empty[row] or (len(self._kept) == self._most and score <= self._kept[0][0]):
                break
            name = batch.names[row]
            title = f"{drawable(name) or f'row {self._seen + int(row) + 1}'}: {drawable(names[row]) or ''}, {score:.3g}"
            heat = None if dies is None else dies[row].copy()  # not a view, which would keep its whole block
            one = (score, -(self._seen + int(row)), name, title, batch.maps[row].copy(), heat)
            (heapq.heappushpop if len(self._kept) == self._most else heapq.heappush)(self._kept, one)
        self._seen += len(batch.names)

    def draw(self, folder: Path, line: float) -> list[Path]:
        """A picture of each in the folder, instead of earlier ones; the folder, if there is any."""
        for earlier in folder.glob("[0-9]*_*.png"):
            if is_ours(earlier):
                earlier.unlink()
        if not self._kept:
            return []
        folder.mkdir(parents=True, exist_ok=True)
        for place, (*_, name, title, shown, heat) in enumerate(sorted(self._kept, reverse=True), 1):
            called = re.sub(r"[^\w.+-]+", "_", name)[:60]  # characters of up to four bytes
            save(picture(title, shown, heat, line), folder / f"{place:03d}_{called}.png")
        return [folder]


def _concern(probabilities: NDArray[np.float32], normal: int | None) -> NDArray[np.float32]:
    """How sure it is that a wafer has any defect (N,)."""
    found: NDArray[np.float32] = probabilities.max(1) if normal is None else 1 - probabilities[:, normal]
    return found
