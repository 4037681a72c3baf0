"""Two things timed side by side, and what is said of them."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple, TypeVar

Timed = Callable[[], float]  # does something once, returns its seconds
Found = TypeVar("Found")


class Epoch(NamedTuple):
    """Seconds of an epoch: of its steps alone, and with its validation."""

    steps: float
    whole: float


@dataclass(frozen=True)
class Measurement:
    """One line of the benchmark's table.

    Attributes:
        what: what was measured.
        reference: what it is a ratio to, or what was measured beside it.
        values: one a repeat.
        unit: of the values; empty for ratios.
        limit: the value that the project claims, or None where it claims none.
        at_least: the limit is a lower one.
    """

    what: str
    reference: str
    values: tuple[float, ...]
    unit: str = ""
    limit: float | None = None
    at_least: bool = False

    @property
    def median(self) -> float:
        """The value that counts."""
        return median(self.values)

    @property
    def verdict(self) -> str:
        """``ok`` or ``missed``; empty where there is no limit."""
        if self.limit is None:
            return ""
        kept = self.median >= self.limit if self.at_least else self.median <= self.limit
        return "ok" if kept else "missed"


def seconds_to(do: Callable[[], object]) -> float:
    """Wall-clock seconds that one call takes."""
    started = time.perf_counter()
    do()
    return time.perf_counter() - started


def side_by_side(first: Callable[[], Found], second: Callable[[], Found], repeats: int) -> list[tuple[Found, Found]]:
    """What both took in each repeat, one right after the other, each of them first in turn.

    A machine that others use too slows both alike, so that ratios within a repeat hold where times don't.
    """
    pairs = []
    for repeat in range(repeats):
        if repeat % 2:
            late = second()
            pairs.append((first(), late))
        else:
            pairs.append((first(), second()))
    return pairs


def ratios(first: Timed, second: Timed, repeats: int) -> tuple[float, ...]:
    """Seconds of the first over seconds of the second, in each repeat."""
    return tuple(one / other for one, other in side_by_side(first, second, repeats))


@contextmanager
def threads(most: int) -> Iterator[None]:
    """Have torch use at most so many threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(min(most, before))
    try:
        yield
    finally:
        torch.set_num_threads(before)
