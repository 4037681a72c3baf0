"""The epochs that the benchmark times: the project's own training, and a bare PyTorch loop on the same tensors."""

import math
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
from torch.nn.utils import clip_grad_norm_

from waferlab.commands.compose import checked, compose_overrides
from waferlab.config import Config, FitConfig, ModelConfig
from waferlab.data.batches import Batch, Batches
from waferlab.data.dataset import Dataset
from waferlab.data.simulator import load
from waferlab.distillation.losses import Distillation
from waferlab.models.classifier import Classifier
from waferlab.tasks.fit import device_of, fit
from waferlab.tasks.mixed_type import MixedType
from waferlab.wafer import FAIL, NO_DIE, PASS, dihedral_indices

#: An epoch to warm up, and the one that is timed.
EPOCHS = 2


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


def _experiment(override: str) -> Config:
    """What ``waferlab train OVERRIDE`` would run."""
    return checked(Config, compose_overrides("train", [override]))


def _workload(network: ModelConfig, how: FitConfig, maps: int) -> Workload:
    trainer = how.trainer.model_copy(update={"max_epochs": EPOCHS, "ema_decay": None})
    dataset = load(maps)
    teacher = torch.randn(1, len(dataset.part("train")), len(dataset.classes))
    return Workload(network, how.model_copy(update={"trainer": trainer}), dataset, teacher)


class _Timed(MixedType):
    """Notes the seconds of each epoch's steps and validation; Lightning writes its checkpoints afterwards."""

    started, seconds = 0.0, 0.0

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.started = time.perf_counter()

    def on_train_epoch_end(self) -> None:
        self.seconds = time.perf_counter() - self.started
        super().on_train_epoch_end()


def lightning_epoch(work: Workload, loss: Distillation, batches: Any = None) -> float:
    """Seconds of the second epoch of the project's own training: all steps and validation.

    Checkpoints are left out: their cost is the same for an epoch of any length, and these epochs are short.

    Args:
        batches: what to train on instead of the workload's own batches.
    """
    val = work.dataset.part("val")
    outputs = work.teacher[0, : len(val)] if loss.uses_teacher else None
    validation = Batch(torch.from_numpy(val.maps), torch.from_numpy(val.labels).float(), outputs)
    task, trainer = _Timed(work.model(), loss, work.how, validation, seed=0), work.how.trainer
    with tempfile.TemporaryDirectory() as folder:
        train = batches or work.batches(loss)
        fit(task, train, work.validation(), trainer, Path(folder), "  epoch", DummyLogger())
    return task.seconds


def bare_epoch(work: Workload) -> float:
    """Seconds of the second epoch of plain PyTorch on the same network, with the same optimizer, clipping and rate.

    Of the project it uses the network and the encoding's table alone.
    """
    trainer, arguments, device = work.how.trainer, work.how.optimizer.arguments, device_of(work.how.trainer)
    model = work.model().to(device)
    net, table = model.net, model.table
    train, val = work.dataset.part("train"), work.dataset.part("val")
    maps, labels = torch.from_numpy(train.maps).to(device), torch.from_numpy(train.labels).float().to(device)
    val_maps = torch.from_numpy(val.maps).to(device)
    turns = torch.from_numpy(dihedral_indices(*work.dataset.wafers.size)).to(device)

    def pixels(dies: Tensor) -> Tensor:
        return table.index_select(0, dies.flatten().int()).view(*dies.shape, -1).permute(0, 3, 1, 2)

    optimizer = work.how.optimizer.build("optimizer", params=net.parameters())
    schedule = work.how.schedule.build("schedule")
    noise = trainer.die_noise
    steps, step, seconds = EPOCHS * math.ceil(len(maps) / trainer.batch_size), 0, 0.0
    lower = torch.autocast(device.type, torch.bfloat16, enabled=trainer.precision == "bf16-mixed")
    for _ in range(EPOCHS):
        started = time.perf_counter()
        net.train()
        for rows in torch.split(torch.randperm(len(maps), device=device), trainer.batch_size):
            dies = maps[rows]
            if trainer.augment:
                turn = turns[torch.randint(len(turns), (len(rows),), device=device)]
                dies = dies.flatten(1).gather(1, turn).view_as(dies)
            if noise:
                swapped = torch.rand(dies.shape, device=device) < torch.rand(len(rows), 1, 1, device=device) * noise
                dies = torch.where(swapped & (dies != NO_DIE), PASS + FAIL - dies, dies)
            for group in optimizer.param_groups:
                group["lr"] = arguments["lr"] * schedule(step / steps)
            with lower:
                logits = net(pixels(dies))
            loss = binary_cross_entropy_with_logits(logits.float(), labels[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if trainer.gradient_clip is not None:
                clip_grad_norm_(net.parameters(), trainer.gradient_clip)
            optimizer.step()
            loss.item()
            step += 1
        net.eval()
        with torch.no_grad(), lower:
            torch.cat([net(pixels(some)).float().cpu() for some in torch.split(val_maps, 512)])
        seconds = time.perf_counter() - started
    return seconds


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
