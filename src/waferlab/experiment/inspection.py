"""What a run of transfer learning shows: metrics and figures of its evaluations."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from waferlab.data.dataset import Wafers
from waferlab.experiment.outcome import Next, log_evaluation
from waferlab.metrics.single_label import confusion
from waferlab.tasks.inspection import Inspected
from waferlab.tracking import figures, inspection_figures
from waferlab.tracking.run import Run

#: Columns of an inspection table.
COLUMNS: Final = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "auroc": "AUROC",
    "fpr_at_tpr/99": "FPR at 99",
    "bytes": "bytes",
    "maps_per_second": "maps/s",
}


def following(kept: Sequence[str] = ()) -> Next:
    """What may follow a run of these overrides."""
    return Next(evaluate=(), change="precision=bf16-mixed", sweep=[*kept, "oversampling=0,0.5,1"])


def record(run: Run, evaluations: Sequence[Inspected], wafers: Wafers, folder: Path) -> list[Path]:
    """Log every metric of the evaluations, and their figures; the figures' files are returned."""
    for evaluation in evaluations:
        log_evaluation(run, evaluation)
    found, true = evaluations[0], wafers.labels.argmax(1)
    answers = found.decision.classes(found.logits)
    counts = confusion(answers, true, len(wafers.classes))
    drawn = {"confusion": inspection_figures.confusion(counts, wafers.classes)}
    if (normal := found.decision.normal) is not None and 0 < (true != normal).sum() < len(true):
        drawn["roc_and_precision"] = inspection_figures.curves(
            {each.name: each.logits for each in evaluations}, true, normal, answers
        )
    files = figures.save(drawn, folder)
    run.figures(files)
    return files
