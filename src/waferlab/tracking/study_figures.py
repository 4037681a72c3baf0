"""The figures of a study: its tables at a glance."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Final

from matplotlib.figure import Figure

from waferlab.tracking.figures import BLUE, SERIES, VERMILION
from waferlab.tracking.study import Row, Spread, StudyRun

#: Networks that there is room to name; of more, those so many times as large as the one before.
_NAMED: Final = 8
_APART: Final = 1.5


def accuracy_by_size(tables: Mapping[str, Sequence[Row]]) -> Figure:
    """Wrong maps against bytes, both on logarithmic scales, and a line through those that no smaller one beats.

    Measured with its spread, named where the line runs or there is room for all; published as a cross at the size of
    the smallest of our readings of it that have the most seeds.
    """
    figure = Figure(figsize=(7, 4.8), layout="constrained")
    axes = figure.add_subplot()
    published = "published"
    for index, (data, table) in enumerate(tables.items()):
        networks = sorted(((row.bytes, _wrong(row), row) for row in table if row.bytes is not None), key=_by_size)
        sizes, wrong, of = zip(*networks, strict=True)
        spread = [100 * (row.metrics["exact_match"].deviation or 0) for row in of]
        colour = SERIES[index % len(SERIES)]
        axes.errorbar(sizes, wrong, spread, fmt="o", capsize=3, color=colour, label=f"measured on {data}")
        front = [place for place in range(len(wrong)) if wrong[place] < min(wrong[:place], default=math.inf)]
        axes.step([sizes[i] for i in front], [wrong[i] for i in front], where="post", color=colour, alpha=0.4)
        for place in _apart(front, sizes) if len(networks) > _NAMED else range(len(networks)):
            axes.annotate(
                of[place].name.replace("_", " "), (sizes[place], wrong[place]), (3, 5), textcoords="offset points",
                rotation=35, fontsize=7,
            )  # fmt: skip
        claimed = sorted(
            (row for row in of if row.claim is not None), key=lambda row: (row.seeds or 0, -(row.bytes or 0))
        )
        for claim, size in {row.claim: row.bytes for row in claimed}.items():
            axes.plot(size, 100 - claim, "x", color=VERMILION, label=published)
            published = "_"  # one entry in the legend
    axes.set(xlabel="bytes of the model file", ylabel="wrong maps (%)", xscale="log", yscale="log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.margins(x=0.2, y=0.3)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower left")
    return figure


def _apart(places: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """Of these places of ascending sizes, those whose names don't run into each other."""
    kept = list(places[:1])
    for place in places[1:]:
        if sizes[place] > _APART * sizes[kept[-1]]:
            kept.append(place)
    return kept


def _wrong(row: Row) -> float:
    """Percent of the maps with a wrong bit; at least a hundredth, which a logarithm has a place for."""
    return max(100 * (1 - row.metrics["exact_match"].mean), 0.01)


def _by_size(network: tuple[int, float, Row]) -> tuple[int, float]:
    return network[:2]


def by_arm(tables: Mapping[str, Sequence[Row]], metric: str, head: str) -> Figure:
    """A metric of each arm with its spread over seeds, trivial baselines as crosses; a panel for each data set.

    Args:
        tables: the rows of each data set; those without the metric are left out.
        metric: its name in them.
        head: what readers call it.
    """
    tables = {data: [row for row in table if metric in row.metrics] for data, table in tables.items()}
    sides = [0.6 + 0.26 * len(table) for table in tables.values()]
    figure = Figure(figsize=(7, 0.7 + sum(sides)), layout="constrained")
    panels = figure.subplots(len(tables), 1, squeeze=False, height_ratios=sides)[:, 0]
    for axes, (data, table) in zip(panels, tables.items(), strict=True):
        for place, row in enumerate(table):
            found, trained = row.metrics[metric], row.bytes is not None
            axes.errorbar(
                100 * found.mean, place, xerr=100 * (found.deviation or 0), fmt="o" if trained else "x", capsize=3,
                color=BLUE if trained else VERMILION,
            )  # fmt: skip
        axes.set_yticks(range(len(table)), [row.name.replace("_", " ") for row in table], fontsize=8)
        axes.set(ylim=(len(table) - 0.4, -0.6))
        axes.set_title(data, fontsize=9, loc="left")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel(f"{head} (%); x: without training")
    return figure


def accuracy_by_labels(runs: Sequence[StudyRun]) -> Figure:
    """Exact match against the share of the training labels that was known: a line for each arm, and for the teacher.

    What stands behind a comma in an arm's name is not its kind but its share.
    """
    found: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        found[run.arm.partition(",")[0]][run.labelled].append(run.metrics[run.network]["exact_match"])
        if "teacher" in run.metrics and run.network != "teacher":
            found["teacher"][run.labelled] = [run.metrics["teacher"]["exact_match"]]
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    colours = cycle(SERIES)
    for arm, by_share in sorted(found.items()):
        spreads = {share: Spread.of(by_share[share]) for share in sorted(by_share)}
        axes.errorbar(
            [100 * share for share in spreads],
            [100 * spread.mean for spread in spreads.values()],
            [100 * (spread.deviation or 0) for spread in spreads.values()],
            fmt="s:" if arm == "teacher" else "o-", capsize=3, label=arm,
            color="#555555" if arm == "teacher" else next(colours),
        )  # fmt: skip
    axes.set(xlabel="training labels that are known (%)", ylabel="exact-match accuracy (%)", xscale="log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    return figure


def error_by_beta(curves: Mapping[str, Mapping[float, float]]) -> Figure:
    """Share of maps with a wrong bit against beta, a line for each teacher; both axes to be read off."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for index, (name, curve) in enumerate(curves.items()):
        betas = sorted(curve)
        shares = [100 * curve[beta] for beta in betas]
        axes.plot(betas, shares, "o-", markersize=4, label=name, color=SERIES[index % len(SERIES)])
    axes.set(xlabel='beta: probability above which the teacher says "present"', ylabel="maps with a wrong bit (%)")
    axes.set_ylim(0, None)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure
