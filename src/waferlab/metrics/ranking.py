"""How well raw scores set positives apart from negatives: exact at any size, right with ties.

Everything follows from the two sorted sets of scores, because a curve over thresholds only changes where scores lie.
The areas under the receiver operating characteristic, whole or up to a false positive rate, and under the per-region
overlap are one sum over the positives, each with the false positive rate at which it comes to be found.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from waferlab.errors import WaferlabError

Scores = NDArray[np.floating]


@dataclass(frozen=True)
class Ranked:
    """Scores of positives and negatives, higher for "positive"; both sorted upwards, finite, in any number.

    Attributes:
        positives: (P,).
        negatives: (N,).
        weights: (P,), what each positive counts for in an area; not negative, adding up to 1.
    """

    positives: Scores
    negatives: Scores
    weights: NDArray[np.float64]

    @classmethod
    def of(cls, positives: Scores, negatives: Scores, weights: NDArray[np.float64] | None = None) -> "Ranked":
        """Of unsorted scores; without weights, all positives count alike.

        Raises:
            WaferlabError: a score is NaN or infinite.
        """
        for scores in (positives, negatives):
            if not np.isfinite(scores).all():
                raise WaferlabError("anomaly scores are NaN or infinite; the training probably diverged")
        if weights is None:
            weights = np.ones(len(positives))
        order = np.argsort(positives, kind="stable")
        return cls(positives[order], np.sort(negatives), weights[order] / max(weights.sum(), np.finfo(float).tiny))

    @property
    def is_defined(self) -> bool:
        """Whether there is a positive and a negative, without which no curve exists."""
        return len(self.positives) > 0 and len(self.negatives) > 0

    def auroc(self, limit: float = 1.0) -> float:
        """Area under the (weighted) ROC up to a false positive rate, divided by that rate; in [0, 1].

        The curve runs straight between neighbouring thresholds, so that tied scores count half.
        """
        first, last = (1 - below / len(self.negatives) for below in (self._below("right"), self._below("left")))
        # A positive tied with negatives comes to be found anywhere between two rates.
        within = np.clip(limit - first, 0, None) + np.clip(limit - last, 0, None)
        crossing = (first < limit) & (last > limit)
        area = within / 2
        area[crossing] = (limit - first[crossing]) ** 2 / (2 * (last - first)[crossing])
        return float(self.weights @ area / limit)

    def average_precision(self) -> float:
        """Mean over positives of the precision at their own score (the area under precision and recall, in steps)."""
        found, alarms = self._found
        return float(np.mean(found / (found + alarms)))

    def best_f1(self) -> tuple[float, float]:
        """Highest F1 over all thresholds, and the highest threshold that reaches it: positive is score >= threshold.

        It lies midway to the next lower score, as the last digits of a score vary.
        """
        found, alarms = self._found
        f1 = 2 * found / (len(self.positives) + found + alarms)
        best = len(f1) - 1 - int(f1[::-1].argmax())
        return float(f1[best]), self._midway(self.positives[best])

    def _midway(self, score: np.floating) -> float:
        """Between a score and the next lower one; the score where nothing lies between, or nothing is lower."""
        lower = [scores[scores < score].max(initial=-np.inf) for scores in (self.positives, self.negatives)]
        middle = (score + max(lower)) / 2
        return float(middle if np.isfinite(middle) and middle > max(lower) else score)

    def f1_at(self, threshold: float) -> float:
        """F1 of the decision score >= threshold."""
        found, alarms = (len(s) - np.searchsorted(s, threshold) for s in (self.positives, self.negatives))
        return float(2 * found / (len(self.positives) + found + alarms))

    @cached_property
    def _found(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(P,) true and false positives at the threshold of each positive's score."""
        found = len(self.positives) - np.searchsorted(self.positives, self.positives)
        return found, len(self.negatives) - self._below("left")

    def _below(self, side: Literal["left", "right"]) -> NDArray[np.int64]:
        """(P,) number of negatives below each positive; with ``right``, those equal to it too."""
        return np.searchsorted(self.negatives, self.positives, side)
