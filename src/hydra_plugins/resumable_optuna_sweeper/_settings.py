"""The sweeper's configuration, checked, and what its trials are judged by."""

import math
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.errors import HydraException
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf
from optuna.trial import Trial

from hydra_plugins.resumable_optuna_sweeper._options import GRID, NO_PRUNER
from hydra_plugins.resumable_optuna_sweeper._space import listed
from hydra_plugins.resumable_optuna_sweeper._study import Direction


@dataclass(frozen=True)
class Settings:
    """As `SweeperConfig` has them, with plain values."""

    sampler: Mapping[str, Any]
    is_grid: bool
    pruner: Mapping[str, Any] | None
    seed: int | None
    n_trials: int | None
    params: Sequence[str]
    conditions: Mapping[str, Mapping[str, Any]]
    objective: Sequence[str] | None
    direction: Sequence[str]
    constraints: Mapping[str, float]
    objectives: str | None
    concluded: str | None
    study_name: str | None
    storage: str | None
    workers: int
    devices: Sequence[str] | None
    batch_size: int
    max_failures: int
    retries: int

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Settings":
        """From what Hydra composed.

        Raises:
            HydraException: a value is wrong.
        """
        plain: Any = OmegaConf.to_container(OmegaConf.create(dict(given)), resolve=True)
        for key, least in (("workers", 1), ("batch_size", 1), ("max_failures", 0), ("retries", 0)):
            if plain[key] < least:
                raise HydraException(f"hydra.sweeper.{key}={plain[key]}: give {least} or more")
        for key, of in plain["conditions"].items():
            if not isinstance(of, dict):
                raise HydraException(f"hydra.sweeper.conditions.{key}: expected {{KEY: VALUE}}, got {of!r}")
        is_grid = plain["sampler"]["_target_"] == GRID
        return cls(
            **{
                **plain,
                "is_grid": is_grid,
                "sampler": {"_target_": "optuna.samplers.RandomSampler"} if is_grid else plain["sampler"],
                "params": [f"{key}={_text(value)}" for key, value in plain["params"].items()],
                "objective": None if plain["objective"] is None else listed(plain["objective"]),
                "direction": listed(plain["direction"]),
            }
        )

    def gpus(self) -> Sequence[str]:
        """Those for the workers to take in turn: the ones given, or all that are there, if there are several."""
        if self.devices is not None:
            return self.devices
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible is not None:
            found = [each for each in visible.split(",") if each]
        else:
            try:
                listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
            except (OSError, subprocess.CalledProcessError):
                listed = ""
            found = [str(place) for place, _ in enumerate(line for line in listed.splitlines() if line[:4] == "GPU ")]
        return found if len(found) > 1 else []


@dataclass(frozen=True)
class Goal:
    """What trials are judged by.

    Attributes:
        names: of the objectives in what jobs return; None where they return the values themselves.
        directions: one for each.
        constraints: by name, what should not be exceeded.
    """

    names: tuple[str, ...] | None
    directions: tuple[Direction, ...]
    constraints: Mapping[str, float]

    @classmethod
    def of(cls, settings: Settings, config: DictConfig) -> "Goal":
        """Checked against what jobs say that they will return.

        Raises:
            HydraException: a name or a direction is wrong.
        """
        for direction in settings.direction:
            if direction not in ("minimize", "maximize"):
                raise HydraException(f"hydra.sweeper.direction={direction}: expected maximize or minimize")
        names = None if settings.objective is None else tuple(settings.objective)
        if names is not None and len(names) != len(settings.direction):
            raise HydraException(
                f"hydra.sweeper.direction: {len(settings.direction)} given for {len(names)} objectives"
            )
        if settings.constraints and names is None:
            raise HydraException(
                "hydra.sweeper.constraints: they are of what a job returns by name; give an objective too"
            )
        if len(settings.direction) > 1 and settings.pruner and settings.pruner["_target_"] != NO_PRUNER:
            raise HydraException("hydra/sweeper/pruner: with several objectives, none can be told to promise little")
        if settings.objectives:
            known: Callable[[DictConfig], Sequence[str]] = get_method(settings.objectives)
            available = known(config)
            for name in [*(names or ()), *settings.constraints]:
                if name not in available:
                    raise HydraException(f"hydra.sweeper: a job returns no {name}; it returns {', '.join(available)}")
        return cls(names, tuple(settings.direction), dict(settings.constraints))  # type: ignore[arg-type]

    def take(self, returned: Any) -> list[float]:
        """The values of the objectives in what a job returned.

        Raises:
            TypeError, ValueError: it returned something else.
        """
        if self.names is None:
            values = [float(value) for value in (returned if isinstance(returned, (list, tuple)) else [returned])]
        else:
            found = dict(returned)
            values = [_number(found, name) for name in self.names]
            for name in self.constraints:
                _number(found, name)
        if len(values) != len(self.directions):
            raise ValueError(f"{len(values)} values, and there are {len(self.directions)} objectives")
        if not all(map(math.isfinite, values)):
            raise ValueError("an objective is not finite")
        return values

    def keep(self, trial: Trial, returned: Any) -> None:
        """Write down with a trial what its job returned by name, and how far it is from its constraints."""
        if self.names is not None:
            found = dict(returned)
            for name, value in found.items():
                trial.set_user_attr(str(name), value)
            for name, limit in self.constraints.items():
                trial.set_constraint(name, _number(found, name) - limit)


def _number(found: Mapping[str, Any], name: str) -> float:
    if name not in found:
        raise ValueError(f"it has no {name}, but {', '.join(map(str, found))}")
    return float(found[name])


def _text(value: Any) -> str:
    return "null" if value is None else str(value)
