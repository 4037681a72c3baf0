"""What a run came to, for the person and for MLflow: table, figures, metrics."""

import os
import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill, indent

from hydra import compose
from rich.console import Console
from rich.table import Table

from waferlab.data.dataset import Wafers
from waferlab.metrics.calibration import PseudoLabelError, pseudo_label_error, reliability
from waferlab.metrics.multilabel import accuracy_by_pattern, pattern_confusion
from waferlab.tasks.evaluation import Evaluation
from waferlab.tracking import figures
from waferlab.tracking.run import Run

#: Overrides that say what the data are, and where runs lie: what a command shares with the one that follows it.
_DATA = re.compile(r"[+~]*dataset[.=]")
_PLACE = re.compile(r"(store|tracking|tracking\.uri)=")


@dataclass(frozen=True)
class Outcome:
    """What an experiment came to.

    Attributes:
        run_id: its MLflow run.
        command: what was typed now.
        begun_by: the command that began the run: another one where the run was resumed.
        facts: what the data source says of itself.
        network: the target of the model.
        evaluations: student and teacher, where there are such, and the trivial baselines, on the test part.
        figures: PNG files.
        model: what `evaluate` and others know the model by: its run, or its file.
        model_file: the student's model file (the teacher's where no student was asked for).
    """

    run_id: str
    command: str
    begun_by: str
    facts: dict[str, str | int]
    network: str
    evaluations: list[Evaluation]
    figures: list[Path]
    model: str
    model_file: Path


def record(run: Run, evaluations: list[Evaluation], wafers: Wafers, folder: Path) -> list[Path]:
    """Log every metric of the evaluations, and their figures; the figures' files are returned."""
    drawn = _draw_figures(evaluations, wafers, folder)
    for evaluation in evaluations:
        _log_evaluation(run, evaluation)
        if evaluation.name == "teacher":
            _log_pseudo_label_error(run, pseudo_label_error(evaluation.logits, wafers.labels))
    for figure in drawn:
        run.file(figure, "figures")
    return drawn


def _log_evaluation(run: Run, evaluation: Evaluation) -> None:
    """Log all metrics of one evaluation under ``test/NAME/…``."""
    name = evaluation.name
    values = evaluation.metrics | {"parameters": evaluation.parameters, "maps_per_second": evaluation.maps_per_second}
    values["views"] = evaluation.views
    if evaluation.bytes is not None:
        values["bytes"] = evaluation.bytes
    run.metrics({f"test/{name}/{metric}": value for metric, value in values.items()})
    if evaluation.undefined:
        run.tags({f"undefined.{name}": ", ".join(evaluation.undefined)})


def _log_pseudo_label_error(run: Run, error: PseudoLabelError) -> None:
    """Log the curves over beta; a metric's step is beta in percent."""
    for beta, bits, maps in zip(error.betas, error.per_bit, error.per_map, strict=True):
        values = {"per_bit": float(bits), "per_map": float(maps)}
        run.metrics({f"pseudo_label_error/{name}": value for name, value in values.items()}, round(100 * beta))


def _draw_figures(evaluations: list[Evaluation], wafers: Wafers, folder: Path) -> list[Path]:
    """Per-pattern accuracy, confusion, reliability, pseudo-label error and misclassified maps, as PNG files."""
    networks = {evaluation.name: evaluation.logits for evaluation in evaluations if evaluation.bytes is not None}
    labels, classes = wafers.labels, wafers.classes
    drawn = {
        "accuracy_by_pattern": figures.pattern_accuracy(
            {name: accuracy_by_pattern(logits, labels, classes) for name, logits in networks.items()}
        ),
        "reliability": figures.reliability_diagram(
            {name: reliability(logits, labels) for name, logits in networks.items()}
        ),
    }
    for name, logits in networks.items():
        drawn[f"confusion_{name}"] = figures.confusion(pattern_confusion(logits, labels, classes))
        drawn[f"misclassified_{name}"] = figures.misclassified_maps(wafers.maps, labels, logits, classes)
    if "teacher" in networks:
        drawn["pseudo_label_error"] = figures.pseudo_label_error_curve(pseudo_label_error(networks["teacher"], labels))
    return figures.save(drawn, folder)


def table(evaluations: list[Evaluation], title: str) -> Table:
    """The evaluations as a table of at most 80 columns."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    made.add_column("", no_wrap=True)
    for column in ("exact match", "macro F1", "parameters", "bytes", "maps/s"):
        made.add_column(column, justify="right")
    for evaluation in evaluations:
        made.add_row(
            evaluation.name.replace("_", " ") + (f" ({evaluation.views} views)" if evaluation.views > 1 else ""),
            f"{100 * evaluation.metrics['exact_match']:.2f} %",
            f"{evaluation.metrics['macro_f1']:.4f}",
            f"{evaluation.parameters:,}",
            "" if evaluation.bytes is None else f"{evaluation.bytes:,}",
            f"{evaluation.maps_per_second:,.0f}",
        )
    return made


def print_outcome(outcome: Outcome) -> None:
    """The last lines of a run: what was achieved, where it is, and what to run next."""
    console = Console()
    console.print(table(outcome.evaluations, f"test part, {len(outcome.evaluations[0].logits):,} maps"))
    for label, path in (("model", outcome.model_file), ("figures", outcome.figures[0].parent)):
        console.print(f"{label:<8} {path}", soft_wrap=True, highlight=False)
    names = fill(", ".join(figure.name for figure in outcome.figures), 71)
    console.print(indent(names, 9 * " "), highlight=False)
    console.print(f"{'run':<8} {outcome.run_id}\n", highlight=False)
    for number, command in enumerate(_suggestions(outcome)):
        console.print(f"{'' if number else 'next':<8} {command}", soft_wrap=True, highlight=False, markup=False)


def _suggestions(outcome: Outcome) -> list[str]:
    """Commands that go on from here, on the same data but for one change."""
    data, module = _data(outcome), outcome.network.rpartition(".")[0]
    own = [] if module.startswith("waferlab.") else [f"modules=[{module}]"]
    if "seed" in outcome.facts:
        change = {"dataset.seed": f"dataset.seed={int(outcome.facts['seed']) + 1}"}
    else:
        change = {"average_views": "average_views=true"}
    commands = [["ui"], ["evaluate", f"model={outcome.model}", *own, *(data | change).values()]]
    if shlex.split(outcome.command)[1] == "train":
        commands.append(["train", "-m", *data.values(), "student=compact", "student.width=8,16"])
    return [typed(outcome.command, *command) for command in commands]


def _data(outcome: Outcome) -> dict[str, str]:
    """The overrides that name the outcome's data set, by their keys: as typed, and its option where nobody typed it."""
    _, command, *overrides = shlex.split(outcome.begun_by)
    typed_ones = {override.partition("=")[0]: override for override in overrides if _DATA.match(override)}
    presets = [override for override in overrides if override.startswith(("experiment=", "+experiment="))]
    option = compose(command, presets, return_hydra_config=True).hydra.runtime.choices["dataset"]
    return {"dataset": f"dataset={option}"} | typed_ones


def typed(after: str, *command: str) -> str:
    """A command on the store of another one, as this person has to type it."""
    beside = Path(sys.executable).with_name("waferlab")
    program = "waferlab" if shutil.which("waferlab") else os.path.relpath(beside)
    return shlex.join([program, *command, *filter(_PLACE.match, shlex.split(after))])
