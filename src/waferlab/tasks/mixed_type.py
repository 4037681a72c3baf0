"""Mixed-type classification as a LightningModule: one network, one loss, metrics on the whole validation part."""

import math

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from timm.optim import param_groups_weight_decay
from torch import Tensor, nn
from torch.optim import Optimizer

from waferlab.config import FitConfig
from waferlab.data.batches import Batch
from waferlab.distillation.losses import Distillation
from waferlab.errors import WaferlabError
from waferlab.metrics.multilabel import headline_metrics
from waferlab.models.classifier import Classifier
from waferlab.tasks.schedules import Schedule


class MixedType(pl.LightningModule):
    """Fits one `Classifier`; a teacher and a student differ only in what they are given.

    Args:
        model: the network to fit.
        loss: what it is asked to match.
        fit: its optimizer and schedule.
        validation: the validation maps with their labels (N, C) and the teacher's logits (N, C), if there is one.
        seed: with the epoch, determines dropout.
        path: prefix of this training's keys in the configuration, for messages.
    """

    def __init__(
        self, model: Classifier, loss: Distillation, fit: FitConfig, validation: Batch, seed: int, path: str = ""
    ) -> None:
        super().__init__()
        self.model, self.loss, self.how, self.validation, self.seed, self.path = (
            model,
            loss,
            fit,
            validation,
            seed,
            path,
        )
        self.losses: list[Tensor] = []
        self.outputs: list[Tensor] = []

    @property
    def monitor(self) -> str:
        """What the best epoch is chosen by: a loss that sees no labels must not be selected by labels either."""
        return "val/exact_match" if self.loss.uses_labels else "val/teacher_agreement"

    def on_train_epoch_start(self) -> None:
        """Make the epoch's randomness a function of seed and epoch alone, so that a resumed run is the same run."""
        torch.manual_seed(self.seed * 1_000_003 + self.current_epoch)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Loss of one batch.

        Raises:
            WaferlabError: the loss is no longer finite.
        """
        loss = self.loss(self.model(batch.maps).float(), batch)
        if not math.isfinite(loss.item()):
            raise WaferlabError(
                f"the training loss became {loss.item()} in epoch {self.current_epoch + 1}; "
                f"lower {self.path}optimizer.lr, set {self.path}trainer.gradient_clip, or use precision 32-true"
            )
        self.losses.append(loss.detach())
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the epoch's mean loss and rate."""
        self.log("train/loss", torch.stack(self.losses).mean())
        self.log("train/learning_rate", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        self.losses.clear()

    def validation_step(self, batch: Batch, _: int) -> None:
        """Keep the logits; metrics are exact, over all maps at once."""
        self.outputs.append(self.model(batch.maps).float().cpu())

    def on_validation_epoch_end(self) -> None:
        """Log agreement with the teacher, where there is one, and with the labels."""
        logits = torch.cat(self.outputs)
        self.outputs.clear()
        if self.validation.teacher is not None:
            same = ((logits > 0) == (self.validation.teacher.sigmoid() > self.loss.threshold)).all(1)
            self.log("val/teacher_agreement", same.double().mean())
        if self.validation.labels is not None:
            labels = self.validation.labels.numpy().astype("uint8")
            metrics = headline_metrics(logits.numpy(), labels)
            self.log_dict({f"val/{name}": value for name, value in metrics.items() if not math.isnan(value)})

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The configured optimizer, and its schedule per step."""
        optimizer, schedule = optimizer_and_schedule(self.model, self.how, self.path)
        steps = self.trainer.estimated_stepping_batches
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step / steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def optimizer_and_schedule(model: nn.Module, how: FitConfig, path: str) -> tuple[Optimizer, Schedule]:
    """As configured; biases and norms don't decay.

    Raises:
        ConfigError: a value that the optimizer or the schedule refuses.
    """
    groups = param_groups_weight_decay(model, weight_decay=how.optimizer.arguments.get("weight_decay", 0.0))
    return how.optimizer.build(f"{path}optimizer", params=groups), how.schedule.build(f"{path}schedule")
