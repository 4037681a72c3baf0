"""Multi-label classification metrics, exact and on raw scores.

A logit above 0 (probability above 0.5) reads as "defect present". Ranking metrics see the logits as they are: a sigmoid
would round large ones to ties.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score

from waferlab.errors import WaferlabError
from waferlab.wafer import pattern_name, pattern_order

#: Of validation, where all metrics would take long.
HEADLINES: Final = ("exact_match", "macro_f1")
Score = Callable[[NDArray[np.uint8], NDArray[Any]], float]


@dataclass(frozen=True)
class Metrics:
    """Metrics by name, and the names of those that these labels and predictions leave undefined (0 / 0)."""

    values: dict[str, float]
    undefined: tuple[str, ...]

    @classmethod
    def of(cls, values: Mapping[str, float]) -> "Metrics":
        """Of all metrics, with NaN for undefined ones."""
        return cls(
            {name: float(value) for name, value in values.items() if not np.isnan(value)},
            tuple(name for name, value in values.items() if np.isnan(value)),
        )


@dataclass(frozen=True)
class PatternConfusion:
    """How often each true pattern was predicted as which.

    Attributes:
        names: the P patterns among the true labels, the rows.
        counts: (P, P + 1) int64; columns are the same patterns, then every other predicted combination together.
    """

    names: tuple[str, ...]
    counts: NDArray[np.int64]


def multilabel_metrics(logits: NDArray[np.floating], labels: NDArray[np.uint8], classes: tuple[str, ...]) -> Metrics:
    """Every classification metric of one evaluation, under names that MLflow accepts, all within [0, 1].

    Overall: ``exact_match`` (all bits right), ``exact_match_macro`` (its mean over the true patterns, however many maps
    each has), ``hamming_loss`` (share of wrong bits), ``micro_f1``, ``macro_f1``, ``macro_auroc`` and
    ``mean_average_precision``. For each class, ``precision/``, ``recall/``, ``f1/``, ``auroc/`` and
    ``average_precision/<class>``. For each number of simultaneous defects that occurs, ``exact_match/defects_<n>``.

    A metric without a value is left out and listed as undefined: precision where nothing is predicted, recall and
    average precision without a positive, AUROC without both outcomes, F1 without either a positive or a prediction. The
    macro means run over the classes that have a value.

    Args:
        logits: (N, C) finite raw scores.
        labels: (N, C) uint8 bits.
        classes: names of the C columns.

    Raises:
        WaferlabError: logits that are not finite, shapes that differ, or no maps.
    """
    headline = headline_metrics(logits, labels)
    predicted = (logits > 0).astype(np.uint8)
    right = (predicted == labels).all(1)
    defects = labels.sum(1, dtype=np.int64)
    per_class = {
        "precision": _by_class(partial(precision_score, zero_division=np.nan), labels, predicted),
        "recall": _by_class(partial(recall_score, zero_division=np.nan), labels, predicted),
        "f1": _by_class(_f1, labels, predicted),
        "auroc": _by_class(_auroc, labels, logits),
        "average_precision": _by_class(_average_precision, labels, logits),
    }
    by_pattern = [accuracy for accuracy, _ in accuracy_by_pattern(logits, labels, classes).values()]
    values = headline | {
        "exact_match_macro": np.mean(by_pattern),
        "hamming_loss": (predicted != labels).mean(),
        "micro_f1": _f1(labels.ravel(), predicted.ravel()),
        "macro_auroc": _mean_of_defined(per_class["auroc"]),
        "mean_average_precision": _mean_of_defined(per_class["average_precision"]),
    }
    values |= {f"exact_match/defects_{n}": right[defects == n].mean() for n in np.unique(defects)}
    for metric, column in per_class.items():
        values |= {f"{metric}/{name}": value for name, value in zip(classes, column, strict=True)}
    return Metrics.of(values)


def headline_metrics(logits: NDArray[np.floating], labels: NDArray[np.uint8]) -> dict[str, float]:
    """Those of `HEADLINES` alone, as `multilabel_metrics` has them; NaN where undefined.

    Raises:
        WaferlabError: logits that are not finite, shapes that differ, or no maps.
    """
    check_logits(logits, labels)
    predicted = (logits > 0).astype(np.uint8)
    exact = float((predicted == labels).all(1).mean())
    return {"exact_match": exact, "macro_f1": _mean_of_defined(_by_class(_f1, labels, predicted))}


def accuracy_by_pattern(
    logits: NDArray[np.floating], labels: NDArray[np.uint8], classes: tuple[str, ...]
) -> dict[str, tuple[float, int]]:
    """Exact-match accuracy in [0, 1] and number of maps of each pattern among the labels, fewest defects first."""
    confusion = pattern_confusion(logits, labels, classes)
    totals = confusion.counts.sum(1)
    accuracies = np.diagonal(confusion.counts) / totals
    return dict(zip(confusion.names, zip(accuracies.tolist(), totals.tolist(), strict=True), strict=True))


def pattern_confusion(
    logits: NDArray[np.floating], labels: NDArray[np.uint8], classes: tuple[str, ...]
) -> PatternConfusion:
    """Count predicted patterns for each true one; patterns are in order of their number of defects, then of their bits.

    Raises:
        WaferlabError: logits that are not finite, shapes that differ, or no maps.
    """
    check_logits(logits, labels)
    rows, codes = np.unique(np.concatenate([labels, logits > 0]), axis=0, return_inverse=True)
    true, predicted = np.split(codes, 2)
    present = np.unique(true)
    present = present[pattern_order(rows[present])]
    place = np.full(len(rows), len(present))
    place[present] = np.arange(len(present))
    counts = np.zeros((len(present), len(present) + 1), np.int64)
    np.add.at(counts, (place[true], place[predicted]), 1)
    return PatternConfusion(tuple(pattern_name(rows[row], classes) for row in present), counts)


def check_logits(logits: NDArray[np.floating], labels: NDArray[np.uint8]) -> None:
    """Refuse what would end as NaN in a metric.

    Raises:
        WaferlabError: logits that are not finite, shapes that differ, or no maps.
    """
    if logits.shape != labels.shape or logits.ndim != 2 or logits.size == 0:
        raise WaferlabError(
            f"Metrics need logits and labels of one shape (maps, classes), not empty: got {logits.shape} and "
            f"{labels.shape}. Check that the model and the data set have the same classes."
        )
    broken = np.flatnonzero(~np.isfinite(logits).all(1))
    if broken.size:
        raise WaferlabError(
            f"Model outputs are NaN or infinite for {broken.size} of {len(logits)} maps, first for map {broken[0]}; "
            "its training probably diverged. Lower the learning rate or clip gradients."
        )


def _by_class(score: Score, labels: NDArray[np.uint8], outputs: NDArray[Any]) -> list[float]:
    return [float(score(bits, column)) for bits, column in zip(labels.T, outputs.T, strict=True)]


def _f1(bits: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> float:
    return float(f1_score(bits, predicted, zero_division=np.nan))


def _auroc(bits: NDArray[np.uint8], scores: NDArray[np.floating]) -> float:
    return float(roc_auc_score(bits, scores)) if 0 < bits.mean() < 1 else np.nan


def _average_precision(bits: NDArray[np.uint8], scores: NDArray[np.floating]) -> float:
    return float(average_precision_score(bits, scores)) if bits.any() else np.nan


def _mean_of_defined(values: list[float]) -> float:
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else np.nan
