"""The configuration of transfer learning."""

from collections.abc import Iterator
from typing import Literal, Self

from pydantic import Field, model_validator

from waferlab.config.parts import ExperimentConfig, TaskConfig
from waferlab.schema import Component, Schema


class TransferTaskConfig(TaskConfig):
    """Transfer learning for inspection.

    Attributes:
        target: ``class``: the one class of each map, normal or a defect; ``defect``: whether it has any.
        select: the validation metric that the best epoch is chosen by.
    """

    target: Literal["class", "defect"]
    select: Literal["accuracy", "balanced_accuracy", "macro_f1", "auroc", "average_precision"]


class FineTuningConfig(Schema):
    """How a pretrained network becomes one for another task: its new head first, then all layers.

    Attributes:
        head_epochs: first epochs, in which the head learns alone, on a body that stays as it is, batch norms included.
        head_lr: its rate then, or null for the optimizer's.
        body: whether all layers learn afterwards, for ``trainer.max_epochs``.
        lowest_lr: rate of the first layer group, or null for the same in all; the head has the optimizer's, and from
            group to group it grows by the same factor.
    """

    head_epochs: int = Field(ge=0)
    head_lr: float | None = Field(gt=0)
    body: bool
    lowest_lr: float | None = Field(gt=0)

    @model_validator(mode="after")
    def _trains_something(self) -> Self:
        if not self.head_epochs and not self.body:
            raise ValueError("head_epochs=0 and body=false: nothing would be trained")
        return self


class ViewsConfig(Schema):
    """Test-time augmentation.

    Attributes:
        all: whether the answer is that of all dihedral views, instead of the map as it is.
        vote: ``mean`` of the views' probabilities, or ``majority`` of their answers.
    """

    all: bool
    vote: Literal["mean", "majority"]


class TransferConfig(ExperimentConfig):
    """Transfer learning: a pretrained backbone is fine-tuned on few, unbalanced labels.

    Attributes:
        labelled: share of the training maps whose labels are known; the others are left out.
        loss: of the logits.
        oversampling: 0 shows each training map once an epoch, 1 all classes equally often, in between the power of the
            classes' sizes that their shares follow is between 1 and 0.
        transforms: of training images, in order, each a transform of torchvision's (v2) or of your own; of wafer maps,
            those that only move dies.
        mix: of training batches, such as mixup, or null.
        operating_point: chooses on validation from which score on a map is a defect.
        calibrate: divide logits by the temperature of the least log loss on validation, on which no answer is taken to
            be surer than so many maps allow.
        views: what an answer is made of.
    """

    task: TransferTaskConfig
    labelled: float = Field(gt=0, le=1)
    loss: Component
    finetuning: FineTuningConfig
    oversampling: float = Field(ge=0, le=1)
    transforms: dict[str, Component]
    mix: Component | None
    operating_point: Component
    calibrate: bool
    views: ViewsConfig

    @model_validator(mode="after")
    def _rates_grow(self) -> Self:
        lowest = self.finetuning.lowest_lr
        if lowest is not None and self.finetuning.body and "lr" in self.optimizer.arguments and lowest > self.fit.lr:
            raise ValueError(
                f"finetuning.lowest_lr={lowest:g} is the first layer group's, and above the head's, "
                f"optimizer.lr={self.fit.lr:g}"
            )
        return self

    @property
    def criterion(self) -> tuple[str, Component]:
        """The loss, and its key."""
        return "loss", self.loss

    def components(self) -> Iterator[tuple[str, Component, tuple[str, ...]]]:
        """Every component with its place in the configuration and the parameters that the program supplies."""
        yield from super().components()
        yield "operating_point", self.operating_point, ()
        for name, transform in self.transforms.items():
            yield f"transforms.{name}", transform, ()
        if self.mix is not None:
            yield "mix", self.mix, ("num_classes",)
