"""A finished classifier of one class, on what it wasn't fitted to: every metric of the task, size and speed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from waferlab.data.dataset import Dataset, Wafers
from waferlab.data.single_label import NORMAL, defect_scores
from waferlab.metrics.operating_point import bootstrap, false_positive_rates, rates_at
from waferlab.metrics.ranking import Ranked
from waferlab.metrics.single_label import by_class, confusion, single_label_metrics
from waferlab.models.baselines import BASELINES, Majority
from waferlab.models.classifier import Classifier, view_logits
from waferlab.models.decision import Decision
from waferlab.tasks.evaluation import Evaluation, maps_per_second

#: Metrics that have a bootstrap interval, under ``…/low`` and ``…/high``.
INTERVALS = ("accuracy", "macro_f1", "auroc")


@dataclass(frozen=True, kw_only=True)
class Inspected(Evaluation):
    """An evaluation with what is behind it: calibrated log probabilities (N, K), and how the answer follows."""

    logits: NDArray[np.float64]
    decision: Decision


def evaluate_inspector(name: str, model: Classifier, wafers: Wafers, file_bytes: int) -> Inspected:
    """Evaluate a classifier by its own decision, in fp32, and by one view of each map, without its threshold."""
    decision = model.decision or Decision(normal=model.normal)
    views = view_logits(model, wafers.maps, decision.all_views).numpy()
    speed = maps_per_second(partial(view_logits, model, every_view=decision.all_views), wafers.maps)
    parameters = model.parameters_count
    found = _evaluation(name, decision.logits(views), decision, wafers, parameters, file_bytes, speed, len(views))
    if decision.all_views:
        alone = single_label_metrics(decision.logits(views[:1]), wafers.labels, wafers.classes, decision.normal)
        is_by_threshold = decision.threshold is not None  # that of all views, which one view has not
        wanted = ["auroc"] if is_by_threshold else INTERVALS
        found.metrics.update({f"one_view/{each}": alone.values[each] for each in wanted if each in alone.values})
    return found


def evaluate_baselines(dataset: Dataset) -> list[Inspected]:
    """The trivial baselines, fitted to the training part; none where there is no training part."""
    train, wafers, evaluations = dataset.part("train"), dataset.part("test"), []
    for name, make in BASELINES.items():
        if not len(train) or (wafers.are_images and make is not Majority):
            continue
        baseline = make().fit(train)
        logits = baseline.logits(wafers.maps).astype(np.float64)
        decision = Decision(normal=train.classes.index(NORMAL) if NORMAL in train.classes else None)
        speed = maps_per_second(baseline.logits, wafers.maps)
        evaluations.append(_evaluation(name, logits, decision, wafers, baseline.parameters, None, speed))
    return evaluations


def _evaluation(
    name: str,
    logits: NDArray[np.float64],
    decision: Decision,
    wafers: Wafers,
    parameters: int,
    file_bytes: int | None,
    speed: float,
    views: int = 1,
) -> Inspected:
    answers = decision.classes(logits)
    found = single_label_metrics(logits, wafers.labels, wafers.classes, decision.normal, answers)
    metrics = found.values | _intervals(logits, answers, wafers.labels, decision.normal)
    undefined = list(found.undefined)
    if decision.normal is not None:
        scores, is_defect = defect_scores(logits, decision.normal), wafers.labels[:, decision.normal] == 0
        if 0 < is_defect.sum() < len(is_defect):
            metrics |= false_positive_rates(scores, is_defect)
        rates = rates_at(0.5, (answers != decision.normal).astype(float), is_defect)
        metrics |= {f"defect/{rate}": value for rate, value in rates.items() if not np.isnan(value)}
        undefined += [f"defect/{rate}" for rate, value in rates.items() if np.isnan(value)]
    return Inspected(
        name=name, metrics=metrics, undefined=tuple(undefined), parameters=parameters, bytes=file_bytes,
        maps_per_second=speed, views=views, logits=logits, decision=decision,
    )  # fmt: skip


def _intervals(
    logits: NDArray[np.float64], answers: NDArray[np.int64], labels: NDArray[np.uint8], normal: int | None
) -> dict[str, float]:
    """95 % bootstrap intervals of `INTERVALS`; of those that the maps leave undefined, none."""
    true, classes = labels.argmax(1), labels.shape[1]
    resampled: dict[str, Callable[[NDArray[np.int64]], float]] = {
        "accuracy": lambda rows: float((answers[rows] == true[rows]).mean()),
        "macro_f1": lambda rows: float(np.nanmean(by_class(confusion(answers[rows], true[rows], classes))[2])),
    }
    if normal is not None:
        scores, is_defect = defect_scores(logits, normal), true != normal

        def auroc(rows: NDArray[np.int64]) -> float:
            ranked = Ranked.of(scores[rows][is_defect[rows]], scores[rows][~is_defect[rows]])
            return ranked.auroc() if ranked.is_defined else np.nan

        resampled["auroc"] = auroc
    found: dict[str, float] = {}
    for name, metric in resampled.items():
        low, high = bootstrap(metric, len(labels))
        if not np.isnan(low):
            found |= {f"{name}/low": low, f"{name}/high": high}
    return found
