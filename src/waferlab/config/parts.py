"""What the configurations of all experiments have: fixed parts, and components that name what is exchangeable."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from waferlab.schema import Component, Schema

#: Parameters of networks that the program supplies.
NETWORK: Final = ("in_channels", "num_classes", "size", "pretrained")


class ModelConfig(Component):
    """A network with its input encoding and initial weights.

    Attributes:
        encoding: name in `waferlab.wafer.ENCODINGS`: how die states become channels.
        weights: ``none``, ``imagenet``, a weights file, or an MLflow run id.
    """

    encoding: Literal["ordinal", "signed", "die_fail", "one_hot", "pixels"]
    weights: str = "none"


class TaskConfig(Schema):
    """Which of the published systems runs."""

    name: Literal["mixed_type", "anomaly", "normality", "transfer"]


class TrainerConfig(Schema):
    """How a network is fitted; the same for teachers and students.

    Attributes:
        max_epochs: passes over the training maps.
        batch_size: maps per optimizer step.
        augment: one random dihedral view of each map per epoch.
        precision: ``32-true`` or ``bf16-mixed`` (also faster on many CPUs).
        accelerator: as in Lightning; ``auto`` takes a GPU where there is one.
        gradient_clip: largest gradient norm, or null.
        ema_decay: decay per step of the averaged weights that are validated and kept, lower at first; or null.
        early_stopping: epochs without improvement on validation after which to stop, or null.
        die_noise: largest share of a map's dies whose pass and fail are swapped, anew each epoch: it keeps a large
            network from learning single maps by heart.
        label_noise: share of training label bits flipped, for robustness studies.
        validate_every: epochs between two validations.
    """

    max_epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    augment: bool
    precision: Literal["32-true", "bf16-mixed"]
    accelerator: Literal["auto", "cpu", "gpu"]
    gradient_clip: float | None = Field(gt=0)
    ema_decay: float | None = Field(ge=0, lt=1)
    early_stopping: int | None = Field(ge=1)
    die_noise: float = Field(ge=0, lt=0.5)
    label_noise: float = Field(ge=0, lt=0.5)
    validate_every: int = Field(ge=1)

    @model_validator(mode="after")
    def _is_validated(self) -> "TrainerConfig":
        if self.validate_every > self.max_epochs:
            raise ValueError(
                f"validate_every={self.validate_every} is more than max_epochs={self.max_epochs}: no epoch would be "
                f"validated, so there would be no best one to keep"
            )
        return self


class FitConfig(Schema):
    """One way to train a network: optimizer, learning rate over time, and everything in `TrainerConfig`."""

    optimizer: Component
    schedule: Component
    trainer: TrainerConfig

    @property
    def lr(self) -> float:
        """The optimizer's rate; its class's default where none is given."""
        return float(self.optimizer.arguments.get("lr") or self.optimizer.signature()["lr"][1])


class TeacherConfig(FitConfig):
    """How the backbone becomes a teacher.

    Attributes:
        model: an MLflow run id or model file to use as the teacher as it is; a list of them: the mean of their logits
            teaches; or null to train the backbone.
        average_views: answer with the mean of its logits over the eight dihedral views.
        seed: of the teacher's training, apart from the experiment's, so that seeds of students share one teacher.
    """

    model: str | list[str] | None
    average_views: bool
    seed: int = Field(ge=0, lt=2**32)

    @field_validator("model", mode="before")
    @classmethod
    def _names_teachers(cls, model: Any) -> Any:
        names = model if isinstance(model, list) else [model]
        if model is not None and not (names and all(isinstance(name, str) for name in names)):
            raise ValueError("give an MLflow run id or model file, or a list of at least one of them")
        return model


class TrackingConfig(Schema):
    """Where runs are logged.

    Attributes:
        uri: MLflow tracking URI, or null for a SQLite file in the store.
        experiment: name of the MLflow experiment.
        tags: free tags of the run; ``study`` and ``arm`` are what `waferlab report` groups by.
    """

    uri: str | None
    experiment: str = Field(min_length=1)
    tags: dict[str, str | int | float]


class ExperimentConfig(Schema):
    """What the experiments of all tasks have.

    Attributes:
        seed: of the network that is trained last: its weights, the order of its maps, and what is random in them.
        resume: an MLflow run id, or null.
        test: measure on the test part at the end, beside trivial baselines; otherwise on validation, the model alone.
        withhold: defects whose wafers are kept from training and validation, the teacher's too: patterns never seen.
    """

    task: TaskConfig
    dataset: Component
    backbone: ModelConfig
    optimizer: Component
    schedule: Component
    trainer: TrainerConfig
    tracking: TrackingConfig
    store: Path
    seed: int = Field(ge=0, lt=2**32)
    resume: str | None
    withhold: list[str]
    test: bool

    @property
    def fit(self) -> FitConfig:
        """How the network is trained."""
        return FitConfig(optimizer=self.optimizer, schedule=self.schedule, trainer=self.trainer)

    @property
    def fits(self) -> tuple[tuple[str, FitConfig], ...]:
        """How networks are trained, each with the prefix of its keys."""
        return (("", self.fit),)

    @property
    def criterion(self) -> tuple[str, Component] | None:
        """The loss, and its key, where the task has one."""
        return None

    @model_validator(mode="after")
    def _withholds_from_all(self) -> Self:
        if self.withhold and self.backbone.weights not in ("none", "imagenet"):
            raise ValueError(
                "withhold: backbone.weights names a finished network, which may have seen what is withheld; leave it "
                "out"
            )
        return self

    def plain(self) -> dict[str, Any]:
        """The configuration as nested plain values, as it was composed."""
        return self.model_dump(mode="json", by_alias=True)

    def components(self) -> Iterator[tuple[str, Component, tuple[str, ...]]]:
        """Every component with its place in the configuration and the parameters that the program supplies."""
        yield "dataset", self.dataset, ()
        yield "backbone", self.backbone, NETWORK
        if self.criterion is not None:
            yield *self.criterion, ()
        for path, fit in self.fits:
            yield f"{path}optimizer", fit.optimizer, ("params",)
            yield f"{path}schedule", fit.schedule, ()


class TaughtConfig(ExperimentConfig):
    """What the experiments have that need a teacher.

    Attributes:
        teacher: how the backbone becomes one.
    """

    teacher: TeacherConfig

    @property
    def fits(self) -> tuple[tuple[str, FitConfig], ...]:
        """How network and teacher are trained, each with the prefix of its keys."""
        return *super().fits, ("teacher.", self.teacher)

    @model_validator(mode="after")
    def _teacher_is_as_asked(self) -> Self:
        if self.teacher.model and self.backbone.weights != "none":
            raise ValueError(
                "teacher.model names a finished teacher, so backbone.weights would have no effect; "
                "leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _withholds_from_the_teacher(self) -> Self:
        if self.withhold and self.teacher.model:
            raise ValueError(
                "withhold: teacher.model names a finished network, which may have seen what is withheld; leave it out"
            )
        return self


class DistilledConfig(TaughtConfig):
    """What the experiments have in which a student learns from a teacher.

    Attributes:
        distillation: the student's loss.
    """

    distillation: Component

    @property
    def criterion(self) -> tuple[str, Component]:
        """The student's loss, and its key."""
        return "distillation", self.distillation
