"""The configuration of anomaly detection."""

from collections.abc import Iterator
from typing import Literal, Self

from pydantic import Field, model_validator

from waferlab.config.detection import DetectionConfig, Levels
from waferlab.config.parts import DistilledConfig, ModelConfig
from waferlab.schema import Component, Schema


class PyramidConfig(Schema):
    """The feature maps that teacher and student are compared by.

    Attributes:
        levels: of the backbone.
        input_size: side in pixels to which maps are enlarged before the network, or null.
        distance: between ``unit`` vectors, or between features that are ``standard`` on normal wafers.
        cache_gb: the teacher's features of all training maps are kept in memory if they take no more than this, and if
            they are the same in each epoch; otherwise they are computed anew.
    """

    levels: Levels
    input_size: int | None = Field(ge=8)
    distance: Literal["unit", "standard"]
    cache_gb: float = Field(ge=0)


class AttentionConfig(Schema):
    """What stands on the teacher's levels, and how it comes by its weights.

    Attributes:
        module: attention for a number of channels, or null for none.
        training: ``frozen`` at its random weights, as in the paper's released code; ``joint`` with the student; or
            ``pretrained`` to keep the teacher's features, then frozen.
        layer_norm: after attention, over each map's level.
        fidelity: weight of keeping the teacher's features in joint training; without it, both sides may agree on a
            constant.
        pretrain_epochs: the first epochs, in which pretraining alone happens.
    """

    module: Component | None
    training: Literal["frozen", "joint", "pretrained"]
    layer_norm: bool
    fidelity: float = Field(ge=0)
    pretrain_epochs: int = Field(ge=1)


class DetectorConfig(Schema):
    """All that a detector is built from; teacher and student have the same backbone."""

    backbone: ModelConfig
    pyramid: PyramidConfig
    attention: AttentionConfig
    score: Component


class AnomalyConfig(DetectionConfig, DistilledConfig):
    """Anomaly detection: a student learns its teacher's features on normal wafers."""

    pyramid: PyramidConfig
    attention: AttentionConfig

    @model_validator(mode="after")
    def _trains_an_attention_that_is_there(self) -> Self:
        if self.attention.module is None and self.attention.training != "frozen":
            raise ValueError(
                f"attention.training={self.attention.training}: there is no attention to train; choose one, such as "
                f"attention=dual"
            )
        return self

    @model_validator(mode="after")
    def _has_an_epoch_for_the_student(self) -> Self:
        last = self.trainer.max_epochs // self.trainer.validate_every * self.trainer.validate_every
        if self.attention.training == "pretrained" and self.attention.pretrain_epochs >= last:
            raise ValueError(
                f"attention.pretrain_epochs={self.attention.pretrain_epochs}: the attention alone learns in these, so "
                f"that trainer.max_epochs={self.trainer.max_epochs} leaves none to the student"
            )
        return self

    @property
    def detector(self) -> DetectorConfig:
        """What the detector is built from."""
        return DetectorConfig(backbone=self.backbone, pyramid=self.pyramid, attention=self.attention, score=self.score)

    def components(self) -> Iterator[tuple[str, Component, tuple[str, ...]]]:
        """Every component with its place in the configuration and the parameters that the program supplies."""
        yield from super().components()
        if self.attention.module is not None:
            yield "attention.module", self.attention.module, ("channels",)
