"""What the configurations have in common that find abnormal wafers and dies."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from waferlab.config.parts import TaskConfig, TaughtConfig, TeacherConfig
from waferlab.schema import Component


def _upwards(levels: list[int]) -> list[int]:
    if levels != sorted(set(levels)):
        raise ValueError("each level once, the finest first")
    return levels


#: timm's indices of feature maps, fine to coarse; for a ResNet, 0 is the stem and 1 to 4 its stages.
Levels = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1), AfterValidator(_upwards)]


class DetectionTaskConfig(TaskConfig):
    """Anomaly detection.

    Attributes:
        mask: name in `waferlab.data.masks.MASKS`: which dies of an abnormal wafer are abnormal.
        select: the validation metric that the best epoch is chosen by.
        aupro_limit: false positive rate up to which the per-region overlap is integrated.
    """

    mask: Literal["exact", "fail", "pattern"]
    select: Literal["image/auroc", "image/aupr", "pixel/auroc", "pixel/aupr", "pixel/aupro"]
    aupro_limit: float = Field(gt=0, le=1)


class InDomainTeacherConfig(TeacherConfig):
    """A teacher for anomaly detection.

    Attributes:
        model: one, as its features teach, which have no mean with another network's.
        training: ``classification`` of the defects in a data set of its own, or ``none``: the backbone with the weights
            that it is given, which are random ones where it is given none.
        dataset: what it learns to classify.
    """

    model: str | None
    training: Literal["classification", "none"]
    dataset: Component

    @field_validator("model", mode="before")
    @classmethod
    def _names_one(cls, model: Any) -> Any:
        if isinstance(model, list):
            raise ValueError("a detector looks at the features of one teacher; several teach with task=mixed_type")
        return model


class DetectionConfig(TaughtConfig):
    """Abnormal wafers and dies, by the features of a network that knows other wafers.

    Attributes:
        score: how distances from normal become scores.
    """

    task: DetectionTaskConfig
    teacher: InDomainTeacherConfig
    score: Component

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

    def components(self) -> Iterator[tuple[str, Component, tuple[str, ...]]]:
        """Every component with its place in the configuration and the parameters that the program supplies."""
        yield from super().components()
        yield "teacher.dataset", self.teacher.dataset, ()
        yield "score", self.score, ()
