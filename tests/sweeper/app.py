"""A Hydra application for sweeps: a parabola, with ways to be slow, to fail, to be pruned and to be killed.

What a second start may change stands in the environment.
"""

import os
import signal
import time
import weakref
from collections.abc import Sequence
from pathlib import Path

import hydra
import optuna
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from hydra_plugins.resumable_optuna_sweeper import became, current_trial

DEFAULTS = {
    "x": 1.0,
    "y": 0,
    "kind": "flat",
    "seconds": 0.0,
    "slow": -1,
    "fail_below": -100.0,
    "epochs": 0,
    "named": False,
    "cost": "cost",
    "log": "jobs.txt",
}


class Maps:
    """What stands for the data of a job."""


MAPS: list[weakref.ref[Maps]] = []


@hydra.main(version_base="1.3", config_path=None, config_name="app")
def main(config: DictConfig) -> object:
    """(x - 2)² + y, epoch by epoch where there are some."""
    with Path(config.log).open("a") as log:
        gpu = os.environ.get("CUDA_VISIBLE_DEVICES")
        log.write(f"{os.getpid()} {time.time()} {config.x} {config.y} {config.kind} {gpu}\n")
    assert all(earlier() is None for earlier in MAPS), "an earlier job's maps are still in memory"
    maps = Maps()
    MAPS.append(weakref.ref(maps))
    if config.x < config.fail_below:
        raise ValueError(f"{config.x} is too small")
    time.sleep(5 if config.x == config.slow else float(os.environ.get("APP_SECONDS", config.seconds)))
    value = (config.x - 2) ** 2 + config.y
    trial = current_trial()
    for epoch in range(config.epochs):
        assert trial is not None
        trial.report(value, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned
    if trial is not None and trial.number == int(os.environ.get("APP_KILL_AT", "-1")):
        os.kill(os.getpid(), signal.SIGKILL)
    return {"value": value, config.cost: abs(config.x)} if config.named else value


ConfigStore.instance().store("app", DEFAULTS)


def concluded(study: optuna.Study, _: DictConfig, best: Sequence[Sequence[str]], has_failed: bool) -> None:
    """Write down what the sweep came to; be killed before, where the environment wants it."""
    if "APP_KILL_CONCLUSION" in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)
    states = [became(trial) for trial in study.trials]
    Path("concluded.txt").write_text(f"{' '.join(states)}; {list(best)}; {has_failed}")


def names(_: DictConfig) -> list[str]:
    """What jobs return where they return it by name."""
    return ["value", "cost"]


if __name__ == "__main__":
    main()
