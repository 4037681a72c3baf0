"""Detectors to be timed: their answers, and epochs of their training beside a bare PyTorch loop on the same tensors."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch.loggers.logger import DummyLogger
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from waferlab.commands.bench.bare import EPOCHS, bare_loop, pixels, placed
from waferlab.commands.bench.timing import Epoch, seconds_to
from waferlab.commands.bench.workload import Timed
from waferlab.config import AnomalyConfig
from waferlab.data.batches import Batches
from waferlab.data.dataset import Dataset
from waferlab.data.masks import Truth
from waferlab.data.simulator import load
from waferlab.distillation.feature_cache import cached_features
from waferlab.distillation.pyramid import PyramidDistillation
from waferlab.experiment.compose import checked, compose_overrides
from waferlab.models.detector import Detector, build_detector
from waferlab.models.pyramid import Pyramid
from waferlab.tasks.anomaly import Anomaly
from waferlab.tasks.fit import device_of, fit

#: The paper's detector; a size of null is that of the maps themselves.
PAPER = ("experiment=eda_paper",)
NATIVE = "pyramid.input_size=null"
#: Its network with attention that is trained as well.
JOINT = (
    *("backbone=resnet18", "pyramid.levels=[1,2,3]", "pyramid.distance=unit"),
    *("attention=dual", "attention.training=joint"),
)


@dataclass(frozen=True)
class DetectorWorkload:
    """One detector, and how and on what it is trained.

    Attributes:
        config: of the experiment; two epochs, without averaged weights.
        dataset: simulated maps; normal ones to train on, half of each kind to validate on.
    """

    config: AnomalyConfig
    dataset: Dataset

    def detector(self) -> Detector:
        """A new detector whose teacher isn't trained, the same each time; where the training keeps it."""
        torch.manual_seed(0)
        made = build_detector(self.config.detector, self.dataset.classes, self.dataset.wafers.size)
        made.standardise(self.dataset.part("train").maps)
        return made.to(device_of(self.config.trainer))

    def batches(self, cached: bool = False) -> Batches:
        """The training maps; with the teacher's features, or for a teacher that is asked at each step."""
        trainer = self.config.trainer
        made = Batches(
            self.dataset.part("train"), trainer.batch_size, shuffle=True, augment=trainer.augment,
            die_noise=trainer.die_noise, device=device_of(trainer),
        )  # fmt: skip
        features = cached_features(self.detector(), made, trainer.precision, np.inf) if cached else None
        if features is not None:
            made.teach(features)
        return made


def detector_workload(maps: int, *overrides: str) -> DetectorWorkload:
    """What ``waferlab train task=anomaly OVERRIDES`` would train, on as many simulated maps, normal ones and others."""
    config = checked(AnomalyConfig, compose_overrides("train", ["task=anomaly", *overrides]))
    trainer = config.trainer.model_copy(update={"max_epochs": EPOCHS, "ema_decay": None})
    dataset = load(maps, normal_share=0.5)
    split = np.where(dataset.wafers.is_abnormal & (dataset.split == 0), -1, dataset.split).astype(np.int8)
    return DetectorWorkload(config.model_copy(update={"trainer": trainer}), replace(dataset, split=split))


def answers_per_second(detector: Detector, maps: NDArray[np.uint8]) -> float:
    """How many of the maps (N, H, W) uint8 get die maps and scores in a second, all in one call."""
    detector.predict(maps[:16])  # warm-up
    return len(maps) / seconds_to(lambda: detector.predict(maps))


class _TimedAnomaly(Timed, Anomaly):
    """The project's training with a clock."""


def lightning_detector_epoch(work: DetectorWorkload, batches: Batches) -> Epoch:
    """The second epoch of the project's own training; its validation computes all metrics."""
    config, val = work.config, work.dataset.part("val")
    loss: PyramidDistillation = config.distillation.build("distillation")
    truth = Truth.of(val, config.task.mask)
    task = _TimedAnomaly(work.detector(), loss, config.fit, config.attention, truth, config.task.select, seed=0)
    validation = Batches(val, 256, device=device_of(config.trainer))
    with tempfile.TemporaryDirectory() as folder:
        fit(task, batches, validation, config.trainer, Path(folder), "  epoch", DummyLogger())
    return task.epoch


def bare_detector_epoch(work: DetectorWorkload) -> Epoch:
    """The second epoch of plain PyTorch on the same detector; the teacher is asked at each step.

    Of the project it uses the networks and the encoding's table alone. Its loss is the mean over maps, with all levels
    alike; its validation knows no metrics.
    """
    config, detector = work.config, work.detector()
    teacher, targets, student = detector.teacher, detector.targets, detector.student
    table, attends = student.pyramid.classifier.table, config.attention.training == "joint"

    def distances(some: Sequence[Tensor], others: Sequence[Tensor]) -> list[Tensor]:
        pairs = [(one.float(), other.float()) for one, other in zip(some, others, strict=True)]
        if config.pyramid.distance == "unit":
            return [0.5 * (normalize(one) - normalize(other)).pow(2).sum(1) for one, other in pairs]
        return [0.5 * (one - other).pow(2).mean(1) for one, other in pairs]

    def features(dies: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        shown = pixels(table, dies)
        with torch.no_grad():
            known = [norm(level) for norm, level in zip(teacher.standard, _levels(teacher.pyramid, shown), strict=True)]
        made = [scale(level) for scale, level in zip(student.scale, _levels(student.pyramid, shown), strict=True)]
        return known, made

    def loss(dies: Tensor, _: Tensor) -> Tensor:
        known, made = features(dies)
        wanted = targets(known)
        total = torch.stack([level.mean() for level in distances(made, wanted)]).sum()
        if attends:
            kept = torch.stack([level.mean() for level in distances(wanted, known)]).sum()
            total = total + config.attention.fidelity * kept
        return total

    def answer(dies: Tensor) -> Tensor:
        known, made = features(dies)
        return torch.cat([level.flatten(1) for level in distances(made, targets(known))], 1)

    return bare_loop(config.fit, detector, *placed(config.fit, work.dataset), loss, answer)


def _levels(pyramid: Pyramid, shown: Tensor) -> list[Tensor]:
    if pyramid.input_size is not None:
        shown = interpolate(shown, size=pyramid.input_size, mode="nearest")
    levels: list[Tensor] = pyramid.classifier.net.forward_intermediates(  # type: ignore[operator]
        shown, indices=list(pyramid.levels), intermediates_only=True, stop_early=True
    )
    return levels
