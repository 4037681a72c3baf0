"""What a run came to, for the person and for MLflow: table, figures, metrics."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from waferlab.data.dataset import Wafers
from waferlab.metrics.calibration import pseudo_label_error, reliability
from waferlab.metrics.multilabel import accuracy_by_pattern, pattern_confusion
from waferlab.tasks.evaluation import Evaluation
from waferlab.tracking import figures
from waferlab.tracking.run import Run


@dataclass(frozen=True)
class Outcome:
    """What an experiment came to.

    Attributes:
        run_id: its MLflow run.
        evaluations: teacher and student, where there are such, and the trivial baselines, on the test part.
        figures: PNG files.
        model_file: the student's model file (the teacher's where no student was asked for).
    """

    run_id: str
    evaluations: list[Evaluation]
    figures: list[Path]
    model_file: Path


def record(run: Run, evaluations: list[Evaluation], wafers: Wafers, folder: Path) -> list[Path]:
    """Log every metric of the evaluations, and their figures; the figures' files are returned."""
    drawn = _draw_figures(evaluations, wafers, folder)
    for evaluation in evaluations:
        _log_evaluation(run, evaluation)
    for figure in drawn:
        run.file(figure, "figures")
    return drawn


def _log_evaluation(run: Run, evaluation: Evaluation) -> None:
    """Log all metrics of one evaluation under ``test/NAME/…``."""
    name = evaluation.name
    values = evaluation.metrics | {"parameters": evaluation.parameters, "maps_per_second": evaluation.maps_per_second}
    if evaluation.bytes is not None:
        values["bytes"] = evaluation.bytes
    run.metrics({f"test/{name}/{metric}": value for metric, value in values.items()})
    if evaluation.undefined:
        run.tags({f"undefined.{name}": ", ".join(evaluation.undefined)})


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
        betas = np.linspace(0.05, 0.95, 19)
        error = pseudo_label_error(networks["teacher"], labels, betas)
        drawn["pseudo_label_error"] = figures.pseudo_label_error_curve(error)
    return figures.save(drawn, folder)


def table(evaluations: list[Evaluation], title: str) -> Table:
    """The evaluations as a table of at most 80 columns."""
    made = Table(title=title, title_justify="left")
    made.add_column("")
    for column in ("exact match", "macro F1", "parameters", "bytes", "maps/s"):
        made.add_column(column, justify="right")
    for evaluation in evaluations:
        made.add_row(
            evaluation.name.replace("_", " "),
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
    console.print(f"{'run':<8} {outcome.run_id}", highlight=False)
    console.print(
        f"\nnext     waferlab ui"
        f"\n         waferlab evaluate model={outcome.run_id}"
        f"\n         waferlab train -m student=net1,net2 distillation.alpha=0.3,0.7",
        highlight=False,
    )
