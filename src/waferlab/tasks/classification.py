"""A finished classifier on wafers it wasn't fitted to: every metric of the task, size and speed."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from waferlab.data.dataset import Dataset, Wafers
from waferlab.metrics.calibration import calibration_metrics
from waferlab.metrics.multilabel import multilabel_metrics
from waferlab.models.baselines import BASELINES
from waferlab.models.classifier import Classifier, predict_logits
from waferlab.models.ensemble import Ensemble
from waferlab.tasks.evaluation import Evaluation, maps_per_second
from waferlab.wafer import dihedral_indices


@dataclass(frozen=True, kw_only=True)
class Classified(Evaluation):
    """An evaluation with the logits behind it, (N, C) float."""

    logits: NDArray[np.float32]


def evaluate_model(
    name: str,
    model: Classifier | Ensemble,
    wafers: Wafers,
    file_bytes: int,
    average_views: bool = False,
    logits: Tensor | None = None,
) -> Classified:
    """Evaluate a classifier in fp32, on each map as it is or on the mean of its logits over the dihedral views.

    Args:
        model: one, or several as one.
        logits: (N, C) of exactly this, where they were computed before.
    """
    if logits is None:
        logits = predict_logits(model, wafers.maps, average_views=average_views)
    speed = maps_per_second(partial(predict_logits, model, average_views=average_views), wafers.maps)
    made = _evaluation(name, logits.numpy(), wafers, model.parameters_count, file_bytes, speed)
    return replace(made, views=len(dihedral_indices(*wafers.size)) if average_views else 1)


def evaluate_baselines(dataset: Dataset) -> list[Classified]:
    """The trivial baselines, fitted to the training part: what a result is worth without any network.

    None where there is no training part, because somebody evaluates a model on all of their maps.
    """
    train, wafers, evaluations = dataset.part("train"), dataset.part("test"), []
    if not len(train):
        return []
    for name, make in BASELINES.items():
        baseline = make().fit(train)
        speed = maps_per_second(baseline.logits, wafers.maps)
        evaluations.append(_evaluation(name, baseline.logits(wafers.maps), wafers, baseline.parameters, None, speed))
    return evaluations


def _evaluation(
    name: str, logits: NDArray[np.float32], wafers: Wafers, parameters: int, file_bytes: int | None, speed: float
) -> Classified:
    multilabel = multilabel_metrics(logits, wafers.labels, wafers.classes)
    metrics = multilabel.values | calibration_metrics(logits, wafers.labels)
    return Classified(
        name=name, metrics=metrics, undefined=multilabel.undefined, parameters=parameters, bytes=file_bytes,
        maps_per_second=speed, logits=logits,
    )  # fmt: skip
