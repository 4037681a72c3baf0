"""What a classification run shows: metrics and figures of its evaluations."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from waferlab.data.dataset import TAUGHT, UNLABELLED, Dataset, Wafers
from waferlab.experiment.outcome import Next, log_evaluation, repeated
from waferlab.metrics.calibration import PseudoLabelError, calibration_metrics, pseudo_label_error, reliability
from waferlab.metrics.multilabel import accuracy_by_pattern, headline_metrics, pattern_confusion
from waferlab.tasks.classification import Classified
from waferlab.tracking import figures
from waferlab.tracking.run import TEACHING, Run

#: Columns of a classification table.
COLUMNS: Final = {
    "exact_match": "exact match",
    "macro_f1": "macro F1",
    "parameters": "parameters",
    "bytes": "bytes",
    "maps_per_second": "maps/s",
}


def following(begun_by: str = "") -> Next:
    """What may follow a run that this command began."""
    kept = [override for override in repeated(begun_by) if not override.startswith("student")]
    return Next(evaluate=(), change="average_views=true", sweep=[*kept, "student=compact", "student.width=8,16"])


def record(run: Run, evaluations: Sequence[Classified], wafers: Wafers, folder: Path) -> list[Path]:
    """Log every metric of the evaluations, and their figures; the figures' files are returned."""
    drawn = _draw_figures(evaluations, wafers, folder)
    for evaluation in evaluations:
        log_evaluation(run, evaluation)
        if evaluation.name == "teacher":
            _log_pseudo_label_error(run, pseudo_label_error(evaluation.logits, wafers.labels))
    run.figures(drawn)
    return drawn


def record_teaching(run: Run, logits: NDArray[np.float32], dataset: Dataset) -> None:
    """Log under ``taught/…`` how right and how sure a teacher is where it teaches.

    Judged by the maps whose labels it was not told; where there are none, by those that it was trained on.

    Args:
        logits: (N, C) on all maps that it teaches, of which those beyond the data set's own are not judged.
    """
    hidden = dataset.within(UNLABELLED)[dataset.within(*TAUGHT)]
    judged = hidden if hidden.any() else ~hidden
    logits, labels = logits[: len(judged)][judged], dataset.part(*TAUGHT).labels[judged]
    metrics = headline_metrics(logits, labels) | calibration_metrics(logits, labels)
    run.metrics({f"{TEACHING}{name}": value for name, value in metrics.items() if not math.isnan(value)})
    _log_pseudo_label_error(run, pseudo_label_error(logits, labels), TEACHING)


def _log_pseudo_label_error(run: Run, error: PseudoLabelError, prefix: str = "") -> None:
    """Log the curves over beta; a metric's step is beta in percent."""
    for beta, bits, maps in zip(error.betas, error.per_bit, error.per_map, strict=True):
        values = {"per_bit": float(bits), "per_map": float(maps)}
        run.metrics({f"{prefix}pseudo_label_error/{name}": value for name, value in values.items()}, round(100 * beta))


def _draw_figures(evaluations: Sequence[Classified], wafers: Wafers, folder: Path) -> list[Path]:
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
