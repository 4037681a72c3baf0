"""What all trainings have in common: seeds by epoch, a loss that stays finite, optimizer and schedule."""

import math
from abc import abstractmethod
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from timm.optim import param_groups_weight_decay
from torch import Tensor, nn
from torch.optim import Optimizer

from waferlab.config import FitConfig
from waferlab.errors import DivergedError
from waferlab.tasks.schedules import Schedule


class Task(pl.LightningModule):
    """Fits what it has of parameters that want a gradient.

    Args:
        how: optimizer, schedule and trainer.
        seed: with the epoch, determines dropout.
        path: prefix of this training's keys in the configuration, for messages.
    """

    def __init__(self, how: FitConfig, seed: int, path: str = "") -> None:
        super().__init__()
        self.how, self.seed, self.path = how, seed, path
        self.losses: list[Tensor] = []

    @property
    @abstractmethod
    def monitor(self) -> str:
        """The validation metric that the best epoch is chosen by, higher is better."""

    @property
    def may_be_best(self) -> bool:
        """Whether this epoch's weights may be the ones to keep."""
        return True

    def on_train_epoch_start(self) -> None:
        """Make the epoch's randomness a function of seed and epoch alone, so that a resumed run is the same run."""
        torch.manual_seed(self.seed * 1_000_003 + self.current_epoch)

    def noted(self, loss: Tensor) -> Tensor:
        """The loss of a step, for the epoch's mean.

        Raises:
            DivergedError: it is no longer finite.
        """
        if not math.isfinite(loss.item()):
            raise DivergedError(
                f"the training loss became {loss.item()} in epoch {self.current_epoch + 1}; "
                f"lower {self.path}optimizer.lr, set {self.path}trainer.gradient_clip, or use precision 32-true"
            )
        self.losses.append(loss.detach())
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the epoch's mean loss and rate."""
        rate = self.optimizers().param_groups[-1]["lr"]  # type: ignore[union-attr] # the head's, where they differ
        self.log_now({"train/loss": float(torch.stack(self.losses).mean()), "train/learning_rate": rate})
        self.losses.clear()

    def log_now(self, values: dict[str, float]) -> None:
        """Log an epoch's values before the epoch is saved; Lightning would do it afterwards, which an interruption may
        prevent: the epoch would not be trained again, and its values be missing.
        """
        self.log_dict(values, logger=False)
        if self.logger is not None:
            self.logger.log_metrics({**values, "epoch": self.current_epoch})

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What the optimizer is given; biases and norms don't decay."""
        return decaying(self, self.how)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The configured optimizer, and its schedule per step."""
        optimizer, schedule = optimizer_and_schedule(self.parameter_groups(), self.how, self.path)
        steps = self.trainer.estimated_stepping_batches
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step / steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def decaying(module: nn.Module, how: FitConfig) -> list[dict[str, Any]]:
    """A module's parameters that want a gradient, in groups: those that decay, and those that don't."""
    groups = param_groups_weight_decay(module, weight_decay=how.optimizer.arguments.get("weight_decay", 0.0))
    return [group for group in groups if group["params"]]


def optimizer_and_schedule(groups: list[dict[str, Any]], how: FitConfig, path: str) -> tuple[Optimizer, Schedule]:
    """As configured.

    Raises:
        ConfigError: a value that the optimizer or the schedule refuses.
    """
    return how.optimizer.build(f"{path}optimizer", params=groups), how.schedule.build(f"{path}schedule")
