"""The figures of a classification run. Each function takes plain data and returns a figure free of global state.

Colours are those of Okabe and Ito, which colour-blind readers can tell apart.
"""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from textwrap import fill
from typing import Final

import numpy as np
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from PIL import Image

from waferlab.metrics.calibration import PseudoLabelError, Reliability
from waferlab.metrics.multilabel import PatternConfusion
from waferlab.wafer import pattern_name

BLUE: Final = "#0072B2"
ORANGE: Final = "#E69F00"
VERMILION: Final = "#D55E00"
SERIES: Final = (BLUE, ORANGE, "#009E73", "#CC79A7")
STATE_COLOURS: Final = {"no die": "#FFFFFF", "pass": "#C9D6DF", "fail": VERMILION}
DPI: Final = 110


def pattern_accuracy(accuracies: Mapping[str, Mapping[str, tuple[float, int]]]) -> Figure:
    """Exact-match accuracy of each pattern as horizontal bars, the models side by side.

    Args:
        accuracies: for each model's name, what `accuracy_by_pattern` returned; all on the same maps.
    """
    counts = {pattern: count for pattern, (_, count) in next(iter(accuracies.values())).items()}
    places = np.arange(len(counts))
    figure = Figure(figsize=(8, 1.2 + 0.29 * len(counts)), layout="constrained")
    axes = figure.add_subplot()
    height = 0.84 / len(accuracies)
    for index, (model, by_pattern) in enumerate(accuracies.items()):
        values = [100 * by_pattern[pattern][0] for pattern in counts]
        offset = (index - (len(accuracies) - 1) / 2) * height
        bars = axes.barh(places + offset, values, height, label=model, color=SERIES[index % len(SERIES)])
        axes.bar_label(bars, fmt="%.1f", fontsize=6.5, padding=2)
    axes.set_yticks(places, [f"{pattern}  ({count})" for pattern, count in counts.items()], fontsize=8)
    axes.set(xlabel="exact-match accuracy (%)", xlim=(0, 106), ylim=(len(counts) - 0.4, -0.6))
    axes.set_xticks(range(0, 101, 20))
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle("Exact-match accuracy by pattern (number of maps)")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(accuracies), frameon=False)
    return figure


def confusion(matrix: PatternConfusion) -> Figure:
    """Heat map of true against predicted patterns; rows add up to 100 %, cells of 1 % and more carry their number."""
    shares = 100 * matrix.counts / matrix.counts.sum(1, keepdims=True)
    side = 3.2 + 0.2 * len(matrix.names)
    figure = Figure(figsize=(side + 0.8, side), layout="compressed")
    axes = figure.add_subplot()
    image = axes.imshow(np.where(shares > 0, shares, np.nan), cmap="Blues", norm=LogNorm(0.1, 100))
    for row, column in np.argwhere(shares >= 1):
        colour = "white" if shares[row, column] > 10 else "black"
        axes.text(column, row, f"{shares[row, column]:.0f}", ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(len(matrix.names) + 1), [*matrix.names, "any other"], rotation=90, fontsize=8)
    axes.set_yticks(range(len(matrix.names)), matrix.names, fontsize=8)
    axes.set_xticks(np.arange(len(matrix.names)) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(matrix.names) - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="#DDDDDD", linewidth=0.4)
    axes.tick_params(which="minor", length=0)
    axes.set(xlabel="predicted pattern", ylabel="true pattern")
    bar = figure.colorbar(image, ax=axes, shrink=0.5, pad=0.01, format="%g")
    bar.set_label("share of the row (%), log scale")
    figure.suptitle("Confusion of patterns")
    return figure


def reliability_diagram(curves: Mapping[str, Reliability]) -> Figure:
    """Observed against predicted probability for each model, with its expected calibration error; counts below."""
    figure = Figure(figsize=(6.5, 6.5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color="grey", linestyle="--", linewidth=1, label="perfect calibration")
    for index, (model, curve) in enumerate(curves.items()):
        colour = SERIES[index % len(SERIES)]
        label = f"{model}: ECE {100 * curve.expected_calibration_error:.2f} %"
        upper.plot(curve.predicted, curve.observed, marker="o", markersize=5, color=colour, label=label)
        lower.plot(curve.predicted, curve.count, marker="o", markersize=4, color=colour)
    upper.set(ylabel="share of bits present in the labels", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    upper.legend(loc="upper left", frameon=False)
    lower.set(xlabel="predicted probability of a defect", ylabel="bits in the bin", yscale="log")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    figure.suptitle("Reliability of predicted probabilities")
    return figure


def pseudo_label_error_curve(error: PseudoLabelError) -> Figure:
    """Share of wrong hard targets, per bit and per map, against beta; each curve's minimum is marked."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for label, values, colour in (
        ("maps with a wrong bit", error.per_map, VERMILION),
        ("wrong bits", error.per_bit, BLUE),
    ):
        best = values.argmin()
        text = f"{label}: least {100 * values[best]:.2f} % at beta {error.betas[best]:.2f}"
        axes.plot(error.betas, 100 * values, marker="o", markersize=4, color=colour, label=text)
        axes.plot(error.betas[best], 100 * values[best], marker="o", markersize=11, color=colour, fillstyle="none")
    axes.set(xlabel='beta: probability above which the teacher says "present"', ylabel="error rate (%)", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.suptitle("Error of the teacher's pseudo-labels")
    return figure


def misclassified_maps(
    maps: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    logits: NDArray[np.floating],
    classes: tuple[str, ...],
    limit: int = 20,
) -> Figure:
    """Grid of the maps with a wrong bit, the most confidently wrong first, with true and predicted pattern.

    Args:
        maps: (N, H, W) uint8 die states.
        labels: (N, C) uint8 bits.
        logits: (N, C) raw scores.
        classes: names of the C columns.
        limit: the most maps to show.
    """
    predicted = (logits > 0).astype(np.uint8)
    margin = np.where(predicted != labels, np.abs(logits), 0).max(1)
    wrong = np.flatnonzero((predicted != labels).any(1))
    shown = wrong[np.argsort(-margin[wrong], kind="stable")][:limit]
    titles = [
        {what: pattern_name(row[index], classes) for what, row in (("true", labels), ("predicted", predicted))}
        for index in shown
    ]
    chosen = f"; the {len(shown)} most confident" if len(shown) < len(wrong) else ""
    return _maps(maps[shown], titles, f"{len(wrong)} of {len(maps)} maps misclassified{chosen}")


def doubted_maps(maps: NDArray[np.uint8], labelled: Sequence[str], answered: Sequence[str], limit: int = 20) -> Figure:
    """Grid of maps whose labels are doubted, with the pattern of the label and of the answer.

    Args:
        maps: (N, H, W) uint8 die states, the surest doubts first.
        labelled: (N,) patterns.
        answered: (N,) patterns.
        limit: the most maps to show.
    """
    titles = [{"label": label, "all models": answer} for label, answer in zip(labelled, answered, strict=True)][:limit]
    chosen = f"; the {limit} surest" if limit < len(maps) else ""
    return _maps(maps[:limit], titles, f"{len(maps)} labels that all models contradict{chosen}")


def _maps(maps: NDArray[np.uint8], titles: Sequence[Mapping[str, str]], heading: str) -> Figure:
    """Grid of maps (N, H, W), each with lines of what is said of it."""
    columns = 5
    rows = max(1, -(-len(maps) // columns))
    figure = Figure(figsize=(11, 1 + 2.6 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    colours = ListedColormap(list(STATE_COLOURS.values()))
    for axes in grid:
        axes.set_axis_off()
    for axes, wafer, lines in zip(grid, maps, titles, strict=False):
        axes.imshow(wafer, cmap=colours, vmin=0, vmax=2, interpolation="nearest")
        shown = "\n".join(_wrapped(f"{what}: {name}") for what, name in lines.items())
        axes.set_title(shown, fontsize=7.5, loc="left")
    figure.suptitle(heading)
    handles = [Patch(facecolor=colour, edgecolor="grey", label=state) for state, colour in STATE_COLOURS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _wrapped(name: str) -> str:
    return fill(name.replace("+", " + "), 34, subsequent_indent="    ", break_on_hyphens=False)


def save(figures: Mapping[str, Figure], folder: Path, whole: bool = False) -> list[Path]:
    """Write each figure as ``<name>.png`` into the folder, made if missing; return the files in the same order.

    With ``whole``, a picture is as large as what was drawn, for figures without a layout, whose long names stand out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in figures.items():
        path = folder / f"{name}.png"
        drawn = BytesIO()
        figure.savefig(drawn, dpi=DPI, bbox_inches="tight" if whole else None)
        with Image.open(drawn) as picture:  # 256 colours are enough, and a third of the bytes
            picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
        paths.append(path)
    return paths
