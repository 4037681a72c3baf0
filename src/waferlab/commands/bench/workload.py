"""Classifiers to be timed: epochs of the project's own training, and of a bare PyTorch loop on the same tensors."""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers.logger import DummyLogger
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from waferlab.commands.bench.bare import EPOCHS, bare_loop, pixels, placed
from waferlab.commands.bench.timing import Epoch
from waferlab.config import FitConfig, MixedTypeConfig, ModelConfig
from waferlab.data.batches import Batch, Batches
from waferlab.data.dataset import Dataset
from waferlab.data.simulator import load
from waferlab.distillation.losses import Distillation
from waferlab.experiment.compose import checked, compose_overrides
from waferlab.models.classifier import Classifier
from waferlab.tasks.fit import device_of, fit
from waferlab.tasks.mixed_type import MixedType
from waferlab.tasks.task import Task


@dataclass(frozen=True)
class Workload:
    """One network, and how and on what it is trained.

    Attributes:
        network: what to train.
        how: optimizer, schedule and trainer; two epochs, without averaged weights.
        dataset: simulated maps.
        teacher: (1, N, C) logits for a loss that uses a teacher. Their values don't matter to the time.
    """

    network: ModelConfig
    how: FitConfig
    dataset: Dataset
    teacher: Tensor

    def model(self) -> Classifier:
        """A new network, the same each time."""
        torch.manual_seed(0)
        return Classifier(self.network, self.dataset.classes, self.dataset.wafers.size)

    def batches(self, loss: Distillation) -> Batches:
        """The training maps with what the loss uses."""
        train, trainer = self.dataset.part("train"), self.how.trainer
        return Batches(
            train, trainer.batch_size, shuffle=True, augment=trainer.augment, device=device_of(trainer),
            labels=torch.from_numpy(train.labels).float() if loss.uses_labels else None,
            teacher=self.teacher if loss.uses_teacher else None,
        )  # fmt: skip

    def validation(self) -> Batches:
        """The validation maps."""
        return Batches(self.dataset.part("val"), 512, device=device_of(self.how.trainer))


def student_workload(student: str, maps: int) -> Workload:
    """What ``waferlab train student=STUDENT`` would do to it, on as many simulated maps."""
    config = _experiment(f"student={student}")
    assert config.student is not None
    return _workload(config.student, config.fit, maps)


def teacher_workload(maps: int, precision: str = "32-true") -> Workload:
    """What ``waferlab train`` would do to its teacher, on as many simulated maps."""
    config = _experiment(f"teacher.trainer.precision={precision}")
    return _workload(config.backbone, config.teacher, maps)


def _experiment(override: str) -> MixedTypeConfig:
    """What ``waferlab train OVERRIDE`` would run."""
    return checked(MixedTypeConfig, compose_overrides("train", [override]))


def _workload(network: ModelConfig, how: FitConfig, maps: int) -> Workload:
    trainer = how.trainer.model_copy(update={"max_epochs": EPOCHS, "ema_decay": None})
    dataset = load(maps)
    teacher = torch.randn(1, len(dataset.part("train")), len(dataset.classes))
    return Workload(network, how.model_copy(update={"trainer": trainer}), dataset, teacher)


class Timed(Task):
    """Notes what each epoch took; Lightning writes its checkpoints afterwards."""

    started, steps, epoch = 0.0, 0.0, Epoch(0, 0)

    def on_train_epoch_start(self) -> None:
        """Start the clock."""
        super().on_train_epoch_start()
        self.started = time.perf_counter()

    def on_validation_start(self) -> None:
        """Read the clock after the epoch's last step."""
        super().on_validation_start()
        self.steps = time.perf_counter() - self.started

    def on_train_epoch_end(self) -> None:
        """Stop the clock."""
        self.epoch = Epoch(self.steps, time.perf_counter() - self.started)
        super().on_train_epoch_end()


class _TimedMixedType(Timed, MixedType):
    """The project's training with a clock."""


def lightning_epoch(work: Workload, loss: Distillation, batches: Any = None) -> float:
    """Seconds of the second epoch of the project's own training: all steps and validation.

    Checkpoints are left out: their cost is the same for an epoch of any length, and these epochs are short.

    Args:
        batches: what to train on instead of the workload's own batches.
    """
    val = work.dataset.part("val")
    outputs = work.teacher[0, : len(val)] if loss.uses_teacher else None
    validation = Batch(torch.from_numpy(val.maps), torch.from_numpy(val.labels).float(), outputs)
    task, trainer = _TimedMixedType(work.model(), loss, work.how, validation, seed=0), work.how.trainer
    with tempfile.TemporaryDirectory() as folder:
        train = batches or work.batches(loss)
        fit(task, train, work.validation(), trainer, Path(folder), "  epoch", DummyLogger())
    return task.epoch.whole


def bare_epoch(work: Workload) -> float:
    """Seconds of the second epoch of plain PyTorch on the same network, with the same optimizer, clipping and rate.

    Of the project it uses the network and the encoding's table alone.
    """
    how = work.how
    maps, val_maps = placed(how, work.dataset)
    model = work.model().to(maps.device)
    labels = torch.from_numpy(work.dataset.part("train").labels).float().to(maps.device)

    def answer(dies: Tensor) -> Tensor:
        logits: Tensor = model.net(pixels(model.table, dies))
        return logits.float()

    def loss(dies: Tensor, rows: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(answer(dies), labels[rows])

    return bare_loop(how, model, maps, val_maps, loss, answer).whole


class LiveTeacher:
    """Batches whose teacher logits a network computes on the spot.

    Args:
        batches: the maps.
        teacher: in evaluation mode, where the batches are.
    """

    def __init__(self, batches: Batches, teacher: Classifier) -> None:
        self.batches, self.teacher = batches, teacher
        self.sampler, self.batch_sampler = batches, None

    def __len__(self) -> int:
        return len(self.batches)

    @torch.no_grad()
    def _logits(self, maps: Tensor) -> Tensor:
        return self.teacher(maps)  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.batches:
            yield batch._replace(teacher=self._logits(batch.maps))
