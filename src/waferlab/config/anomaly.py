"""The configuration of anomaly detection."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from waferlab.config.parts import DistilledConfig, ModelConfig, TaskConfig, TeacherConfig
from waferlab.schema import Component, Schema


class AnomalyTaskConfig(TaskConfig):
    """Anomaly detection.

    Attributes:
        mask: name in `waferlab.data.masks.MASKS`: which dies of an abnormal wafer are abnormal.
        select: the validation metric that the best epoch is chosen by.
        aupro_limit: false positive rate up to which the per-region overlap is integrated.
    """

    mask: Literal["exact", "fail", "pattern"]
    select: Literal["image/auroc", "image/aupr", "pixel/auroc", "pixel/aupr", "pixel/aupro"]
    aupro_limit: float = Field(gt=0, le=1)


class PyramidConfig(Schema):
    """The feature maps that teacher and student are compared by.

    Attributes:
        levels: timm's indices of feature maps, fine to coarse; for a ResNet, 0 is the stem and 1 to 4 its stages.
        input_size: side in pixels to which maps are enlarged before the network, or null.
        distance: between ``unit`` vectors, or between features that are ``standard`` on normal wafers.
        cache_gb: the teacher's features of all training maps are kept in memory if they take no more than this, and if
            they are the same in each epoch; otherwise they are computed anew.
    """

    levels: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    input_size: int | None = Field(ge=8)
    distance: Literal["unit", "standard"]
    cache_gb: float = Field(ge=0)

    @field_validator("levels")
    @classmethod
    def _go_upwards(cls, levels: list[int]) -> list[int]:
        if levels != sorted(set(levels)):
            raise ValueError("each level once, the finest first")
        return levels


class InDomainTeacherConfig(TeacherConfig):
    """A teacher for anomaly detection.

    Attributes:
        training: ``classification`` of the defects in a data set of its own, or ``none``: the backbone with the weights
            that it is given, which are random ones where it is given none.
        dataset: what it learns to classify.
    """

    training: Literal["classification", "none"]
    dataset: Component


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


class AnomalyConfig(DistilledConfig):
    """Anomaly detection: a student learns its teacher's features on normal wafers."""

    task: AnomalyTaskConfig
    teacher: InDomainTeacherConfig
    pyramid: PyramidConfig
    attention: AttentionConfig
    score: Component

    @model_validator(mode="after")
    def _trains_an_attention_that_is_there(self) -> Self:
        if self.attention.module is None and self.attention.training != "frozen":
            raise ValueError(
                f"attention.training={self.attention.training}: there is no attention to train; choose one, such as "
                f"attention=dual"
            )
        return self

    @model_validator(mode="after")
    def _teaches_nothing_of_the_test_part(self) -> Self:
        ours, teachers = self.dataset.arguments, self.teacher.dataset.arguments
        is_trained = self.teacher.training == "classification" and not self.teacher.model
        if not is_trained or self.dataset.target != self.teacher.dataset.target:
            return self
        if "path" not in ours and ours.get("seed") == teachers.get("seed"):
            raise ValueError(
                f"teacher.dataset.seed={teachers.get('seed')} is dataset.seed too, so that the teacher would learn "
                f"from wafers with the noise of the test part's; choose another one"
            )
        if "path" in ours and ours["path"] == teachers.get("path") and ours != teachers:
            raise ValueError(
                "teacher.dataset reads the file that dataset reads, in another way: the teacher would learn from "
                "wafers of the test part; give both the same arguments"
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
        yield "teacher.dataset", self.teacher.dataset, ()
        yield "score", self.score, ()
        if self.attention.module is not None:
            yield "attention.module", self.attention.module, ("channels",)
