"""What runs of transfer learning share: how their threshold is chosen, and what they show."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from waferlab.data.dataset import Wafers
from waferlab.data.single_label import defect_scores
from waferlab.experiment.outcome import Next, log_evaluation
from waferlab.metrics.single_label import confusion
from waferlab.models.classifier import Classifier, view_logits
from waferlab.schema import Component
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


def threshold_by(
    rule: Component, logits: NDArray[np.floating], labels: NDArray[np.uint8], normal: int | None
) -> float | None:
    """The log odds of any defect from which on a rule takes maps for defective; None where it draws no such line.

    Args:
        rule: as configured.
        logits: (N, K) of the answers.
        labels: (N, K) one bit a row.
        normal: the class without a defect, if there is one.

    Raises:
        WaferlabError: no threshold does what the rule wants.
    """
    chosen = rule.build("operating_point")
    if normal is None:
        return None
    found = float(chosen(defect_scores(logits, normal), labels[:, normal] == 0))
    return None if np.isnan(found) else found


def use_rule(model: Classifier, rule: Component, val: Wafers) -> None:
    """Have a model that names one class draw its line by another rule, on these wafers.

    Raises:
        WaferlabError: no threshold does what the rule wants.
    """
    assert model.decision is not None
    logits = model.decision.logits(view_logits(model, val.maps, model.decision.all_views).numpy())
    model.decision = replace(model.decision, threshold=threshold_by(rule, logits, val.labels, model.normal))


def remarks(found: Inspected, wafers: Wafers) -> list[str]:
    """What the line between good and defect comes to on these wafers, where one is drawn."""
    normal, threshold = found.decision.normal, found.decision.threshold
    if normal is None or threshold is None:
        return []
    defects = int((wafers.labels[:, normal] == 0).sum())
    shares = {
        f"of {defects:,} defects found": found.metrics.get("defect/recall"),
        f"of {len(wafers) - defects:,} good ones taken for defects": found.metrics.get("defect/false_positive_rate"),
    }
    said = ", ".join(f"{100 * share:.2f} % {what}" for what, share in shares.items() if share is not None)
    return [f"a defect from log odds of {threshold:.3g}: {said}"]


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
