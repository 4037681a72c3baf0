"""What a composed configuration must look like, checked before any data is read or anything is trained.

Fixed parts (trainer, tracking, …) are pydantic models. Parts that name a class or function with ``_target_`` are
`Component`s: there the signature of the target is the schema, so that a new attention, student or data source is one
class and one YAML file.
"""

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from waferlab.errors import ConfigError


class _Checked(BaseModel):
    """Unknown keys are errors, and true is no number."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())

    @field_validator("*", mode="before")
    @classmethod
    def _bool_is_no_number(cls, value: Any, field: ValidationInfo) -> Any:
        annotation = cls.model_fields[str(field.field_name)].annotation
        allowed = {annotation, *get_args(annotation)}
        if isinstance(value, bool) and bool not in allowed and allowed & {int, float}:
            raise ValueError("give a number")
        return value


class Schema(_Checked):
    """Base of the fixed parts: values do not change."""

    model_config = ConfigDict(frozen=True)


AnySchema = TypeVar("AnySchema", bound=Schema)


class Component(BaseModel):
    """A part of the configuration that names a class or function and its arguments."""

    model_config = ConfigDict(extra="allow", frozen=True)

    target: str = Field(alias="_target_")

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments given in the configuration."""
        return dict(self.model_extra or {})

    def resolve(self) -> Callable[..., Any]:
        """The class or function itself; its module is imported now."""
        module, _, name = self.target.rpartition(".")
        try:
            found = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(f"_target_ '{self.target}' can't be imported: {error}") from error
        if not callable(found):
            raise ConfigError(f"_target_ '{self.target}' is neither a class nor a function")
        return found  # type: ignore[no-any-return]

    def signature(self) -> dict[str, tuple[Any, Any]]:
        """The target's parameters: type and default (``...`` where there is none) by name."""
        target = self.resolve()
        hints = get_type_hints(target.__init__ if inspect.isclass(target) else target)
        return {
            p.name: (hints.get(p.name, Any), ... if p.default is p.empty else p.default)
            for p in inspect.signature(target).parameters.values()
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        }

    def checked(self, path: str, *given: str) -> dict[str, Any]:
        """The arguments, converted to the types that the target's signature states.

        Args:
            path: where this component stands in the configuration, for messages.
            given: parameters that the program supplies itself.

        Raises:
            ConfigError: an unknown or missing argument, or one of the wrong type.
        """
        fields = {name: field for name, field in self.signature().items() if name not in given}
        schema: type[BaseModel] = create_model("Arguments", __base__=_Checked, **cast(Any, fields))
        try:
            checked = schema(**self.arguments)
        except ValidationError as error:
            raise ConfigError("\n".join(_sentences(_by_argument(error), path, list(fields)))) from error
        return {name: getattr(checked, name) for name in self.arguments}

    def build(self, path: str, **given: Any) -> Any:
        """Call the target with the checked arguments and the given ones; its ValueErrors become ConfigErrors."""
        arguments = self.checked(path, *given)
        try:
            return self.resolve()(**arguments, **given)
        except ValueError as error:
            raise ConfigError(f"{path}: {error}") from error


class ModelConfig(Component):
    """A network with its input encoding and initial weights.

    Attributes:
        encoding: name in `waferlab.wafer.ENCODINGS`: how die states become channels.
        weights: ``none``, ``imagenet``, a weights file, or an MLflow run id.
    """

    encoding: Literal["ordinal", "signed", "die_fail", "one_hot"]
    weights: str = "none"


class TaskConfig(Schema):
    """Which of the published systems runs."""

    name: Literal["mixed_type"]


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


class TeacherConfig(FitConfig):
    """How the backbone becomes a teacher.

    Attributes:
        model: an MLflow run id or model file to use as the teacher as it is, or null to train the backbone.
        average_views: answer with the mean of its logits over the eight dihedral views.
        seed: of the teacher's training, apart from the experiment's, so that seeds of students share one teacher.
    """

    model: str | None
    average_views: bool
    seed: int = Field(ge=0, lt=2**32)


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


class Config(Schema):
    """The whole of one experiment."""

    task: TaskConfig
    dataset: Component
    backbone: ModelConfig
    student: ModelConfig | None = None
    distillation: Component
    optimizer: Component
    schedule: Component
    trainer: TrainerConfig
    teacher: TeacherConfig
    tracking: TrackingConfig
    store: Path
    seed: int = Field(ge=0, lt=2**32)
    resume: str | None

    @property
    def fit(self) -> FitConfig:
        """How the student is trained."""
        return FitConfig(optimizer=self.optimizer, schedule=self.schedule, trainer=self.trainer)

    @property
    def fits(self) -> tuple[tuple[str, FitConfig], ...]:
        """How student and teacher are trained, each with the prefix of its keys."""
        return ("", self.fit), ("teacher.", self.teacher)

    @model_validator(mode="after")
    def _teacher_is_as_asked(self) -> "Config":
        if self.teacher.model and self.backbone.weights != "none":
            raise ValueError(
                "teacher.model names a finished teacher, so backbone.weights would have no effect; "
                "leave one of them out"
            )
        return self

    def plain(self) -> dict[str, Any]:
        """The configuration as nested plain values, as it was composed."""
        return self.model_dump(mode="json", by_alias=True)

    def components(self) -> Iterator[tuple[str, Component, tuple[str, ...]]]:
        """Every component with its place in the configuration and the parameters that the program supplies."""
        network = ("in_channels", "num_classes", "size", "pretrained")
        yield "dataset", self.dataset, ()
        yield "backbone", self.backbone, network
        if self.student is not None:
            yield "student", self.student, network
        yield "distillation", self.distillation, ()
        for path, fit in self.fits:
            yield f"{path}optimizer", fit.optimizer, ("params",)
            yield f"{path}schedule", fit.schedule, ()


def parse(schema: type[AnySchema], composed: Any) -> AnySchema:
    """Check plain nested values against a schema.

    Raises:
        ConfigError: one line per fault: the key, what is wrong, and what was probably meant.
    """
    try:
        return schema.model_validate(composed)
    except ValidationError as error:
        raise ConfigError("\n".join(_sentences(error.errors(), "", _keys(schema)))) from error


def check(config: Config) -> Config:
    """Check every component against the signature of its target, and what they are together; imports what they name.

    Raises:
        ConfigError: an unknown, missing or mistyped argument, or settings that contradict each other.
    """
    for path, component, given in config.components():
        component.checked(path, *given)
    loss: Any = config.distillation.resolve()
    if config.student is not None and config.teacher.model and not loss.uses_teacher:
        raise ConfigError(f"teacher.model: {loss.__name__} has no teacher; leave it out, or choose distillation=logits")
    if config.trainer.label_noise and not loss.uses_labels:
        raise ConfigError(
            f"trainer.label_noise: {loss.__name__} sees no labels; did you mean teacher.trainer.label_noise?"
        )
    return config


def _keys(schema: type[BaseModel]) -> list[str]:
    return [key for name, field in schema.model_fields.items() for key in [name, *_keys_of(field.annotation)]]


def _keys_of(annotation: Any) -> list[str]:
    return _keys(annotation) if inspect.isclass(annotation) and issubclass(annotation, Schema) else []


def _by_argument(error: ValidationError) -> Iterator[ErrorDetails]:
    """One fault a value: of a union, pydantic reports each member that a value isn't, under a name of its own."""
    seen = set()
    for fault in error.errors():
        place = tuple(part for depth, part in enumerate(fault["loc"]) if not depth or isinstance(part, int))
        if place not in seen:
            seen.add(place)
            yield {**fault, "loc": place}


def _sentences(faults: Iterable[ErrorDetails], path: str, known: list[str]) -> Iterator[str]:
    for fault in faults:
        key = ".".join(filter(None, [path, *map(str, fault["loc"])]))
        if fault["type"] == "extra_forbidden":
            close = difflib.get_close_matches(str(fault["loc"][-1]), known, n=1)
            yield f"unknown key '{key}'" + (f": did you mean '{close[0]}'?" if close else "")
        elif fault["type"] == "missing":
            yield f"'{key}' is missing"
        else:
            said = fault["msg"].removeprefix("Value error, ")
            place = key if isinstance(fault["input"], dict) else f"{key}={fault['input']!r}"
            yield f"{place}: {said}" if place else said
