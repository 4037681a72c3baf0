"""A learning rate before training: the loss while the rate grows step by step (Smith 2017), by Lightning's finder."""

import tempfile
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch.tuner.tuning import Tuner

from waferlab.config import TrainerConfig
from waferlab.data.batches import Batches
from waferlab.tasks.fit import quiet
from waferlab.tasks.task import Task


@dataclass(frozen=True)
class RateTest:
    """What each rate came to.

    Attributes:
        rates: of each step, growing by the same factor.
        losses: smoothed; they end where the loss is four times the lowest one.
        suggested: where the loss falls fastest, or None where it never does.
    """

    rates: list[float]
    losses: list[float]
    suggested: float | None


def rates_tested(
    task: Task, train: Batches, config: TrainerConfig, lowest: float, highest: float, steps: int
) -> RateTest:
    """Train for some steps at growing rates, the same in all layer groups; the weights are afterwards as before."""
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            accelerator=config.accelerator, devices=1, precision=config.precision, max_epochs=-1,
            gradient_clip_val=config.gradient_clip, default_root_dir=folder, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=0,
        )  # fmt: skip
        with redirect_stderr(StringIO()):  # a bar of its own, in a style of its own
            found = Tuner(trainer).lr_find(
                task, train_dataloaders=train, min_lr=lowest, max_lr=highest, num_training=steps, update_attr=False
            )
    assert found is not None, "no fast_dev_run"
    rates, losses = found.results["lr"], found.results["loss"]
    return RateTest(rates, losses, steepest(rates, losses))


def steepest(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """The rate at which the loss falls fastest for each factor by which the rate grows; None where it never does.

    Lightning's suggestion is by the fall for each difference of rates, and so among the smallest ones. The first tenth
    of the steps is left out, in which the smoothed loss knows few batches.
    """
    first = len(losses) // 10
    falls = -np.gradient(losses[first:]) if len(losses) - first > 1 else np.zeros(1)
    return float(rates[first + int(falls.argmax())]) if falls.max() > 0 else None
