"""Fine-tuning as a LightningModule: a new head on a body that stays, or all layers, each group at its own rate."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from waferlab.config import FitConfig
from waferlab.data.batches import Batch
from waferlab.metrics.single_label import HEADLINES, single_label_metrics
from waferlab.models.classifier import Classifier
from waferlab.models.layer_groups import body_modules, layer_groups, spaced
from waferlab.tasks.losses import Classification
from waferlab.tasks.shares import Share
from waferlab.tasks.task import Task, decaying

#: Mixes inputs (B, C, H, W) and targets (B, K) of a batch, as torchvision's `MixUp` and `CutMix` do.
Mix = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Transfer(Task):
    """Fits one `Classifier` of exclusive classes, or its head alone.

    Args:
        model: the network to fit.
        loss: of its logits.
        weights: (K,) of the classes.
        how: optimizer and schedule.
        labels: (N, K) uint8 of the validation maps, one bit a row.
        select: the validation metric that the best epoch is chosen by.
        seed: with the epoch, determines dropout, transforms and mixing.
        head_only: the body stays as it is: no gradients, no dropout, and batch norms keep their statistics.
        lowest_lr: rate of the first layer group, or None for the same rate in all.
        mix: of training batches, or None.
        path: prefix of this training's keys in the configuration, for messages.
    """

    def __init__(
        self,
        model: Classifier,
        loss: Classification,
        weights: Tensor,
        how: FitConfig,
        labels: Tensor,
        select: str,
        seed: int,
        *,
        head_only: bool = False,
        lowest_lr: float | None = None,
        mix: Mix | None = None,
        path: str = "",
    ) -> None:
        super().__init__(how, seed, path)
        self.model, self.loss, self.select, self.mix = model, loss, select, mix
        self.head_only, self.lowest_lr = head_only, lowest_lr
        self.register_buffer("weights", weights, persistent=False)
        self.labels = labels
        self.outputs: list[Tensor] = []
        *body, head = layer_groups(model.net)
        for name, parameter in model.net.named_parameters():
            parameter.requires_grad = not head_only or name in head
        self.groups = [head] if head_only else [*body, head]
        self.train()  # Lightning leaves modules as they are

    weights: Tensor

    @property
    def monitor(self) -> str:
        """The metric of choice."""
        return f"val/{self.select}"

    def train(self, mode: bool = True) -> Self:
        """The body is not in training while the head alone is."""
        super().train(mode)
        if mode and self.head_only:
            for module in body_modules(self.model.net):
                module.training = False
        return self

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The layer groups, each with its rate; biases and norms don't decay."""
        if self.lowest_lr is None:
            return super().parameter_groups()
        named, made = dict(self.model.net.named_parameters()), []
        for names, rate in zip(self.groups, spaced(self.lowest_lr, self.how.lr, len(self.groups)), strict=True):
            layers = nn.ParameterList(named[name] for name in names)
            made += [{**group, "lr": rate} for group in decaying(layers, self.how)]
        return made

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Loss of one batch."""
        inputs, targets = self.model.encode(batch.maps), batch.labels
        assert targets is not None
        if self.mix is not None:
            inputs, targets = self.mix(inputs, targets)
        return self.noted(self.loss(self._logits(inputs), targets, self.weights))

    def validation_step(self, batch: Batch, _: int) -> None:
        """Keep the logits; metrics are exact, over all maps at once."""
        self.outputs.append(self._logits(self.model.encode(batch.maps)).cpu())

    def _logits(self, inputs: Tensor) -> Tensor:
        """Of all inputs (B, C, H, W), of which this process computes its share."""
        share = Share(len(inputs))
        with share.together():
            return share.whole(self.model.net(share.of(inputs)).float())

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of choice."""
        logits = torch.cat(self.outputs).numpy()
        self.outputs.clear()
        found = single_label_metrics(logits, self.labels.numpy(), self.model.classes, self.model.normal).values
        wanted = {*HEADLINES, self.select}
        self.log_dict({f"val/{name}": value for name, value in found.items() if name in wanted})
