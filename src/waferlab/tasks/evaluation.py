"""A finished model on maps it wasn't fitted to: every metric of the task, size and speed."""

import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from waferlab.data.dataset import Dataset, Wafers
from waferlab.metrics.calibration import calibration_metrics
from waferlab.metrics.multilabel import multilabel_metrics
from waferlab.models.baselines import BASELINES
from waferlab.models.classifier import Classifier, predict_logits
from waferlab.wafer import dihedral_indices


@dataclass(frozen=True)
class Evaluation:
    """What one model came to on one set of maps.

    Attributes:
        name: ``student``, ``teacher``, ``model`` where it is evaluated alone, or a trivial baseline's name.
        logits: (N, C) float.
        metrics: all defined metrics by name.
        undefined: names of metrics that these maps leave undefined (a class without a positive, say).
        parameters: trained parameters.
        bytes: size of the model's file, or None where there is none.
        maps_per_second: measured once, on these maps, on this machine, with all views that the answer takes.
        views: of each map that the answer takes.
    """

    name: str
    logits: NDArray[np.float32]
    metrics: dict[str, float]
    undefined: tuple[str, ...]
    parameters: int
    bytes: int | None
    maps_per_second: float
    views: int = 1


def evaluate_model(
    name: str, model: Classifier, wafers: Wafers, file_bytes: int, average_views: bool = False
) -> Evaluation:
    """Evaluate a classifier in fp32, on each map as it is or on the mean of its logits over the dihedral views."""
    predict_logits(model, wafers.maps[:64])  # warm-up
    started = time.perf_counter()
    logits = predict_logits(model, wafers.maps, average_views=average_views).numpy()
    seconds = time.perf_counter() - started
    evaluation = _evaluation(name, logits, wafers, model.parameters_count, file_bytes, seconds)
    return replace(evaluation, views=len(dihedral_indices(*wafers.size)) if average_views else 1)


def evaluate_baselines(dataset: Dataset) -> list[Evaluation]:
    """The trivial baselines, fitted to the training part: what a result is worth without any network.

    None where there is no training part, because somebody evaluates a model on all of their maps.
    """
    train, wafers, evaluations = dataset.part("train"), dataset.part("test"), []
    if not len(train):
        return []
    for name, make in BASELINES.items():
        baseline = make().fit(train)
        started = time.perf_counter()
        logits = baseline.logits(wafers.maps)
        seconds = time.perf_counter() - started
        evaluations.append(_evaluation(name, logits, wafers, baseline.parameters, None, seconds))
    return evaluations


def _evaluation(
    name: str, logits: NDArray[np.float32], wafers: Wafers, parameters: int, file_bytes: int | None, seconds: float
) -> Evaluation:
    multilabel = multilabel_metrics(logits, wafers.labels, wafers.classes)
    metrics = multilabel.values | calibration_metrics(logits, wafers.labels)
    return Evaluation(name, logits, metrics, multilabel.undefined, parameters, file_bytes, len(wafers) / seconds)
