"""A learning rate before training: the loss while the rate grows step by step (Smith 2017).

Lightning's own finder smooths by a running average, which comes to see a fall of the loss dozens of steps late, at a
rate several times as high as the one that made it fall.
"""

import copy
import math
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch.callbacks import Callback
from scipy.ndimage import gaussian_filter1d

from waferlab.config import TrainerConfig
from waferlab.data.batches import Batches
from waferlab.errors import DivergedError
from waferlab.tasks.fit import quiet
from waferlab.tasks.task import Task

#: Deviation of the smoothing, as a share of the steps, and how many losses tell whether they have blown up.
_WIDTH, _LAST = 0.04, 5


@dataclass(frozen=True)
class RateTest:
    """What each rate came to.

    Attributes:
        rates: of each step, growing by the same factor.
        losses: before each step, cut at the highest one before the lowest, and smoothed; they end where the loss is
            four times the lowest one, or no longer finite.
        suggested: where the loss falls fastest, or None where it doesn't fall.
    """

    rates: list[float]
    losses: list[float]
    suggested: float | None

    @classmethod
    def of(cls, rates: Sequence[float], losses: Sequence[float]) -> "RateTest":
        """What rates came to whose steps (S) followed these losses (S), of one batch each."""
        if not len(losses):
            return cls([], [], None)
        seen = np.minimum(losses, np.max(losses[: int(np.argmin(losses)) + 1]))  # how far it blows up says nothing
        smooth = gaussian_filter1d(seen, _WIDTH * len(seen), mode="nearest")
        return cls(list(rates), smooth.tolist(), steepest(rates, seen.tolist(), smooth.tolist()))


class _Growing(Callback):
    """Sets the rate before each step, and notes the loss before it; ends where that blows up."""

    def __init__(self, rates: Sequence[float]) -> None:
        self.rates, self.losses, self.lowest = rates, list[float](), math.inf

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Called by Lightning before a step."""
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = self.rates[len(self.losses)]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Called by Lightning after a step."""
        self.losses.append(float(outputs["loss"]))
        recent = float(np.mean(self.losses[-_LAST:]))
        self.lowest = min(self.lowest, recent)
        trainer.should_stop = recent > 4 * self.lowest


def rates_tested(
    task: Task, train: Batches, config: TrainerConfig, lowest: float, highest: float, steps: int
) -> RateTest:
    """Train for some steps at growing rates, the same in all layer groups; the weights are afterwards as before."""
    quiet()
    growing, before = _Growing(np.geomspace(lowest, highest, steps).tolist()), copy.deepcopy(task.state_dict())
    with tempfile.TemporaryDirectory() as folder, suppress(DivergedError):
        trainer = pl.Trainer(
            accelerator=config.accelerator, devices=1, precision=config.precision, max_epochs=-1, max_steps=steps,
            gradient_clip_val=config.gradient_clip, default_root_dir=folder, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=0,
            callbacks=[growing],
        )  # fmt: skip
        trainer.fit(task, train)
    task.load_state_dict(before)
    return RateTest.of(growing.rates[: len(growing.losses)], growing.losses)


def steepest(rates: Sequence[float], losses: Sequence[float], smooth: Sequence[float]) -> float | None:
    """The rate whose step has the smoothed loss fall most, before the loss is lowest.

    None where it falls no further than twice what the losses of batches differ by anyway.
    """
    if len(losses) < 3:
        return None
    values = np.array(smooth)
    lowest = int(values.argmin())
    if not lowest or values[:lowest].max() - values[lowest] <= 2 * np.std(np.array(losses) - values):
        return None
    return float(rates[int((values[:lowest] - values[1 : lowest + 1]).argmax())])
