"""The configurations of the experiments, one for each task, checked before anything is read or trained."""

from collections.abc import Mapping
from typing import Any, Final

from waferlab.config.anomaly import AnomalyConfig, AttentionConfig, DetectorConfig
from waferlab.config.detection import DetectionConfig
from waferlab.config.mixed_type import MixedTypeConfig, check_losses
from waferlab.config.normality import FeaturesConfig, NormalityConfig, NormalityModelConfig
from waferlab.config.parts import (
    NETWORK,
    DistilledConfig,
    ExperimentConfig,
    FitConfig,
    ModelConfig,
    TaughtConfig,
    TrackingConfig,
    TrainerConfig,
)
from waferlab.config.transfer import TransferConfig
from waferlab.errors import ConfigError
from waferlab.schema import parse

__all__ = [
    "NETWORK",
    "AnomalyConfig",
    "AttentionConfig",
    "DetectionConfig",
    "DetectorConfig",
    "DistilledConfig",
    "ExperimentConfig",
    "FeaturesConfig",
    "FitConfig",
    "MixedTypeConfig",
    "ModelConfig",
    "NormalityConfig",
    "NormalityModelConfig",
    "TaughtConfig",
    "TrackingConfig",
    "TrainerConfig",
    "TransferConfig",
    "check",
    "experiment_config",
]

#: The schema of each task.
CONFIGS: Final[dict[str, type[ExperimentConfig]]] = {
    "mixed_type": MixedTypeConfig,
    "anomaly": AnomalyConfig,
    "normality": NormalityConfig,
    "transfer": TransferConfig,
}


def experiment_config(values: Mapping[str, Any]) -> ExperimentConfig:
    """Plain values of an experiment, checked against the schema of their task.

    Raises:
        ConfigError: one line per fault.
    """
    task = values.get("task")
    name = task.get("name") if isinstance(task, Mapping) else None
    return parse(CONFIGS.get(str(name), ExperimentConfig), values)


def check(config: ExperimentConfig) -> None:
    """Check every component against the signature of its target, and what they are together; imports what they name.

    Raises:
        ConfigError: an unknown, missing or mistyped argument, or settings that contradict each other.
    """
    for path, component, given in config.components():
        component.checked(path, *given)
    if config.criterion is None:
        return
    path, component = config.criterion
    loss: Any = component.resolve()
    if (task := getattr(loss, "task", config.task.name)) != config.task.name:
        raise ConfigError(f"{path}: {loss.__name__} is a loss of task={task}, not of {config.task.name}")
    if isinstance(config, MixedTypeConfig):
        check_losses(config, loss)
