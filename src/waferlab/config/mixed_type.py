"""The configuration of mixed-type classification."""

from collections.abc import Iterator
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from waferlab.config.parts import NETWORK, DistilledConfig, ModelConfig
from waferlab.errors import ConfigError
from waferlab.schema import Component


class MixedTypeConfig(DistilledConfig):
    """Mixed-type classification.

    Attributes:
        student: any network, or none where only a teacher is asked for.
        labelled: share of the training maps whose labels are known: teachers and supervised students train on these
            alone, students with a teacher on all. Validation and test keep their labels.
        weight_bits: the student learns with its weights rounded to so many bits, as an export rounds them; None: to
            none.
        extra: all wafers of another data set, on which a student is taught beside the training maps, without labels.
    """

    student: ModelConfig | None = None
    labelled: float = Field(1.0, gt=0, le=1)
    weight_bits: Literal[4, 8] | None = None
    extra: Component | None = None

    @model_validator(mode="after")
    def _has_a_student_where_one_is_meant(self) -> Self:
        if self.student is not None:
            return self
        if self.weight_bits is not None:
            raise ValueError("weight_bits: there is no student whose weights could be rounded; leave it out")
        if self.extra is not None:
            raise ValueError("extra: there is no student to teach on these wafers; leave it out")
        if isinstance(self.teacher.model, list):
            raise ValueError("teacher.model is a list, and there is no student to teach by several; name one")
        return self

    @model_validator(mode="after")
    def _shows_no_wafers_that_are_kept_back(self) -> Self:
        if self.extra is None:
            return self
        if self.withhold:
            raise ValueError("withhold: extra wafers may show what is withheld; leave one of them out")
        ours, given = self.dataset.arguments, self.extra.arguments
        key = "path" if "path" in ours else "seed"
        if self.dataset.target == self.extra.target and ours.get(key) == given.get(key):
            raise ValueError(
                f"extra.{key}={given.get(key)} is dataset.{key} too, so that the student would be taught on wafers of "
                f"the test part, or with their noise; choose another one"
            )
        return self

    def components(self) -> Iterator[tuple[str, Component, tuple[str, ...]]]:
        """Every component with its place in the configuration and the parameters that the program supplies."""
        yield from super().components()
        if self.student is not None:
            yield "student", self.student, NETWORK
        if self.extra is not None:
            yield "extra", self.extra, ()


def check_losses(config: MixedTypeConfig, loss: Any) -> None:
    """Refuse settings that contradict what the loss uses.

    Raises:
        ConfigError: a teacher or noise in labels that the loss never sees, or wafers that it learns nothing from.
    """
    if config.student is not None and config.teacher.model and not loss.uses_teacher:
        raise ConfigError(f"teacher.model: {loss.__name__} has no teacher; leave it out, or choose distillation=logits")
    if config.extra is not None and not loss.uses_teacher:
        raise ConfigError(
            f"extra: these wafers come without labels, and {loss.__name__} has no teacher; leave it out, or choose "
            f"distillation=logits"
        )
    if config.trainer.label_noise and not loss.uses_labels:
        raise ConfigError(
            f"trainer.label_noise: {loss.__name__} sees no labels; did you mean teacher.trainer.label_noise?"
        )
