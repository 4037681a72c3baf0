"""The figures of an anomaly run, and the picture of one wafer. Functions of plain data, free of global state."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from waferlab.tracking.figures import BLUE, ORANGE, STATE_COLOURS, VERMILION
from waferlab.wafer import NO_DIE

#: Wafers in a row of the grid.
COLUMNS: Final = 6
#: What the metrics of one defect begin with.
BY_DEFECT: Final = "image/auroc/"
_STATES: Final = ListedColormap([STATE_COLOURS["no die"], STATE_COLOURS["pass"], "#7F7F7F"])


def score_histogram(scores: NDArray[np.floating], is_abnormal: NDArray[np.bool_], threshold: float) -> Figure:
    """How the scores of normal and abnormal wafers are distributed, with the threshold.

    Args:
        scores: (N,).
        is_abnormal: (N,).
        threshold: from which on a wafer counts as abnormal; may be infinite.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    low, high = (float(np.quantile(scores, share)) for share in (0.0, 0.995))
    bins = np.linspace(low, max(high, low + 1e-9), 60).tolist()
    for label, rows, colour in (("normal", ~is_abnormal, BLUE), ("abnormal", is_abnormal, VERMILION)):
        if rows.any():
            shown = np.clip(scores[rows], bins[0], bins[-1])
            weights = np.full(len(shown), 100 / len(shown))
            text = f"{label} ({len(shown):,})"
            axes.hist(shown, bins, weights=weights, histtype="stepfilled", alpha=0.5, color=colour, label=text)
    if np.isfinite(threshold):
        axes.axvline(threshold, color="black", linestyle="--", linewidth=1, label="threshold")
    axes.set(xlabel="score of a wafer (the last bin holds all above)", ylabel="share of the wafers (%)")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle("Scores of normal and abnormal wafers")
    return figure


def auroc_by_defect(metrics: Mapping[str, Mapping[str, float]]) -> Figure:
    """How well each score sets wafers with one defect apart from normal ones: a mark a score, a line a defect.

    Args:
        metrics: of each score by its name: those named ``image/auroc/DEFECT`` are drawn.
    """
    found = {
        name: {key.removeprefix(BY_DEFECT): value for key, value in values.items() if key.startswith(BY_DEFECT)}
        for name, values in metrics.items()
    }
    defects = list(next(iter(found.values())))
    figure = Figure(figsize=(7, 1.6 + 0.34 * max(1, len(defects))), layout="constrained")
    axes = figure.add_subplot()
    for (name, values), marker, colour in zip(found.items(), "osx+1|v", (BLUE, ORANGE, *["#555555"] * 5), strict=False):
        axes.plot(
            [100 * values[defect] for defect in defects], range(len(defects)), marker, color=colour, label=_text(name)
        )
    axes.set_yticks(range(len(defects)), defects)
    axes.set(xlabel="image AUROC against normal wafers (%)", ylim=(len(defects) - 0.5, -0.5))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside upper center", ncols=3)
    return figure


def _number(score: float) -> str:
    """Three digits, and no powers of ten that a person would have to work out."""
    return f"{score:,.0f}" if abs(score) >= 1000 else f"{score:.3g}"


def _text(name: str) -> str:
    return name.replace("_", " ")


def found_and_missed(
    maps: NDArray[np.uint8],
    masks: NDArray[np.bool_],
    die_maps: NDArray[np.floating],
    scores: NDArray[np.floating],
    is_abnormal: NDArray[np.bool_],
    die_threshold: float,
) -> Figure:
    """Wafers with their heat maps: abnormal ones of the middle, the lowest-scored, and normal ones scored highest.

    Args:
        maps: (N, H, W) uint8 die states.
        masks: (N, H, W), abnormal dies, in colour.
        die_maps: (N, H, W), higher for abnormal.
        scores: (N,).
        is_abnormal: (N,).
        die_threshold: the middle of the colours; the median of all where infinite.
    """
    order = np.argsort(scores, kind="stable")
    abnormal, normal = order[is_abnormal[order]], order[~is_abnormal[order]]
    middle = max(0, (len(abnormal) - COLUMNS) // 2)
    groups = {
        "abnormal, scored in the middle": abnormal[middle : middle + COLUMNS],
        "abnormal, scored lowest": abnormal[:COLUMNS],
        "normal, scored highest": normal[::-1][:COLUMNS],
    }
    shown = {name: rows for name, rows in groups.items() if len(rows)}
    figure = Figure(figsize=(1.9 * COLUMNS, 4.3 * len(shown)), layout="constrained")
    parts = figure.subfigures(len(shown), 1, squeeze=False)[:, 0]
    for part, (name, rows) in zip(parts, shown.items(), strict=True):
        part.suptitle(name, fontsize=10)
        grid = part.subplots(2, COLUMNS, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for (upper, lower), row in zip(grid.T, rows, strict=False):
            draw_wafer(upper, maps[row], masks[row])
            draw_heat(lower, maps[row], die_maps[row], die_threshold)
            upper.set_title(_number(scores[row]), fontsize=8)
    return figure


def overlay(
    title: str,
    wafer: NDArray[np.uint8],
    die_map: NDArray[np.floating],
    score: float,
    threshold: float,
    die_threshold: float,
) -> Figure:
    """One wafer to be judged at a glance: its map with abnormal dies in colour, its heat map, the decision."""
    abnormal = score >= threshold
    figure = Figure(figsize=(7, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_wafer(left, wafer, (die_map >= die_threshold) & (wafer != NO_DIE))
    draw_heat(right, wafer, die_map, die_threshold)
    for axes, name in ((left, "failing dies, abnormal ones in colour"), (right, "score of each die")):
        axes.set_axis_off()
        axes.set_title(name, fontsize=9)
    says = "abnormal" if abnormal else "normal"
    against = f" (threshold {_number(threshold)})" if np.isfinite(threshold) else ""
    figure.suptitle(f"{title}: {says}, score {_number(score)}{against}", color=VERMILION if abnormal else "black")
    return figure


def draw_wafer(axes: Axes, wafer: NDArray[np.uint8], mask: NDArray[np.bool_] | None = None) -> None:
    """A map (H, W) in grey, abnormal dies in colour."""
    axes.imshow(wafer, cmap=_STATES, vmin=0, vmax=2, interpolation="nearest")
    if mask is not None and mask.any():
        axes.imshow(np.where(mask, 1.0, np.nan), cmap=ListedColormap([VERMILION]), interpolation="nearest")


def draw_heat(axes: Axes, wafer: NDArray[np.uint8], die_map: NDArray[np.floating], threshold: float) -> None:
    """Scores of dies (H, W), white at nothing, full colour at twice the threshold."""
    top = 2 * threshold if np.isfinite(threshold) and threshold > 0 else max(float(die_map.max()), 1e-9)
    axes.imshow(np.where(wafer == NO_DIE, np.nan, die_map), cmap="YlOrRd", vmin=0, vmax=top, interpolation="nearest")
