"""``waferlab report``: a study's folder from its MLflow runs; the same runs give the same bytes."""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from matplotlib.figure import Figure
from omegaconf import DictConfig
from pydantic import Field
from rich.console import Console
from rich.markup import escape as rich_escape
from rich.table import Table

from waferlab.commands import markdown
from waferlab.commands.report_page import write_page
from waferlab.commands.sweep_report import write_sweeps
from waferlab.commands.teaching_report import named, teaching_section
from waferlab.config import TrackingConfig
from waferlab.experiment.compose import checked
from waferlab.schema import Schema
from waferlab.tracking.figures import save
from waferlab.tracking.study import NETWORKS, Row, Spread, StudyRun, by_data, has_results, read_study, rows, unseen
from waferlab.tracking.study_figures import accuracy_by_labels, accuracy_by_size, by_arm, error_by_beta
from waferlab.tracking.sweeps import read_sweeps
from waferlab.tracking.teaching import Teaching, read_teaching
from waferlab.tracking.tracker import Tracker
from waferlab.whole_file import write_whole

RESULTS = "results.md"
#: The metrics of a table, by what its rows are: classifiers, or detectors.
CLASSIFIED: Final = {"exact_match": "exact match", "macro_f1": "macro F1"}
DETECTED: Final = {
    "image/auroc": "image AUROC",
    "pixel/auroc": "AUROC",
    "pixel/aupr": "AUPR",
    "pixel/aupro": "AUPRO",
    "pixel/f1": "F1",
}
INSPECTED: Final = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "auroc": "AUROC",
    "fpr_at_tpr/99": "FPR at 99",
}
EXPLANATION = (
    "Metrics, paper and reach in percent. Mean ± sample standard deviation over n seeds. Paper: the published figure. "
    "Reach: what the study set out for. Bytes: the model file, in fp32 where nothing else is said. Exact match: all "
    "bits of a map are right. Image AUROC is of wafers; AUROC, AUPR, AUPRO and F1 (at the threshold chosen on "
    "validation) are of dies, those that the mask calls abnormal."
)
#: What else there is to know where it was measured how long models took to fit.
SPEED = (
    " Fit s: seconds to fit, without its teacher's training. Maps/s: answers a second, on the machine that the runs "
    "were on, which may have been busy with others."
)
#: What else there is to know of exported files.
DEPLOYED = (
    " Rows that name a format are of exported files: their bytes, answers a second in batches of 64 and ms for a "
    "single map, both in one thread, and MB (1e6 bytes) that a process takes that only predicts. Turned: the first "
    "metric, of the same wafers turned by a quarter."
)
#: What else there is to know of `INSPECTED`.
ONE_CLASS = (
    " Each map has one class: AUROC is of any defect against none, FPR at 99 the share of good maps that are taken for "
    "defects where 99 % of the defects are found; of one view: macro F1 without views at test time."
)
_ONE_VIEW: Final = "one_view/macro_f1"
#: From so many sizes on, a table says which are the smallest from these exact matches on.
MANY_SIZES, ROUND_ACCURACIES = 6, (0.90, 0.95, 0.98)
#: Overrides that say where things lie; they change no result.
_PLACES = re.compile(r"\+{0,2}(?:store|output|tracking\.uri|dataset\.path|hydra\.\S+?)=")


class ReportConfig(Schema):
    """Which study, and the folder of its report."""

    tracking: TrackingConfig
    store: Path
    study: str = Field(pattern=r"^[\w.-]+$")
    output: Path


def run(composed: DictConfig) -> None:
    """Write the report as composed on the command line, and print its tables."""
    config = checked(ReportConfig, composed)
    console, tracker = Console(), Tracker(config.tracking, config.store)
    written, sweeps = [], read_sweeps(tracker, config.study)
    if not sweeps or has_results(tracker, config.study):
        runs = read_study(tracker, config.study)
        for data, members in by_data(runs).items():
            console.print(_printed(f"{config.study}, test maps of {_named(data)}", rows(members)))
        written += write_report(config.study, runs, config.output, read_teaching(tracker, runs))
    if sweeps:
        written += write_sweeps(config.study, sweeps, config.output)
    written.append(write_page(config.study, written, config.output))
    for path in written:
        console.print(f"wrote {path}", highlight=False, soft_wrap=True)


def write_report(study: str, runs: Sequence[StudyRun], folder: Path, teachings: Sequence[Teaching] = ()) -> list[Path]:
    """Write ``results.md`` and figures of what there is to compare; return what was written."""
    tables = {_named(data): rows(members) for data, members in by_data(runs).items()}
    figures = save(_figures(tables, runs, teachings), folder)
    lines = [f"# Results of {markdown.text(study)}", ""]
    explained = EXPLANATION + (ONE_CLASS if any(_metrics(table) == INSPECTED for table in tables.values()) else "")
    if any("fit_seconds" in row.metrics for table in tables.values() for row in table):
        explained += SPEED
    if any("milliseconds" in row.metrics for table in tables.values() for row in table):
        explained += DEPLOYED
    lines += [f"Written by `waferlab report study={study}`. {explained}", ""]
    for data, members in by_data(runs).items():
        lines += [*_section(data, members, tables[_named(data)]), ""]
    lines += [line for figure in figures for line in (markdown.image(figure), "")]
    lines += [*teaching_section(teachings), *_unseen(runs)]
    lines += ["## Commands", "", *_commands(runs)]
    written = folder / RESULTS
    write_whole(written, ("\n".join(lines) + "\n").encode())
    return [written, *figures]


def _figures(
    tables: Mapping[str, Sequence[Row]], runs: Sequence[StudyRun], teachings: Sequence[Teaching]
) -> dict[str, Figure]:
    """What there is to compare: classifiers of several sizes, or shares of labels, detectors by arm, teachers."""
    drawn = {}
    if len({run.labelled for run in runs}) > 1 and all("exact_match" in run.metrics[run.network] for run in runs):
        drawn["accuracy_by_labels"] = accuracy_by_labels(runs)
    if teachings:
        drawn["pseudo_label_error"] = error_by_beta({named(one): one.wrong_maps for one in teachings})
    detected = {data: table for data, table in tables.items() if _metrics(table) == DETECTED}
    inspected = {data: table for data, table in tables.items() if _metrics(table) == INSPECTED}
    classified = {data: table for data, table in tables.items() if _metrics(table) == CLASSIFIED}
    sizes = {row.bytes for table in classified.values() for row in table if row.bytes is not None}
    if len(sizes) > 1 and "accuracy_by_labels" not in drawn:
        drawn["accuracy_by_size"] = accuracy_by_size(classified)
    for name, metric, of_kind in (("auroc", "image/auroc", detected), ("macro_f1", "macro_f1", inspected)):
        if any(len(table) > 1 for table in of_kind.values()):
            drawn[f"{name}_by_arm"] = by_arm(of_kind, metric, (DETECTED | INSPECTED)[metric])
    return drawn


def _metrics(table: Sequence[Row]) -> dict[str, str]:
    """The metrics that a table shows, with their heads."""
    found = table[0].metrics
    return DETECTED if "image/auroc" in found else INSPECTED if "accuracy" in found else CLASSIFIED


def _columns(table: Sequence[Row], escape: Callable[[str], str] = markdown.text) -> dict[str, Callable[[Row], str]]:
    """Heads, and what stands below them; claims only where there are some.

    Args:
        escape: makes of a name what means nothing but itself where it is shown.
    """
    made: dict[str, Callable[[Row], str]] = {
        "": lambda row: escape(_spaced(row.name)) + (f" ({row.views} views)" if row.views > 1 else ""),
        "n": lambda row: "" if row.seeds is None else str(row.seeds),
    }
    for key, head in _metrics(table).items():
        made[head] = partial(_percent, key)
    if any(_ONE_VIEW in row.metrics for row in table):
        made["of one view"] = partial(_percent, _ONE_VIEW)
    if any("turned" in row.metrics for row in table):
        made["turned"] = partial(_percent, "turned")
    if any("fit_seconds" in row.metrics for row in table):
        made |= {"fit s": partial(_number, "fit_seconds"), "maps/s": partial(_number, "maps_per_second")}
    if any("milliseconds" in row.metrics for row in table):
        speed = {"maps/s": partial(_number, "maps_per_second"), "ms": partial(_number, "milliseconds", digits=3)}
        made |= speed | {"MB": partial(_number, "megabytes")}
    made["parameters"] = lambda row: f"{row.parameters:,}"
    made["bytes"] = lambda row: "" if row.bytes is None else f"{row.bytes:,}"
    if any(row.claim is not None for row in table):
        made["paper"] = lambda row: "" if row.claim is None else f"{row.claim:g}"
    if any(row.reach is not None for row in table):
        made["reach"] = lambda row: "" if row.reach is None else f"{row.reach:g}"
    return made


def _section(data: tuple[str, str], runs: Sequence[StudyRun], table: Sequence[Row]) -> list[str]:
    columns = _columns(table)
    lines = markdown.table(list(columns), ([cell(row) for cell in columns.values()] for row in table))
    facts = {
        "file": sorted({"; ".join(found) for run in runs if (found := _source(run.tags))}),
        "split": sorted({run.tags["dataset.split"] for run in runs if "dataset.split" in run.tags}),
        "fingerprint of maps, labels and split": [data[1]] if data[1] else [],
        "epochs": [f"{arm} {epochs}" for arm, epochs in _epochs(runs).items()],
    }
    listed = [f"- {name}: {markdown.text(', '.join(values))}" for name, values in facts.items() if values]
    return [f"## {markdown.text(data[0])}", "", *lines, "", *_smallest(table), *listed]


def _smallest(table: Sequence[Row]) -> list[str]:
    """Of classifiers of many sizes, the smallest one from each of some accuracies on."""
    sized = sorted((row for row in table if row.bytes is not None), key=lambda row: (row.bytes, row.name))
    if len({row.bytes for row in sized}) < MANY_SIZES or _metrics(table) != CLASSIFIED:
        return []
    lines = []
    for accuracy in ROUND_ACCURACIES:
        enough = [row for row in sized if row.metrics["exact_match"].mean >= accuracy]
        found = f"{markdown.text(_spaced(enough[0].name))}, {enough[0].bytes:,} bytes" if enough else "none"
        lines.append(f"- smallest with {100 * accuracy:g} % or more: {found}")
    return lines


def _unseen(runs: Sequence[StudyRun]) -> list[str]:
    """A table of patterns that no training has seen: the networks, and the best trivial score."""
    found = unseen(runs)
    if not found:
        return []
    networks = [name for name in NETWORKS if any(name in scores for scores in found.values())]
    made = []
    for (data, defect), scores in found.items():
        best = max((name for name in scores if name not in NETWORKS), key=lambda name: scores[name].mean)
        cells = [*(_spread(scores.get(name)) for name in networks), f"{_spread(scores[best])} ({_spaced(best)})"]
        made.append([markdown.text(f"{defect} ({data})"), *cells])
    lines = ["## Patterns never seen", "", "Image AUROC of normal wafers against those with this defect alone.", ""]
    return [*lines, *markdown.table(["", *networks, "best trivial score"], made), ""]


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
    lines = []
    for run in runs:
        words = [word for word in shlex.split(run.command or "not recorded") if not _PLACES.match(word)]
        lines.append(f"{shlex.join(words)}  # {run.arm}, seed {run.seed}")
    places = "`store`, `output`, `dataset.path`, `tracking.uri`"
    without = f"Without the overrides that only say where things lie ({places})."
    return [without, "", *markdown.code_block(lines)]


def _printed(title: str, table: Sequence[Row]) -> Table:
    """The table in 80 columns; what doesn't fit stands in the file only."""
    printed = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    left_out = {"parameters", "maps/s", "ms", "MB"}
    if _metrics(table) != CLASSIFIED:
        left_out |= {"bytes", "n", "fit s"}
    columns = {head: cell for head, cell in _columns(table, rich_escape).items() if head not in left_out}
    for head in columns:
        printed.add_column(head, justify="right" if head else "left", no_wrap=bool(head))
    for row in table:
        printed.add_row(*(cell(row).replace(" ± ", "±") for cell in columns.values()))
    return printed


def _percent(metric: str, row: Row) -> str:
    return _spread(row.metrics.get(metric))


def _number(metric: str, row: Row, digits: int = 0) -> str:
    return f"{row.metrics[metric].mean:,.{digits}f}" if metric in row.metrics else ""


def _spread(share: Spread | None) -> str:
    if share is None:
        return ""
    mean = f"{100 * share.mean:.2f}"
    return mean if share.deviation is None else f"{mean} ± {100 * share.deviation:.2f}"


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _named(data: tuple[str, str]) -> str:
    return " ".join(filter(None, data))
