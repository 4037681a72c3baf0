"""What experiments share that find abnormal wafers and dies: their wafers, their teacher, and what a run shows."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from waferlab.config import DetectionConfig
from waferlab.data.dataset import Dataset
from waferlab.distillation.teacher_store import Teacher
from waferlab.errors import WaferlabError
from waferlab.experiment.begin import Begun, read_dataset
from waferlab.experiment.networks import make_model, unfused
from waferlab.experiment.outcome import Next, log_evaluation
from waferlab.experiment.teachers import Teachers, finished_teacher
from waferlab.models.anomaly_model import AnomalyModel
from waferlab.models.classifier import Classifier
from waferlab.models.files import load_model
from waferlab.models.supervised import SupervisedDetector
from waferlab.tasks.detection import (
    Detected,
    WithTruth,
    evaluate_detector,
    evaluate_supervised,
    evaluate_trivial_scores,
)
from waferlab.tracking import anomaly_figures
from waferlab.tracking.figures import save
from waferlab.tracking.run import Run

#: Columns of an anomaly table.
COLUMNS: Final = {
    "image/auroc": "image AUROC",
    "pixel/auroc": "pixel AUROC",
    "pixel/aupr": "AUPR",
    "pixel/aupro": "AUPRO",
    "pixel/f1": "F1",
    "bytes": "bytes",
    "maps_per_second": "maps/s",
}


def wafers_with_truth(config: DetectionConfig, dataset: Dataset) -> tuple[WithTruth, WithTruth]:
    """Validation's wafers, and those that the experiment is judged by.

    Raises:
        WaferlabError: validation has wafers of one kind only.
    """
    val = WithTruth.of(dataset.part("val"), config.task.mask)
    if len(set(val.truth.is_abnormal.tolist())) < 2:
        raise WaferlabError(
            "validation has wafers of one kind only, and needs normal and abnormal ones to choose an epoch, or "
            "thresholds, by"
        )
    return val, WithTruth.of(dataset.part("test"), config.task.mask) if config.test else val


def teacher_of(config: DetectionConfig, begun: Begun, run: Run) -> Teacher | None:
    """The classifier whose features teach, trained in its own domain or named; None for the backbone as it is."""
    if config.teacher.model is not None:
        teacher = finished_teacher(config.teacher.model, begun.tracker)
        _require_one_size(teacher.model.size, begun.dataset)
    elif config.teacher.training == "none":
        return None
    else:
        teachers = read_dataset(config.teacher.dataset, "teacher.dataset", config.withhold)
        _require_one_size(teachers.wafers.size, begun.dataset)
        teacher = Teachers(config, teachers, begun.tracker).get()
    run.tags(teacher.tags)
    return teacher


def backbone_of(config: DetectionConfig, begun: Begun, teacher: Teacher | None) -> Classifier:
    """The network whose features are looked at: the teacher's, or the backbone with its initial weights."""
    if teacher is None:
        return make_model(config.backbone, begun.dataset, begun.tracker, "backbone", config.teacher.seed)
    return unfused(teacher.model, begun.dataset.part("train"))


def _require_one_size(size: tuple[int, int], dataset: Dataset) -> None:
    if size != dataset.wafers.size:
        raise WaferlabError(
            f"the teacher reads maps of {size} dies, {dataset.name} has {dataset.wafers.size}; give both one size: "
            f"dataset.size, teacher.dataset.size"
        )


def judge(
    config: DetectionConfig,
    model: AnomalyModel,
    file: Path,
    fit_seconds: float,
    teacher: Teacher | None,
    val: WithTruth,
    judged: WithTruth,
) -> list[Detected]:
    """The model's evaluation; where the test part is touched, also its teacher's and the trivial scores'."""
    limit = config.task.aupro_limit
    found = evaluate_detector("detector", model, judged, file.stat().st_size, limit)
    found = replace(found, metrics={**found.metrics, "fit_seconds": fit_seconds})
    if not config.test:
        return [found]
    teachers = [] if teacher is None else [_judge_teacher(teacher, model, val, judged, limit)]
    return [found, *teachers, *evaluate_trivial_scores(val, judged, limit)]


def _judge_teacher(teacher: Teacher, model: AnomalyModel, val: WithTruth, judged: WithTruth, limit: float) -> Detected:
    """The teacher as a detector of the defects that it was told of, where the model is."""
    supervised = SupervisedDetector(load_model(teacher.file).to(model.device))
    return evaluate_supervised("teacher", supervised, val, judged, teacher.file.stat().st_size, limit)


def following(mask: str, sweep: Sequence[str] = ()) -> Next:
    """What may follow a run that took these dies for abnormal."""
    return Next(evaluate=[f"mask={mask}"], change="mask=fail" if mask == "pattern" else "mask=pattern", sweep=sweep)


def record(run: Run, evaluations: Sequence[Detected], test: WithTruth, folder: Path) -> list[Path]:
    """Log every metric of the evaluations, and their figures; the figures' files are returned."""
    for evaluation in evaluations:
        log_evaluation(run, evaluation)
    found, truth = evaluations[0], test.truth
    drawn = {
        "scores": anomaly_figures.score_histogram(found.scores, truth.is_abnormal, found.thresholds.wafer),
    }
    if any(metric.startswith(anomaly_figures.BY_DEFECT) for metric in found.metrics):
        drawn["auroc_by_defect"] = anomaly_figures.auroc_by_defect({each.name: each.metrics for each in evaluations})
    if found.die_maps is not None:
        drawn["found_and_missed"] = anomaly_figures.found_and_missed(
            test.wafers.maps, truth.masks, found.die_maps, found.scores, truth.is_abnormal, found.thresholds.die
        )
    files = save(drawn, folder)
    run.figures(files)
    return files
