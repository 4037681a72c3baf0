"""From within a job, the trial that it is."""

from pathlib import Path
from typing import Any

import optuna
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf
from optuna.trial import Trial

from hydra_plugins.resumable_optuna_sweeper._storage import location, made_pruner, open_storage, patiently


def current_trial() -> Trial | None:
    """The trial whose job this is; None outside this sweeper's jobs."""
    settings = _settings()
    if settings is None:
        return None
    return patiently(lambda: _found(settings, HydraConfig.get()))


def _found(settings: dict[str, Any], hydra: HydraConf) -> Trial:
    study = optuna.load_study(
        study_name=settings["study_name"],
        storage=open_storage(location(settings["storage"], Path(str(hydra.sweep.dir)))),
        sampler=optuna.samplers.RandomSampler(),  # nothing is sampled in a job
        pruner=made_pruner(settings["pruner"]),
    )
    found = study.get_trials(deepcopy=False)[int(hydra.job.num)]
    return Trial(study, found._trial_id)


def objectives() -> tuple[str, ...]:
    """Names of the sweep's objectives."""
    named = (_settings() or {"objective": None})["objective"]
    return () if named is None else tuple(named) if isinstance(named, list) else (named,)


def _settings() -> dict[str, Any] | None:
    """The sweeper's, where this is a job of it."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return None
    settings: Any = OmegaConf.to_container(HydraConfig.get().sweeper, resolve=True)
    return settings if str(settings["_target_"]).startswith("hydra_plugins.resumable_optuna_sweeper.") else None
