"""Anomaly detection: a student learns its teacher's feature pyramid on normal wafers."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch

from waferlab.config import AnomalyConfig, DetectorConfig
from waferlab.data.batches import Batches
from waferlab.data.dataset import Dataset
from waferlab.distillation.feature_cache import cached_features
from waferlab.distillation.teacher_store import Teacher
from waferlab.errors import WaferlabError
from waferlab.experiment.networks import Begun, Place, begin, make_model, read_dataset, unfused
from waferlab.experiment.outcome import (
    Next,
    Outcome,
    log_evaluation,
    own_modules,
    repeated,
    told_how_to_go_on,
)
from waferlab.experiment.sweep import run_name
from waferlab.experiment.teachers import Teachers, dataset_tags, finished_teacher
from waferlab.models.classifier import Classifier
from waferlab.models.detector import Detector, build_detector
from waferlab.models.files import load_model, require_detector_saveable, save_detector
from waferlab.models.supervised import SupervisedDetector
from waferlab.progress import say
from waferlab.tasks.anomaly import Anomaly
from waferlab.tasks.detection import (
    Detected,
    WithTruth,
    choose_thresholds,
    evaluate_detector,
    evaluate_supervised,
    evaluate_trivial_scores,
)
from waferlab.tasks.fit import Fitted, device_of
from waferlab.tracking import anomaly_figures
from waferlab.tracking.figures import save
from waferlab.tracking.mlflow_model import keep_model
from waferlab.tracking.run import EXPERIMENT, MODEL_FILE, Run
from waferlab.tracking.tracker import Tracker

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


def run(config: AnomalyConfig, command: str) -> Outcome:
    """Run one experiment; the command that asked for it is kept with its run.

    Raises:
        ConfigError: the configuration doesn't fit the code it names.
        WaferlabError: the data, the teacher or the training is at fault.
    """
    require_detector_saveable(config.detector)
    begun = begin(config, command)
    dataset, tracker = begun.dataset, begun.tracker
    mask = config.task.mask
    val = WithTruth.of(dataset.part("val"), mask)
    judged = WithTruth.of(dataset.part("test"), mask) if config.test else val
    if len(set(val.truth.is_abnormal.tolist())) < 2:
        raise WaferlabError(
            "validation has wafers of one kind only, and needs normal and abnormal ones to choose an epoch by"
        )
    tags = {**config.tracking.tags, "role": EXPERIMENT, "network": "detector", "mask": mask}
    with (
        tracker.run(run_name(f"{dataset.name} anomaly"), tags, config.resume) as opened,
        told_how_to_go_on(opened.id, command),
    ):
        folder = config.store / "runs" / opened.id
        if config.resume is None:
            opened.parameters(config.plain())
            opened.tags(dataset_tags(dataset) | {"command": command})
        teacher = _teacher(config, dataset, tracker)
        backbone = (
            make_model(config.backbone, dataset, tracker, "backbone", config.teacher.seed)
            if teacher is None
            else unfused(teacher.model, dataset.part("train"))
        )
        built = config.detector.model_copy(update={"backbone": backbone.config})
        detector, fitted = _fit(config, built, backbone, begun, val, Place(opened, folder / "training", "student"))
        choose_thresholds(detector, val)
        file = save_detector(detector, built, backbone.classes, folder / MODEL_FILE)
        say("evaluating")
        limit = config.task.aupro_limit
        evaluations = [evaluate_detector("detector", detector, judged, file.stat().st_size, limit)]
        if teacher is not None:
            opened.tags(teacher.tags)
        if teacher is not None and config.test:
            supervised = SupervisedDetector(load_model(teacher.file).to(detector.device))
            size = teacher.file.stat().st_size
            evaluations.append(evaluate_supervised("teacher", supervised, val, judged, size, limit))
        figures = []
        if config.test:
            evaluations += evaluate_trivial_scores(val, judged, limit)
            figures = record(opened, evaluations, judged, folder / "figures")
        keep_model(opened, detector, file, judged.wafers.maps[:1] if config.test else None, folder)
        shutil.rmtree(folder / "training", ignore_errors=True)
    modules = own_modules(config.backbone, config.score, config.attention.module)
    sweep = ["task=anomaly", *repeated(begun.command), f"seed={config.seed + 1},{config.seed + 2}"]
    return Outcome(
        run_id=opened.id, command=command, begun_by=begun.command, facts=dataset.facts, modules=modules,
        following=following(mask, sweep), wafers=len(judged.wafers), columns=COLUMNS, evaluations=evaluations,
        figures=figures, model=opened.id, model_file=file, validation=fitted.best_metrics, is_tested=config.test,
    )  # fmt: skip


def _teacher(config: AnomalyConfig, dataset: Dataset, tracker: Tracker) -> Teacher | None:
    """The classifier whose features teach, trained in its own domain or named; None for the backbone as it is."""
    if config.teacher.model is not None:
        teacher = finished_teacher(config.teacher.model, tracker)
        _require_one_size(teacher.model.size, dataset)
        return teacher
    if config.teacher.training == "none":
        return None
    teachers = read_dataset(config.teacher.dataset, "teacher.dataset", config.withhold)
    _require_one_size(teachers.wafers.size, dataset)
    return Teachers(config, teachers, tracker).get()


def _require_one_size(size: tuple[int, int], dataset: Dataset) -> None:
    if size != dataset.wafers.size:
        raise WaferlabError(
            f"the teacher reads maps of {size} dies, {dataset.name} has {dataset.wafers.size}; give both one size: "
            f"dataset.size, teacher.dataset.size"
        )


def _fit(
    config: AnomalyConfig, built: DetectorConfig, backbone: Classifier, begun: Begun, val: WithTruth, place: Place
) -> tuple[Detector, Fitted]:
    """A detector whose student has learnt the backbone's features of the normal training wafers."""
    dataset = begun.dataset
    trainer, device = config.trainer, device_of(config.trainer)
    normal = dataset.part("train").normal()
    torch.manual_seed(config.seed)
    detector = build_detector(built, backbone.classes, dataset.wafers.size, backbone).to(device)
    detector.standardise(normal.maps)
    batches = Batches(
        normal, trainer.batch_size, shuffle=True, augment=trainer.augment, die_noise=trainer.die_noise,
        seed=config.seed, device=device,
    )  # fmt: skip
    cached = cached_features(detector, batches, trainer.precision, config.pyramid.cache_gb)
    if cached is not None:
        batches.teach(cached)
    task = Anomaly(detector, begun.loss, config.fit, config.attention, val.truth, config.task.select, config.seed)
    fitted = place.fit(task, batches, Batches(val.wafers, 256, device=device), trainer)
    detector.to(device).calibrate(normal.maps)  # Lightning has left it on the CPU
    return detector, fitted


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
