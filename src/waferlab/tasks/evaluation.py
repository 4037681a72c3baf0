"""A finished model on maps it wasn't fitted to: every metric of the task, size and speed."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from waferlab.data.dataset import Dataset, Wafers
from waferlab.metrics.calibration import calibration_metrics
from waferlab.metrics.multilabel import multilabel_metrics
from waferlab.models.baselines import BASELINES
from waferlab.models.classifier import Classifier, predict_logits
from waferlab.wafer import dihedral_indices

LONG_ENOUGH: Final = 0.5  # seconds


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
        maps_per_second: measured on some of these maps, on this machine, with all views that the answer takes.
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
    name: str,
    model: Classifier,
    wafers: Wafers,
    file_bytes: int,
    average_views: bool = False,
    logits: Tensor | None = None,
) -> Evaluation:
    """Evaluate a classifier in fp32, on each map as it is or on the mean of its logits over the dihedral views.

    Args:
        logits: (N, C) of exactly this, where they were computed before.
    """
    if logits is None:
        logits = predict_logits(model, wafers.maps, average_views=average_views)
    speed = _maps_per_second(partial(predict_logits, model, average_views=average_views), wafers.maps)
    made = _evaluation(name, logits.numpy(), wafers, model.parameters_count, file_bytes, speed)
    return replace(made, views=len(dihedral_indices(*wafers.size)) if average_views else 1)


def evaluate_baselines(dataset: Dataset) -> list[Evaluation]:
    """The trivial baselines, fitted to the training part: what a result is worth without any network.

    None where there is no training part, because somebody evaluates a model on all of their maps.
    """
    train, wafers, evaluations = dataset.part("train"), dataset.part("test"), []
    if not len(train):
        return []
    for name, make in BASELINES.items():
        baseline = make().fit(train)
        speed = _maps_per_second(baseline.logits, wafers.maps)
        evaluations.append(_evaluation(name, baseline.logits(wafers.maps), wafers, baseline.parameters, None, speed))
    return evaluations


def _evaluation(
    name: str, logits: NDArray[np.float32], wafers: Wafers, parameters: int, file_bytes: int | None, speed: float
) -> Evaluation:
    multilabel = multilabel_metrics(logits, wafers.labels, wafers.classes)
    metrics = multilabel.values | calibration_metrics(logits, wafers.labels)
    return Evaluation(name, logits, metrics, multilabel.undefined, parameters, file_bytes, speed)


def _maps_per_second(answer: Callable[[NDArray[np.uint8]], object], maps: NDArray[np.uint8]) -> float:
    """How many maps are answered in a second, by a call that takes half a second or has them all."""
    answer(maps[:16])  # warm-up
    count = 16
    while True:
        started = time.perf_counter()
        answer(maps[:count])
        seconds = time.perf_counter() - started
        if seconds >= LONG_ENOUGH or count >= len(maps):
            return min(count, len(maps)) / seconds
        count *= 4
