"""From what Hydra composed, or from overrides given in Python, to a checked configuration."""

import inspect
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from waferlab.conf_folder import config_folder
from waferlab.config import (
    AnomalyConfig,
    ExperimentConfig,
    MixedTypeConfig,
    NormalityConfig,
    TransferConfig,
    experiment_config,
)
from waferlab.errors import ConfigError
from waferlab.models.normality import Density, Drawing
from waferlab.progress import note_without_effect
from waferlab.schema import AnySchema, parse


def plain(composed: DictConfig) -> dict[str, Any]:
    """Resolved plain values of a composed configuration.

    Raises:
        ConfigError: a value is missing (``???``) or an interpolation can't be resolved.
    """
    try:
        values = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = f"{error.full_key}: " if error.full_key else ""
        raise ConfigError(f"{key}{str(error).splitlines()[0]}") from error
    return {str(key): value for key, value in values.items()} if isinstance(values, dict) else {}


def keys(composed: DictConfig, prefix: str = "") -> Iterator[str]:
    """Every key with a dot between its levels."""
    for name, value in composed.items_ex(resolve=False):
        yield (key := f"{prefix}{name!s}")
        if isinstance(value, DictConfig):
            yield from keys(value, f"{key}.")


def checked(schema: type[AnySchema], composed: DictConfig) -> AnySchema:
    """A command's configuration, checked against its schema."""
    return parse(schema, plain(composed))


def compose_overrides(command: str, overrides: Sequence[str]) -> DictConfig:
    """Compose a command's configuration outside its command line, as ``waferlab COMMAND OVERRIDES`` would.

    Raises:
        ConfigError: an override names no key, group or option, or isn't written in Hydra's grammar.
    """
    theirs = GlobalHydra.instance().hydra  # the program that calls us may run Hydra itself
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            return compose(command, list(overrides))
    except HydraException as error:
        raise ConfigError(str(error)) from error
    finally:
        GlobalHydra.instance().hydra = theirs


def command_line(command: str, overrides: Sequence[str]) -> str:
    """What a person types into a shell to run a command with these overrides."""
    return shlex.join(["waferlab", command, *overrides])


def configuration(composed: DictConfig, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """The experiment that was composed from these overrides, checked against its task's schema.

    Raises:
        ConfigError: the configuration is wrong.
    """
    config = experiment_config(plain(composed))
    if config.resume is None:
        _note_idle(config, overrides)
    return config


def _idle_beside(measure: Any) -> tuple[str, str]:
    """The keys that a measure of normality leaves idle, and why."""
    of_training = r"trainer|optimizer|schedule|task\.select"
    if issubclass(measure, Density):
        return rf"{of_training}|teacher\.average_views", f"{measure.__name__} learns in one pass, by features alone"
    idle = r"features|backbone|teacher|trainer\.label_noise"
    if issubclass(measure, Drawing):
        return idle, f"{measure.__name__} sees the maps alone"
    return f"{idle}|{of_training}", f"{measure.__name__} learns from the maps in one pass"


def _note_idle(config: ExperimentConfig, overrides: Sequence[str]) -> None:
    if isinstance(config, NormalityConfig):
        if inspect.isclass(measure := config.normality.resolve()):  # what is none is refused later
            note_without_effect(overrides, *_idle_beside(measure))
        if config.uses_features and (config.teacher.model or config.teacher.training == "none"):
            note_without_effect(overrides, r"teacher\.(dataset|optimizer|schedule|trainer)", "no teacher is trained")
        return
    loss: Any = config.criterion[1].resolve() if config.criterion else None
    if isinstance(config, AnomalyConfig):
        idle, why = r"teacher\.average_views|trainer\.label_noise", "a detector asks its teacher for features alone"
        if config.teacher.model or config.teacher.training == "none":
            idle, why = rf"{idle}|teacher\.(dataset|optimizer|schedule|trainer)", "no teacher is trained"
    elif isinstance(config, TransferConfig):
        if not config.finetuning.body:
            note_without_effect(overrides, r"finetuning\.lowest_lr|trainer\.max_epochs", "only the head is trained")
        idle, why = (r"views\.vote", "one view has nobody to vote with") if not config.views.all else ("$", "")
    elif isinstance(config, MixedTypeConfig) and config.student is None:
        idle, why = "trainer|optimizer|schedule|distillation", "student=none, and a teacher's settings are teacher.…"
    elif not getattr(loss, "uses_teacher", True):  # another task's loss is refused later
        idle, why = "teacher|backbone", f"{loss.__name__} asks no teacher"
    else:
        return
    note_without_effect(overrides, idle, why)
