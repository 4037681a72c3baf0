"""The configuration of mixed-type classification."""

from collections.abc import Iterator
from typing import Any, Literal

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
    """

    student: ModelConfig | None = None
    labelled: float = Field(1.0, gt=0, le=1)
    weight_bits: Literal[4, 8] | None = None

    @model_validator(mode="after")
    def _rounds_a_students_weights(self) -> "MixedTypeConfig":
        if self.weight_bits is not None and self.student is None:
            raise ValueError("weight_bits: there is no student whose weights could be rounded; leave it out")
        return self

    def components(self) -> Iterator[tuple[str, Component, tuple[str, ...]]]:
        """Every component with its place in the configuration and the parameters that the program supplies."""
        yield from super().components()
        if self.student is not None:
            yield "student", self.student, NETWORK


def check_losses(config: MixedTypeConfig, loss: Any) -> None:
    """Refuse settings that contradict what the loss uses.

    Raises:
        ConfigError: a teacher or noise in labels that the loss never sees.
    """
    if config.student is not None and config.teacher.model and not loss.uses_teacher:
        raise ConfigError(f"teacher.model: {loss.__name__} has no teacher; leave it out, or choose distillation=logits")
    if config.trainer.label_noise and not loss.uses_labels:
        raise ConfigError(
            f"trainer.label_noise: {loss.__name__} sees no labels; did you mean teacher.trainer.label_noise?"
        )
