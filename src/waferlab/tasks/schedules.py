"""Learning rate over time: a factor of the optimizer's rate for a share of training done, 0 to 1."""

import math
from typing import Protocol


class Schedule(Protocol):
    """A factor in [0, 1] for a progress in [0, 1]."""

    def __call__(self, progress: float) -> float:
        """Factor of the learning rate when this share of all optimizer steps is done."""
        ...


class Constant:
    """The same rate throughout."""

    def __call__(self, progress: float) -> float:
        """Always 1."""
        return 1.0


class Cosine:
    """Linear warm-up, then half a cosine down to a rest.

    Args:
        warmup: share of all steps in which the rate rises, in [0, 1).
        final: factor at the end, in [0, 1].

    Raises:
        ValueError: a share is out of range.
    """

    def __init__(self, warmup: float = 0.05, final: float = 0.01) -> None:
        if not 0 <= warmup < 1:
            raise ValueError(f"warmup={warmup} is a share of all steps: at least 0, below 1")
        if not 0 <= final <= 1:
            raise ValueError(f"final={final} is a factor between 0 and 1")
        self.warmup, self.final = warmup, final

    def __call__(self, progress: float) -> float:
        """Factor of the learning rate when this share of all optimizer steps is done."""
        if progress < self.warmup:
            return max(progress / self.warmup, 1e-3)
        turn = min((progress - self.warmup) / (1 - self.warmup), 1.0)
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * turn)) / 2


class OneCycle:
    """The rate rises to its height and falls to next to nothing, both along half a cosine (Smith & Topin 2017).

    Args:
        warmup: share of all steps in which the rate rises, above 0 and below 1.
        start: factor at the beginning, above 0, at most 1.
        final: factor at the end, in [0, 1].

    Raises:
        ValueError: a share is out of range.
    """

    def __init__(self, warmup: float = 0.25, start: float = 0.04, final: float = 4e-6) -> None:
        if not 0 < warmup < 1:
            raise ValueError(f"warmup={warmup} is a share of all steps: above 0, below 1")
        if not 0 < start <= 1 or not 0 <= final <= 1:
            raise ValueError(f"start={start} and final={final} are factors between 0 and 1")
        self.warmup, self.start, self.final = warmup, start, final

    def __call__(self, progress: float) -> float:
        """Factor of the learning rate when this share of all optimizer steps is done."""
        if progress < self.warmup:
            return _along_cosine(self.start, 1, progress / self.warmup)
        return _along_cosine(1, self.final, min((progress - self.warmup) / (1 - self.warmup), 1.0))


def _along_cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
