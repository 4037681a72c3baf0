"""How far predicted probabilities can be trusted, and what that means for a student's hard targets."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr, expit

from waferlab.metrics.multilabel import check_logits

BINS = 15
BETAS = np.linspace(0.05, 0.95, 19)


@dataclass(frozen=True)
class Reliability:
    """The reliability curve: one entry for each bin of predicted probability that holds any bit.

    Attributes:
        predicted: mean predicted probability of the bin's bits.
        observed: share of the bin's bits that are set in the labels.
        count: number of bits in the bin, int64.
    """

    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]
    count: NDArray[np.int64]

    @property
    def expected_calibration_error(self) -> float:
        """Mean of ``|observed - predicted|`` over the bins, each weighted by its count; in [0, 1]."""
        return float(np.average(np.abs(self.observed - self.predicted), weights=self.count))


@dataclass(frozen=True)
class PseudoLabelError:
    """Error rate of the targets ``sigmoid(logit) > beta`` against the labels; all arrays have one entry for each beta.

    Attributes:
        betas: thresholds in [0, 1].
        per_bit: share of wrong bits.
        per_map: share of maps with at least one wrong bit.
    """

    betas: NDArray[np.float64]
    per_bit: NDArray[np.float64]
    per_map: NDArray[np.float64]


def calibration_metrics(logits: NDArray[np.floating], labels: NDArray[np.uint8]) -> dict[str, float]:
    """``expected_calibration_error`` and ``brier_score`` in [0, 1], ``prediction_entropy`` in bits.

    The expected calibration error (Guo et al. 2017, in its form for binary decisions) treats the N * C bits as one set
    of decisions, sorts them into 15 equal-width bins by the probability of "present", and averages
    ``|share present - mean probability|`` over the bins, weighted by their counts. The Brier score is the mean squared
    difference between probability and bit; the prediction entropy the mean binary entropy of a bit's probability.

    Args:
        logits: (N, C) finite raw scores.
        labels: (N, C) uint8 bits.

    Raises:
        WaferlabError: logits that are not finite, shapes that differ, or no maps.
    """
    curve = reliability(logits, labels)
    present, absent = expit(logits.astype(np.float64)), expit(-logits.astype(np.float64))
    return {
        "expected_calibration_error": curve.expected_calibration_error,
        "brier_score": float(np.mean((present - labels) ** 2)),
        "prediction_entropy": float(np.mean(entr(present) + entr(absent)) / np.log(2)),
    }


def reliability(logits: NDArray[np.floating], labels: NDArray[np.uint8], bins: int = BINS) -> Reliability:
    """Predicted probability against observed frequency over all N * C bits, in equal-width bins ``[k, k + 1) / bins``.

    Raises:
        WaferlabError: logits that are not finite, shapes that differ, or no maps.
    """
    check_logits(logits, labels)
    probabilities = expit(logits.astype(np.float64)).ravel()
    index = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    count = np.bincount(index, minlength=bins)
    filled = count > 0
    predicted, observed = (
        np.bincount(index, values, bins)[filled] / count[filled] for values in (probabilities, labels.ravel())
    )
    return Reliability(predicted, observed, count[filled])


def pseudo_label_error(
    logits: NDArray[np.floating], labels: NDArray[np.uint8], betas: NDArray[np.float64] = BETAS
) -> PseudoLabelError:
    """What a student's hard targets ``sigmoid(logit) > beta`` get wrong, as a function of the sensitivity beta.

    Raises:
        WaferlabError: logits that are not finite, shapes that differ, or no maps.
    """
    check_logits(logits, labels)
    probabilities = expit(logits.astype(np.float64))
    wrong = [(probabilities > beta) != labels for beta in betas]
    per_bit = np.array([bits.mean() for bits in wrong])
    per_map = np.array([bits.any(1).mean() for bits in wrong])
    return PseudoLabelError(betas, per_bit, per_map)
