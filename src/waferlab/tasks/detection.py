"""What scores wafers and dies, on wafers that it wasn't fitted to: every metric of the task, size and speed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from waferlab.data.dataset import Wafers
from waferlab.data.masks import Truth
from waferlab.metrics.anomaly import AUPRO_LIMIT, AnomalyMetrics, Thresholds, auroc_by_defect
from waferlab.metrics.multilabel import Metrics
from waferlab.models.anomaly_model import AnomalyModel
from waferlab.models.supervised import SupervisedDetector
from waferlab.models.trivial_scores import TRIVIAL_SCORES, trivial_maps
from waferlab.tasks.evaluation import Evaluation, maps_per_second

Scores = NDArray[np.float32]  # (N,)
DieMaps = NDArray[np.float32]  # (N, H, W)
#: What scores wafers; without die maps where it knows nothing of dies.
Answer = Callable[[Wafers], tuple[DieMaps | None, Scores]]


@dataclass(frozen=True)
class WithTruth:
    """Wafers, and which of them and of their dies are abnormal."""

    wafers: Wafers
    truth: Truth

    @classmethod
    def of(cls, wafers: Wafers, mask: str) -> "WithTruth":
        """By the name of a mask in `waferlab.data.masks.MASKS`."""
        return cls(wafers, Truth.of(wafers, mask))


@dataclass(frozen=True, kw_only=True)
class Detected(Evaluation):
    """An evaluation with what is behind it: scores (N,), die maps (N, H, W), higher for abnormal, and thresholds."""

    scores: Scores
    die_maps: DieMaps | None
    thresholds: Thresholds


def evaluate_detector(
    name: str, detector: AnomalyModel, test: WithTruth, file_bytes: int, aupro_limit: float
) -> Detected:
    """Evaluate a detector at its own thresholds."""
    parameters = sum(parameter.numel() for parameter in detector.parameters())
    thresholds = Thresholds(*detector.thresholds.tolist())
    answer = _predicting(detector)
    return _evaluate(name, answer, test, thresholds, aupro_limit, parameters, file_bytes)


def evaluate_supervised(
    name: str, detector: SupervisedDetector, val: WithTruth, test: WithTruth, file_bytes: int, aupro_limit: float
) -> Detected:
    """Evaluate a classifier as a detector in fp32; its thresholds come from validation."""
    answer, parameters = _predicting(detector), detector.classifier.parameters_count
    return _evaluate(name, answer, test, _chosen(answer, val)[0], aupro_limit, parameters, file_bytes)


def evaluate_trivial_scores(val: WithTruth, test: WithTruth, aupro_limit: float) -> list[Detected]:
    """The scores that need no training, on wafers at their own sizes; only their thresholds come from validation."""
    evaluations = []
    for name, score in TRIVIAL_SCORES.items():

        def answer(wafers: Wafers) -> tuple[DieMaps | None, Scores]:
            return trivial_maps(wafers, score)  # noqa: B023 - called in this turn only

        evaluations.append(_evaluate(name, answer, test, _chosen(answer, val)[0], aupro_limit, 0, None))
    return evaluations


def choose_thresholds(detector: AnomalyModel, val: WithTruth) -> Mapping[str, float]:
    """Those of the highest F1 on validation, whose metrics are returned."""
    thresholds, metrics = _chosen(_predicting(detector), val)
    detector.thresholds.copy_(torch.tensor(thresholds))
    return metrics


def anomaly_metrics(
    scores: Scores, die_maps: DieMaps | None, truth: Truth, aupro_limit: float, thresholds: Thresholds | None = None
) -> Metrics:
    """All of `AnomalyMetrics` at once; without die maps, those of pixels are undefined."""
    metrics = AnomalyMetrics(aupro_limit, thresholds, sync_on_compute=False)  # every wafer is here
    nowhere = np.zeros_like(truth.masks)
    dies = nowhere if die_maps is None else truth.dies
    arrays = scores, nowhere if die_maps is None else die_maps, truth.is_abnormal, truth.masks, dies
    metrics.update(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))
    return Metrics.of(metrics.compute())


def _predicting(detector: AnomalyModel | SupervisedDetector) -> Answer:
    return lambda wafers: detector.predict(wafers.maps)


def _chosen(answer: Answer, val: WithTruth) -> tuple[Thresholds, Mapping[str, float]]:
    """Those of the highest F1 on these wafers, infinite where nothing or everything is abnormal; and all metrics."""
    if not len(val.wafers):
        return Thresholds(np.inf, np.inf), {}
    die_maps, scores = answer(val.wafers)
    found = anomaly_metrics(scores, die_maps, val.truth, AUPRO_LIMIT).values
    return Thresholds(*(found.get(f"{what}/best_f1_threshold", np.inf) for what in ("image", "pixel"))), found


def _evaluate(
    name: str,
    answer: Answer,
    test: WithTruth,
    thresholds: Thresholds,
    aupro_limit: float,
    parameters: int,
    file_bytes: int | None,
) -> Detected:
    die_maps, scores = answer(test.wafers)
    found = anomaly_metrics(scores, die_maps, test.truth, aupro_limit, thresholds)
    by_defect = auroc_by_defect(scores, test.wafers.labels, test.wafers.classes)
    return Detected(
        name=name, metrics=found.values | {f"image/auroc/{defect}": value for defect, value in by_defect.items()},
        undefined=found.undefined, parameters=parameters, bytes=file_bytes,
        maps_per_second=maps_per_second(answer, test.wafers),
        scores=scores, die_maps=die_maps, thresholds=thresholds,
    )  # fmt: skip
