"""``waferlab report``: a study's folder from its MLflow runs; the same runs give the same bytes."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from omegaconf import DictConfig
from pydantic import Field
from rich.console import Console
from rich.table import Table

from waferlab.commands.compose import checked
from waferlab.config import Schema, TrackingConfig
from waferlab.tracking.figures import SERIES, VERMILION, save
from waferlab.tracking.run import Tracker
from waferlab.tracking.study import Row, Spread, StudyRun, by_data, read_study, rows

COLUMNS = ("", "n", "exact match", "macro F1", "parameters", "bytes", "paper", "reach")
TABLE, FIGURE = "results.md", "accuracy_by_size"
EXPLANATION = (
    "Exact match: all bits of a map are right; with macro F1, paper and reach in percent. Mean ± sample standard "
    "deviation over n seeds. Paper: the published figure. Reach: what the study set out for. Bytes: the model file "
    "in fp32."
)
#: Overrides that say where things lie; they change no result.
_PLACES = re.compile(r"\+{0,2}(?:store|tracking\.uri|dataset\.path|hydra\.\S+?)=")


class ReportConfig(Schema):
    """Which study, and the folder of its report."""

    tracking: TrackingConfig
    store: Path
    study: str = Field(pattern=r"^[\w.-]+$")
    output: Path


def run(composed: DictConfig) -> None:
    """Write the report as composed on the command line, and print its tables."""
    config = checked(ReportConfig, composed)
    console = Console()
    runs = read_study(Tracker(config.tracking, config.store), config.study)
    for data, members in by_data(runs).items():
        console.print(_printed(f"{config.study}, test maps of {_named(data)}", rows(members)))
    for path in write_report(config.study, runs, config.output):
        console.print(f"wrote {path}", highlight=False, soft_wrap=True)


def write_report(study: str, runs: Sequence[StudyRun], folder: Path) -> list[Path]:
    """Write ``results.md`` and, where there are sizes to compare, its figure; return what was written."""
    tables = {data: rows(members) for data, members in by_data(runs).items()}
    sizes = {row.bytes for table in tables.values() for row in table if row.bytes is not None}
    figures = []
    if len(sizes) > 1:
        figures = save({FIGURE: accuracy_by_size({_named(data): table for data, table in tables.items()})}, folder)
    text = [f"# Results of {study}", "", f"Written by `waferlab report study={study}`. {EXPLANATION}", ""]
    for data, members in by_data(runs).items():
        text += [*_section(data, members, tables[data]), ""]
    text += [line for figure in figures for line in (f"![exact match against bytes]({figure.name})", "")]
    text += ["## Commands", "", *_commands(runs)]
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / TABLE
    table.write_text("\n".join(text) + "\n", encoding="utf-8")
    return [table, *figures]


def accuracy_by_size(tables: Mapping[str, Sequence[Row]]) -> Figure:
    """Exact match against bytes: measured with its spread, published as a cross at the size of our reading of it."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    published = "published"
    for index, (data, table) in enumerate(tables.items()):
        networks = [(row.bytes, row) for row in table if row.bytes is not None]
        axes.errorbar(
            [size for size, _ in networks],
            [100 * row.exact_match.mean for _, row in networks],
            [100 * (row.exact_match.deviation or 0) for _, row in networks],
            fmt="o", capsize=3, color=SERIES[index % len(SERIES)], label=f"measured on {data}",
        )  # fmt: skip
        for size, row in networks:
            place = (size, 100 * row.exact_match.mean)
            axes.annotate(row.name, place, (7, 0), textcoords="offset points", va="center", fontsize=8)
            if row.claim is not None:
                axes.plot(size, row.claim, "x", color=VERMILION, label=published)
                published = "_"  # one entry in the legend
    axes.set(xlabel="bytes of the model file", ylabel="exact-match accuracy (%)", xscale="log")
    axes.margins(x=0.2, y=0.12)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    return figure


def _section(data: tuple[str, str], runs: Sequence[StudyRun], table: Sequence[Row]) -> list[str]:
    lines = [f"## {data[0]}", ""]
    lines += ["| " + " | ".join(COLUMNS) + " |", "|---|" + "---:|" * (len(COLUMNS) - 1)]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in table]
    facts = {
        "file": sorted({"; ".join(found) for run in runs if (found := _source(run.tags))}),
        "split": sorted({run.tags["dataset.split"] for run in runs if "dataset.split" in run.tags}),
        "fingerprint of maps, labels and split": [data[1]] if data[1] else [],
        "epochs": [f"{arm} {epochs}" for arm, epochs in _epochs(runs).items()],
    }
    return [*lines, "", *(f"- {name}: {', '.join(values)}" for name, values in facts.items() if values)]


def _source(tags: Mapping[str, str]) -> list[str]:
    """What a run says of the file that its maps are from, and of maps that no part has."""
    named = {"dataset.checksum": "checksum {}", "dataset.left_out": "{} duplicates left out"}
    return [text.format(tags[tag]) for tag, text in named.items() if tag in tags]


def _epochs(runs: Sequence[StudyRun]) -> dict[str, str]:
    """Epochs of each arm: one number, or the fewest and the most."""
    arms: dict[str, list[int]] = {}
    for run in runs:
        if run.epochs is not None:
            arms.setdefault(run.arm, []).append(run.epochs)
    return {arm: "-".join(map(str, sorted({min(some), max(some)}))) for arm, some in arms.items()}


def _commands(runs: Sequence[StudyRun]) -> list[str]:
    lines = [
        "Without the overrides that only say where things lie (`store`, `dataset.path`, `tracking.uri`).",
        "",
        "```",
    ]
    for run in runs:
        words = [word for word in shlex.split(run.command or "not recorded") if not _PLACES.match(word)]
        lines.append(f"{shlex.join(words)}  # {run.arm}, seed {run.seed}")
    return [*lines, "```"]


def _printed(title: str, table: Sequence[Row]) -> Table:
    """The table in 80 columns; parameters stand in the file only."""
    printed = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    shown = [index for index, column in enumerate(COLUMNS) if column != "parameters"]
    for index in shown:
        printed.add_column(COLUMNS[index], justify="right" if index else "left", no_wrap=index > 0)
    for row in table:
        cells = _cells(row)
        printed.add_row(*(cells[index] for index in shown))
    return printed


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name + (f" ({row.views} views)" if row.views > 1 else ""),
        "" if row.seeds is None else str(row.seeds),
        _percent(row.exact_match),
        _percent(row.macro_f1),
        f"{row.parameters:,}",
        "" if row.bytes is None else f"{row.bytes:,}",
        "" if row.claim is None else f"{row.claim:g}",
        "" if row.reach is None else f"{row.reach:g}",
    )


def _percent(share: Spread) -> str:
    mean = f"{100 * share.mean:.2f}"
    return mean if share.deviation is None else f"{mean} ± {100 * share.deviation:.2f}"


def _named(data: tuple[str, str]) -> str:
    return " ".join(filter(None, data))
