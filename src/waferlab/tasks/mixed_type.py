"""Mixed-type classification as a LightningModule: one network, one loss, metrics on the whole validation part."""

import math

import torch
from torch import Tensor

from waferlab.config import FitConfig
from waferlab.data.batches import Batch
from waferlab.distillation.losses import Distillation
from waferlab.metrics.multilabel import headline_metrics
from waferlab.models.classifier import Classifier
from waferlab.tasks.shares import Share
from waferlab.tasks.task import Task


class MixedType(Task):
    """Fits one `Classifier`; a teacher and a student differ only in what they are given.

    Args:
        model: the network to fit.
        loss: what it is asked to match.
        how: its optimizer and schedule.
        validation: the validation maps with their labels (N, C) and the teacher's logits (N, C), if there is one.
        seed: with the epoch, determines dropout.
        path: prefix of this training's keys in the configuration, for messages.
    """

    def __init__(
        self, model: Classifier, loss: Distillation, how: FitConfig, validation: Batch, seed: int, path: str = ""
    ) -> None:
        super().__init__(how, seed, path)
        self.model, self.loss, self.validation = model, loss, validation
        self.outputs: list[Tensor] = []

    @property
    def monitor(self) -> str:
        """A loss that sees no labels must not be selected by labels either."""
        return "val/exact_match" if self.loss.uses_labels else "val/teacher_agreement"

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Loss of one batch."""
        return self.noted(self.loss(self._logits(batch.maps), batch))

    def validation_step(self, batch: Batch, _: int) -> None:
        """Keep the logits; metrics are exact, over all maps at once."""
        self.outputs.append(self._logits(batch.maps).cpu())

    def _logits(self, maps: Tensor) -> Tensor:
        """Of all maps (B, H, W), of which this process computes its share."""
        share = Share(len(maps))
        with share.together():
            return share.whole(self.model(share.of(maps)).float())

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
