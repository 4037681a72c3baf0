"""What a composed configuration must look like, checked before any data is read or anything is trained.

Fixed parts (trainer, tracking, …) are pydantic models. Parts that name a class or function with ``_target_`` are
`Component`s: there the signature of the target is the schema, so that a new attention, student or data source is one
class and one YAML file.
"""

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar, cast, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, create_model, field_validator
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


def parse(schema: type[AnySchema], composed: Any) -> AnySchema:
    """Check plain nested values against a schema.

    Raises:
        ConfigError: one line per fault: the key, what is wrong, and what was probably meant.
    """
    try:
        return schema.model_validate(composed)
    except ValidationError as error:
        raise ConfigError("\n".join(_sentences(error.errors(), "", _keys(schema)))) from error


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
