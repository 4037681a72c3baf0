"""Where to draw the line between good and defect: rules that choose a threshold, and what it costs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from waferlab.errors import WaferlabError

Scores = NDArray[np.floating]  # (N,), higher for defect
Truth = NDArray[np.bool_]  # (N,) whether it is one
#: True positive rates at which a factory asks for the false alarms.
WANTED: Final = (0.95, 0.99, 0.997, 1.0)


class Rule(Protocol):
    """Chooses a threshold by scores (N,) and truth (N,) of validation; a defect is what scores at least as much."""

    def __call__(self, scores: Scores, is_defect: Truth) -> float:
        """The threshold.

        Raises:
            WaferlabError: none does what is wanted.
        """


@dataclass(frozen=True)
class Recall:
    """The highest threshold that finds at least a share of the defects, so the one with the fewest false alarms.

    Attributes:
        at_least: share, above 0.
    """

    at_least: float = 0.99

    def __post_init__(self) -> None:
        _require_share("at_least", self.at_least, 0 < self.at_least <= 1)

    def __call__(self, scores: Scores, is_defect: Truth) -> float:
        """The threshold."""
        curve = _Curve.of(scores, is_defect)
        return curve.first(curve.found >= self.at_least)


@dataclass(frozen=True)
class FalsePositiveRate:
    """The threshold that finds the most defects, with at most a share of the good taken for defects.

    Attributes:
        at_most: share, below 1.
    """

    at_most: float = 0.01

    def __post_init__(self) -> None:
        _require_share("at_most", self.at_most, 0 <= self.at_most < 1)

    def __call__(self, scores: Scores, is_defect: Truth) -> float:
        """The threshold."""
        curve = _Curve.of(scores, is_defect)
        allowed = (curve.alarms <= self.at_most) & (curve.found > 0)
        if not allowed.any():
            raise WaferlabError(
                f"operating_point.at_most={self.at_most:g} can't be met: on validation, the wafer with the highest "
                f"score is good, and taking it for a defect is a false positive rate of {curve.alarms[1]:.3g}"
            )
        return curve.first(allowed & (curve.found == curve.found[allowed].max()))


@dataclass(frozen=True)
class Cost:
    """The threshold of the lowest mean cost.

    Attributes:
        missed: of a defect that is taken for good.
        false_alarm: of a good one that is taken for a defect.
        share: of defects where the model will be used, above 0 and below 1; null: that of validation.
    """

    missed: float = 10.0
    false_alarm: float = 1.0
    share: float | None = None

    def __post_init__(self) -> None:
        if self.missed <= 0 or self.false_alarm <= 0:
            raise ValueError(f"missed={self.missed:g} and false_alarm={self.false_alarm:g}: costs are above 0")
        if self.share is not None:
            _require_share("share", self.share, 0 < self.share < 1)

    def __call__(self, scores: Scores, is_defect: Truth) -> float:
        """The threshold."""
        curve = _Curve.of(scores, is_defect)
        share = is_defect.mean() if self.share is None else self.share
        costs = self.missed * share * (1 - curve.found) + self.false_alarm * (1 - share) * curve.alarms
        return curve.first(costs == costs.min())


@dataclass(frozen=True)
class F1:
    """The threshold of the highest F1."""

    def __call__(self, scores: Scores, is_defect: Truth) -> float:
        """The threshold."""
        curve = _Curve.of(scores, is_defect)
        found, alarms = curve.found * is_defect.sum(), curve.alarms * (~is_defect).sum()
        f1 = 2 * found / (is_defect.sum() + found + alarms)
        return curve.first(f1 == f1.max())


@dataclass(frozen=True)
class Argmax:
    """No threshold: the class of the highest probability."""

    def __call__(self, scores: Scores, is_defect: Truth) -> float:
        """NaN."""
        return float("nan")


@dataclass(frozen=True)
class _Curve:
    """True and false positive rates at every threshold that makes a difference, from the highest downwards."""

    found: NDArray[np.float64]
    alarms: NDArray[np.float64]
    thresholds: NDArray[np.float64]

    @classmethod
    def of(cls, scores: Scores, is_defect: Truth) -> "_Curve":
        if len(set(is_defect.tolist())) < 2:
            kind = "defects" if is_defect.any() else "good ones"
            raise WaferlabError(f"a threshold is chosen by good and defect, and validation has {kind} alone")
        alarms, found, thresholds = roc_curve(is_defect, scores, drop_intermediate=False)
        return cls(found, alarms, thresholds)

    def first(self, wanted: NDArray[np.bool_]) -> float:
        """The highest threshold that is wanted; midway to the next lower score, as the last digits of a score vary."""
        place = int(wanted.argmax())
        return float(self.thresholds[place : place + 2].mean())


def rates_at(threshold: float, scores: Scores, is_defect: Truth) -> dict[str, float]:
    """``recall``, ``false_positive_rate``, ``precision`` and ``f1`` of taking scores >= threshold for defects.

    NaN for what is undefined: a share of nothing.
    """
    taken = scores >= threshold
    found, alarms = int((taken & is_defect).sum()), int((taken & ~is_defect).sum())
    defects, good = int(is_defect.sum()), int((~is_defect).sum())
    shares = {
        "recall": (found, defects),
        "false_positive_rate": (alarms, good),
        "precision": (found, found + alarms),
        "f1": (2 * found, defects + found + alarms),
    }
    return {name: part / whole if whole else np.nan for name, (part, whole) in shares.items()}


def false_positive_rates(scores: Scores, is_defect: Truth) -> dict[str, float]:
    """``fpr_at_tpr/95`` and so on: the fewest false alarms of those that find so many percent of defects."""
    curve = _Curve.of(scores, is_defect)
    return {f"fpr_at_tpr/{100 * rate:g}": float(curve.alarms[(curve.found >= rate).argmax()]) for rate in WANTED}


def bootstrap(
    metric: Callable[[NDArray[np.int64]], float], count: int, level: float = 0.95, repeats: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """The interval of a metric between resamplings of the maps (percentile bootstrap; Efron 1979).

    Args:
        metric: of the maps with these numbers (N,), which may repeat; NaN where it is undefined.
        count: of the maps.
        level: share of the resamplings within the interval.

    Returns:
        Lowest and highest value; NaN where no resampling has one.
    """
    random = np.random.default_rng(seed)
    values = np.array([metric(random.integers(count, size=count)) for _ in range(repeats)])
    if np.isnan(values).all():
        return np.nan, np.nan
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _require_share(name: str, value: float, is_one: bool) -> None:
    if not is_one:
        raise ValueError(f"{name}={value:g} is no share between 0 and 1 that makes sense here")
