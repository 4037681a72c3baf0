"""From Hydra's sweep grammar to Optuna's parameters, and back to overrides."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from itertools import product
from typing import Any, Protocol

import optuna
from hydra.core.override_parser.types import IntervalSweep, Override, QuotedString, RangeSweep
from hydra.errors import HydraException

Value = str | int | float


class Suggests(Protocol):
    """What a space asks of a trial; `optuna.Trial` is one."""

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> Any: ...
    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...
    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...


@dataclass(frozen=True)
class Fixed:
    """An override that every job has."""

    override: str


@dataclass(frozen=True)
class Choice:
    """One of some texts, as Hydra writes them in overrides.

    Attributes:
        options: the texts.
        meant: the value that each of them stands for.
    """

    key: str
    options: tuple[str, ...]
    meant: tuple[Any, ...]

    def suggest(self, trial: Suggests) -> Value:
        """One of the options."""
        chosen: str = trial.suggest_categorical(_name(self.key), self.options)
        return chosen

    def grid(self) -> Sequence[Value]:
        """All options."""
        return self.options

    def is_one_of(self, value: Value, wanted: Sequence[Any]) -> bool:
        """Whether an option stands for a wanted value."""
        meant = self.meant[self.options.index(str(value))]
        return any(type(meant) is type(each) and meant == each for each in wanted)


@dataclass(frozen=True)
class Numbers:
    """Numbers from low to high, both included; whole ones where both are."""

    key: str
    low: float
    high: float
    step: float | None = None
    log: bool = False

    def suggest(self, trial: Suggests) -> Value:
        """One of the numbers."""
        name = _name(self.key)
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, step=int(self.step or 1), log=self.log)
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    def grid(self) -> Sequence[Value]:
        """All steps.

        Raises:
            HydraException: there are no steps.
        """
        if self.step is None:
            raise HydraException(f"{self.key}: an interval has no grid; give a range with a step, or choices")
        made = [self.low + step * self.step for step in range(round((self.high - self.low) / self.step) + 1)]
        return [number if isinstance(number, int) else round(number, 12) for number in made]

    def is_one_of(self, value: Value, wanted: Sequence[Any]) -> bool:
        """Whether a number is a wanted one."""
        return value in wanted


Dimension = Choice | Numbers


@dataclass(frozen=True)
class Space:
    """What is swept.

    Attributes:
        parts: overrides in the order of the command line, some of them swept.
        conditions: a swept key only counts where other swept keys have one of these values.
    """

    parts: Sequence[Fixed | Dimension]
    conditions: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict)

    @classmethod
    def of(cls, overrides: Sequence[Override], conditions: Mapping[str, Mapping[str, Any]]) -> "Space":
        """From parsed overrides; of one key, the last one counts, where the first one stood.

        Raises:
            HydraException: a sweep that Optuna has no parameter for, or a condition that can never hold.
        """
        parts = list({_name(override.get_key_element()): _part(override) for override in overrides}.values())
        space = cls(parts, {key: {on: listed(value) for on, value in of.items()} for key, of in conditions.items()})
        swept = {_name(each.key): each for each in space._dimensions()}
        for unknown in sorted({*conditions, *(on for of in conditions.values() for on in of)} - set(swept)):
            raise HydraException(f"conditions: {unknown} isn't swept; these are: {', '.join(sorted(swept))}")
        for on, wanted in (each for of in space.conditions.values() for each in of.items()):
            choice = swept[on]
            if isinstance(choice, Choice) and not any(choice.is_one_of(option, wanted) for option in choice.options):
                raise HydraException(f"conditions: {on} is never {wanted}; it is one of {', '.join(choice.options)}")
        for each in swept.values():
            try:
                each.suggest(optuna.create_study(sampler=optuna.samplers.RandomSampler()).ask())
            except ValueError as error:
                raise HydraException(f"{each.key}: {error}") from error
        return space

    def suggest(self, trial: Suggests) -> list[str]:
        """The overrides of a job whose swept values a trial suggests."""
        values: dict[str, Value] = {}
        for each in self._dimensions():
            if self._counts(each, values):
                values[_name(each.key)] = each.suggest(trial)
        return self._overrides(values)

    def grid(self) -> list[dict[str, Value]]:
        """All combinations, the last key's values changing first; those that conditions make alike stand once.

        Raises:
            HydraException: an interval has no grid.
        """
        points: dict[tuple[tuple[str, Value], ...], None] = {}
        dimensions = [part for part in self.parts if not isinstance(part, Fixed)]
        for combination in product(*(each.grid() for each in dimensions)):
            every = dict(zip((_name(each.key) for each in dimensions), combination, strict=True))
            values: dict[str, Value] = {}
            for each in self._dimensions():
                if self._counts(each, values):
                    values[_name(each.key)] = every[_name(each.key)]
            points[tuple((key, values[key]) for key in every if key in values)] = None
        return [dict(point) for point in points]

    def _overrides(self, values: Mapping[str, Value]) -> list[str]:
        swept = (part for part in self.parts if isinstance(part, Fixed) or _name(part.key) in values)
        return [part.override if isinstance(part, Fixed) else f"{part.key}={values[_name(part.key)]}" for part in swept]

    def _dimensions(self) -> Iterator[Dimension]:
        """Each after those that it depends on."""
        dimensions = {_name(part.key): part for part in self.parts if not isinstance(part, Fixed)}
        try:
            order = TopologicalSorter({key: self.conditions.get(key, ()) for key in dimensions}).static_order()
            yield from (dimensions[key] for key in order if key in dimensions)
        except CycleError as cycle:
            raise HydraException(f"conditions: {' depends on '.join(cycle.args[1])}") from cycle

    def _counts(self, dimension: Dimension, values: Mapping[str, Value]) -> bool:
        wanted = self.conditions.get(_name(dimension.key), {})
        swept = {_name(part.key): part for part in self.parts if not isinstance(part, Fixed)}
        return all(on in values and swept[on].is_one_of(values[on], some) for on, some in wanted.items())


def _part(override: Override) -> Fixed | Dimension:
    key, value = override.get_key_element(), override.value()
    if not override.is_sweep_override():
        text = override.input_line if override.is_delete() else None
        return Fixed(text or f"{key}={override.get_value_element_as_str()}")
    if isinstance(value, IntervalSweep):
        assert value.start is not None
        assert value.end is not None
        return Numbers(key, value.start, value.end, log="log" in value.tags)
    if isinstance(value, RangeSweep):
        numbers = list(value.range())
        if not numbers:
            raise HydraException(f"{override.input_line}: this range is empty")
        whole = all(isinstance(number, int) for number in numbers)
        low, high = (numbers[0], numbers[-1]) if numbers[0] <= numbers[-1] else (numbers[-1], numbers[0])
        return Numbers(key, low, high, abs(value.step) if whole else abs(float(value.step)), log="log" in value.tags)
    meant = (each.text if isinstance(each, QuotedString) else each for each in override.sweep_iterator())
    return Choice(key, tuple(override.sweep_string_iterator()), tuple(meant))


def listed(value: Any) -> list[Any]:
    """A list as it is, and anything else as the only one of a list."""
    return value if isinstance(value, list) else [value]


def _name(key: str) -> str:
    return key.lstrip("+~")
