"""Anomaly detection: a student learns its teacher's feature pyramid on normal wafers."""

import time

import torch

from waferlab.config import AnomalyConfig, DetectorConfig
from waferlab.data.batches import Batches
from waferlab.distillation.feature_cache import cached_features
from waferlab.experiment.begin import Begun, begin, opening
from waferlab.experiment.detection import (
    COLUMNS,
    backbone_of,
    following,
    judge,
    record,
    teacher_of,
    wafers_with_truth,
)
from waferlab.experiment.networks import Place
from waferlab.experiment.outcome import Outcome, own_modules, repeated
from waferlab.models.classifier import Classifier
from waferlab.models.detector import Detector, build_detector
from waferlab.models.files import save_detector
from waferlab.models.trust import require_detector_saveable
from waferlab.progress import say
from waferlab.tasks.anomaly import Anomaly
from waferlab.tasks.detection import WithTruth, choose_thresholds
from waferlab.tasks.fit import Fitted, device_of
from waferlab.tracking.mlflow_model import keep_model
from waferlab.tracking.run import MODEL_FILE


def run(config: AnomalyConfig, command: str) -> Outcome:
    """Run one experiment; the command that asked for it is kept with its run.

    Raises:
        ConfigError: the configuration doesn't fit the code it names.
        WaferlabError: the data, the teacher or the training is at fault.
    """
    require_detector_saveable(config.detector)
    begun = begin(config, command)
    dataset, mask = begun.dataset, config.task.mask
    val, judged = wafers_with_truth(config, dataset)
    tags = {"network": "detector", "mask": mask}
    with opening(config, begun, command, f"{dataset.name} anomaly", tags) as (opened, folder):
        teacher = teacher_of(config, begun, opened)
        backbone = backbone_of(config, begun, teacher)
        built = config.detector.model_copy(update={"backbone": backbone.config})
        started = time.perf_counter()
        detector, fitted = _fit(config, built, backbone, begun, val, Place(opened, folder / "training", "student"))
        seconds = time.perf_counter() - started
        choose_thresholds(detector, val)
        file = save_detector(detector, built, backbone.classes, folder / MODEL_FILE)
        say("evaluating")
        evaluations = judge(config, detector, file, seconds, teacher, val, judged)
        figures = record(opened, evaluations, judged, folder / "figures") if config.test else []
        keep_model(opened, detector, file, judged.wafers.maps[:1] if config.test else None, folder)
    modules = own_modules(config.backbone, config.score, config.attention.module)
    sweep = ["task=anomaly", *repeated(begun.command), f"seed={config.seed + 1},{config.seed + 2}"]
    return Outcome(
        run_id=opened.id, command=command, begun_by=begun.command, facts=dataset.facts, modules=modules,
        following=following(mask, sweep), wafers=len(judged.wafers), columns=COLUMNS, evaluations=evaluations,
        figures=figures, model=opened.id, model_file=file, validation=fitted.best_metrics, is_tested=config.test,
    )  # fmt: skip


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
