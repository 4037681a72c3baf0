"""Metrics of classifiers that name one class for each map or image, exact and on raw scores."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.metrics import average_precision_score, roc_auc_score

from waferlab.data.single_label import defect_scores, vote
from waferlab.errors import WaferlabError
from waferlab.metrics.calibration import BINS
from waferlab.metrics.multilabel import Metrics, check_logits

#: Of validation, where all metrics would take long.
HEADLINES: Final = ("accuracy", "macro_f1", "auroc")
#: Bounds of a temperature.
_COLDEST, _HOTTEST = 0.05, 20.0


def single_label_metrics(
    logits: NDArray[np.floating],
    labels: NDArray[np.uint8],
    classes: tuple[str, ...],
    normal: int | None,
    answers: NDArray[np.int64] | None = None,
) -> Metrics:
    """Every metric of one evaluation, all within [0, 1] but the log loss.

    ``accuracy``, ``balanced_accuracy`` (the mean recall), ``macro_f1``, ``log_loss`` in nats,
    ``expected_calibration_error`` (of the answer's probability, 15 bins; Guo et al. 2017). For each class
    ``precision/``, ``recall/`` and ``f1/<class>``. Where one class is normal: ``auroc`` and ``average_precision`` of
    the probability that a map isn't.

    A metric without a value is left out and listed as undefined: recall without a map of the class, precision where
    nobody names it, F1 without either. Means run over the classes that have a value.

    Args:
        logits: (N, K) finite raw scores.
        labels: (N, K) uint8, one bit a row.
        classes: names of the K columns.
        normal: the column of maps without a defect, or None.
        answers: (N,) the class that each map is taken for; that of the largest logit if None.

    Raises:
        WaferlabError: logits that are not finite, shapes that differ, no maps, or not one class for each.
    """
    check_logits(logits, labels)
    if not (labels.sum(1) == 1).all():
        raise WaferlabError("each map has one class here; labels of several defects are for task=mixed_type")
    true, answers = labels.argmax(1), logits.argmax(1) if answers is None else answers
    recall, precision, f1 = by_class(confusion(answers, true, labels.shape[1]))
    logs = log_softmax(logits.astype(np.float64), 1)
    values = {
        "accuracy": np.mean(answers == true),
        "balanced_accuracy": np.nanmean(recall),
        "macro_f1": np.nanmean(f1),
        "log_loss": -logs[np.arange(len(true)), true].mean(),
        "expected_calibration_error": _calibration_error(np.exp(logs.max(1)), logits.argmax(1) == true),
    }
    for name, each in (("precision", precision), ("recall", recall), ("f1", f1)):
        values |= {f"{name}/{label}": value for label, value in zip(classes, each, strict=True)}
    if normal is not None:
        scores, is_defect = defect_scores(logits, normal), true != normal
        has_both = 0 < is_defect.sum() < len(true)
        values["auroc"] = roc_auc_score(is_defect, scores) if has_both else np.nan
        values["average_precision"] = average_precision_score(is_defect, scores) if is_defect.any() else np.nan
    return Metrics.of(values)


def confusion(answers: NDArray[np.int64], true: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """(K, K) how often maps of each true class (N,), a row, were taken for which (N,), a column."""
    return np.bincount(true * classes + answers, minlength=classes**2).reshape(classes, classes)


def by_class(counts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Recall, precision and F1 (K,) of each class of a confusion (K, K); NaN where undefined."""
    right, of_class, named = np.diag(counts), counts.sum(1), counts.sum(0)
    with np.errstate(invalid="ignore"):
        return right / of_class, right / named, 2 * right / (of_class + named)


def temperature(views: NDArray[np.floating], labels: NDArray[np.uint8], rule: str = "mean") -> float:
    """What logits (V, N, K) have to be divided by, so that the views' vote has the least log loss (Guo et al. 2017).

    Of N answers that are all right, the next one is, too, with a probability of (N + 1) / (N + K), by Laplace's rule of
    succession. The targets are as sure as that and no surer (as in Platt 1999): otherwise few maps that a network tells
    apart perfectly would have it be sure of everything.

    Args:
        labels: (N, K) one bit a row.
        rule: of the vote.
    """
    targets = (labels.astype(float) * len(labels) + 1) / (len(labels) + labels.shape[1])

    def loss(log_temperature: float) -> float:
        logs = log_softmax(vote(views / np.exp(log_temperature), rule), 1)
        return float(-(targets * logs).sum(1).mean())

    return float(np.exp(minimize_scalar(loss, bounds=np.log([_COLDEST, _HOTTEST]), method="bounded").x))


def _calibration_error(confidence: NDArray[np.float64], is_right: NDArray[np.bool_]) -> float:
    index = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gap = np.bincount(index, confidence - is_right, BINS)
    return float(np.abs(gap).sum() / len(confidence))
