"""What any model came to on wafers that it wasn't fitted to."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from waferlab.data.dataset import Wafers

AnyMaps = TypeVar("AnyMaps", NDArray[np.uint8], Wafers)

LONG_ENOUGH: Final = 0.5  # seconds


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Metrics, size and speed of one model on one set of wafers.

    Attributes:
        name: ``student``, ``teacher``, ``detector``, ``model`` where one is evaluated alone, or a trivial baseline's.
        metrics: all defined metrics by name.
        undefined: names of metrics that these wafers leave undefined (a class without a positive, say).
        parameters: trained parameters.
        bytes: size of the model's file, or None where there is none.
        maps_per_second: measured on some of these wafers, on this machine, with all views that the answer takes.
        views: of each map that the answer takes.
    """

    name: str
    metrics: dict[str, float]
    undefined: tuple[str, ...]
    parameters: int
    bytes: int | None
    maps_per_second: float
    views: int = 1


def maps_per_second(answer: Callable[[AnyMaps], object], maps: AnyMaps) -> float:
    """How many maps are answered in a second, by a call that takes half a second or has them all."""
    answer(maps[:16])  # warm-up
    count = 16
    while True:
        started = time.perf_counter()
        answer(maps[:count])
        seconds = time.perf_counter() - started
        if seconds >= LONG_ENOUGH or count >= len(maps):
            return min(count, len(maps)) / seconds
        count *= 4
