"""The figures of transfer learning: confusion, and what each threshold costs."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from waferlab.data.single_label import defect_scores
from waferlab.metrics.operating_point import rates_at
from waferlab.tracking.figures import SERIES

_RING: Final[dict[str, Any]] = {"marker": "o", "markersize": 9, "fillstyle": "none", "linestyle": ""}


def confusion(counts: NDArray[np.int64], classes: tuple[str, ...]) -> Figure:
    """Heat map of true against predicted classes, with the counts; colours are shares of the row."""
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = 3 + 0.55 * len(classes)
    figure = Figure(figsize=(side + 0.8, side), layout="compressed")
    axes = figure.add_subplot()
    image = axes.imshow(np.where(shares > 0, shares, np.nan), cmap="Blues", norm=LogNorm(0.1, 100))
    for row, column in np.argwhere(counts > 0):
        colour = "white" if shares[row, column] > 10 else "black"
        axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(len(classes)), classes, rotation=90)
    rows = [f"{name}  ({count:,})" for name, count in zip(classes, counts.sum(1), strict=True)]
    axes.set_yticks(range(len(classes)), rows)
    axes.set(xlabel="predicted", ylabel="true (number of maps)")
    bar = figure.colorbar(image, ax=axes, shrink=0.6, pad=0.02, format="%g")
    bar.set_label("share of the row (%), log scale")
    figure.suptitle("Confusion of classes")
    return figure


def curves(
    logits: Mapping[str, NDArray[np.floating]], true: NDArray[np.int64], normal: int, answers: NDArray[np.int64]
) -> Figure:
    """ROC, with false alarms on a log scale, and precision against recall; the first model's answers are marked.

    Args:
        logits: (N, K) of each model.
        true: (N,) class of each map.
        normal: the class without a defect.
        answers: (N,) class that the first model takes each map for.
    """
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    roc, precision = figure.subplots(1, 2)
    is_defect = true != normal
    lowest = 100 / (2 * max((~is_defect).sum(), 1))
    for index, (name, each) in enumerate(logits.items()):
        scores, colour = defect_scores(each, normal), SERIES[index % len(SERIES)]
        alarms, found, _ = roc_curve(is_defect, scores)
        roc.plot(np.maximum(100 * alarms, lowest), 100 * found, color=colour, label=name.replace("_", " "))
        share, recall, _ = precision_recall_curve(is_defect, scores)
        precision.plot(100 * recall, 100 * share, color=colour)
        if not index:
            rates = rates_at(0.5, (answers != normal).astype(float), is_defect)
            at, cost = 100 * rates["recall"], max(100 * rates["false_positive_rate"], lowest)
            roc.plot(cost, at, **_RING, color=colour, label="its answers")
            precision.plot(at, 100 * rates["precision"], **_RING, color=colour)
    roc.set(xlabel="good taken for defects (%), log scale", ylabel="defects found (%)", xscale="log", ylim=(-2, 102))
    precision.set(xlabel="defects found (%)", ylabel="precision (%)", ylim=(-2, 102), xlim=(-2, 102))
    roc.legend(loc="lower right", frameon=False)
    for axes in (roc, precision):
        axes.grid(alpha=0.3)
    figure.suptitle("What each threshold finds, and what it costs")
    return figure
