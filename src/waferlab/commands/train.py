"""``waferlab train``: one experiment, from a composed configuration to a table, figures and an MLflow run."""

import gc
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from waferlab import processes
from waferlab.config import ExperimentConfig, experiment_config
from waferlab.errors import ConfigError
from waferlab.experiment import anomaly, mixed_type, normality, transfer
from waferlab.experiment.compose import command_line, compose_overrides, configuration
from waferlab.experiment.outcome import Outcome, print_outcome
from waferlab.tracking.tracker import Tracker

#: What runs a task, by its name in the configuration.
TASKS: Final[dict[str, Callable[[Any, str], Outcome]]] = {
    "mixed_type": mixed_type.run,
    "anomaly": anomaly.run,
    "normality": normality.run,
    "transfer": transfer.run,
}

#: What may be said beside ``resume=``, where things lie; everything else is the interrupted run's own.
_BESIDE_RESUME = re.compile(r"(resume|store|tracking|tracking\.uri|hydra\..+)=")


def run(composed: DictConfig) -> Mapping[str, float]:
    """Train as composed on the command line, and print what came out; a sweep judges it by what is returned."""
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        gc.collect()  # Lightning's cycles keep the maps of each earlier job, and Python would come by too late
    outcome = _train(composed, hydra.overrides.task)
    print_outcome(outcome)
    return outcome.objectives


def train_overrides(overrides: Sequence[str]) -> Outcome:
    """Run one experiment from Python, as ``waferlab train OVERRIDES`` would.

    Raises:
        ConfigError: torchrun has started several processes, of which only the command knows who leads.
    """
    if processes.count() > 1:
        raise ConfigError("under torchrun, give it the command: torchrun … -m waferlab.cli train …")
    return _train(compose_overrides("train", overrides), overrides)


def _train(composed: DictConfig, overrides: Sequence[str]) -> Outcome:
    config = configuration(composed, overrides)
    if config.resume is not None:
        config = _resumed(config, overrides)
    return TASKS[config.task.name](config, command_line("train", overrides))


def _resumed(config: ExperimentConfig, overrides: Sequence[str]) -> ExperimentConfig:
    """The stored configuration of the run to resume, with places as they are now."""
    others = [override for override in overrides if not _BESIDE_RESUME.match(override)]
    if others:
        raise ConfigError(f"resume= goes on with the run's own configuration; leave out {', '.join(others)}")
    assert config.resume is not None
    stored = json.loads(Tracker(config.tracking, config.store).interrupted_config(config.resume))
    tracking = stored["tracking"] | {"uri": config.tracking.uri}
    return experiment_config(stored | {"resume": config.resume, "store": config.store, "tracking": tracking})
