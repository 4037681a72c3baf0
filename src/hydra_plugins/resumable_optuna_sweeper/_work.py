"""The work on a sweep: set up the study, then trial after trial, here or in several processes."""

import hashlib
import json
import logging
import os
import shlex
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf, open_dict
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from hydra_plugins.resumable_optuna_sweeper._space import Space
from hydra_plugins.resumable_optuna_sweeper._storage import location
from hydra_plugins.resumable_optuna_sweeper._study import ERROR, Direction, Plan, SharedStudy
from hydra_plugins.resumable_optuna_sweeper.sweeper import GRID

log = logging.getLogger("resumable_optuna_sweeper")

BEST = "best.yaml"
Goal = tuple[tuple[str, ...] | None, tuple[Direction, ...]]  # names of the objectives, if they have some; directions


@dataclass
class Work:
    """One process's part in a sweep.

    Attributes:
        study: shared with all others.
        space: of the jobs.
        names: of the objectives in what jobs return, or None where they return the values themselves.
        constraints: limits by name.
        folder: of the sweep.
        workers, devices: processes to be started here, and their GPUs.
        batch_size: of what the launcher gets.
        overrides: those of Hydra's configuration that the processes started here get.
        config: of the sweep.
        concluded: called at the end.
    """

    study: SharedStudy
    space: Space
    names: tuple[str, ...] | None
    constraints: Mapping[str, float]
    folder: Path
    workers: int
    devices: Sequence[str]
    batch_size: int
    overrides: Sequence[str]
    config: DictConfig
    concluded: Callable[[optuna.Study, DictConfig, Sequence[Sequence[str]]], None] | None

    @classmethod
    def begin(
        cls, settings: Mapping[str, Any], context: HydraContext, config: DictConfig, arguments: Sequence[str]
    ) -> "Work":
        """Check the sweep, then make its study or find it again.

        Raises:
            HydraException: a key, a value or an objective is wrong.
        """
        given: Any = OmegaConf.to_container(OmegaConf.create(dict(settings)), resolve=True)
        params = [f"{key}={value}" for key, value in given["params"].items()]
        parser = OverridesParser.create(config_loader=context.config_loader)
        space = Space.of(parser.parse_overrides([*params, *arguments]), given["conditions"])
        names, directions = _goal(given, config)
        grid = space.grid() if given["sampler"]["_target_"] == GRID else None
        total = len(grid) if grid is not None else given["n_trials"]
        if total is None:
            raise HydraException("hydra.sweeper.n_trials: give a number; only a grid has one of its own")
        name = given["study_name"] or _name(config, [*params, *arguments])
        folder = _folder(config, name)
        place = location(given["storage"], folder)
        sampler = given["sampler"] if grid is None else {"_target_": "optuna.samplers.RandomSampler"}
        study = SharedStudy(
            place, name, directions, Plan(total, given["max_failures"], given["retries"], grid), sampler,
            given["pruner"], given["seed"],
        )  # fmt: skip
        own = [f"hydra.sweeper.study_name={name}", f"hydra.sweeper.storage='{place}'", f"hydra.sweep.dir='{folder}'"]
        with open_dict(config):
            config.hydra.sweep.dir = str(folder)
            config.hydra.overrides.hydra = [*_hydra_overrides(config), *own]
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(config, folder / "multirun.yaml")
        return cls(
            study, space, names, given["constraints"], folder, given["workers"], given["devices"] or _devices(),
            given["batch_size"], own, config, get_method(given["concluded"]) if given["concluded"] else None,
        )  # fmt: skip

    def run(self, launcher: Launcher) -> list[Sequence[JobReturn]]:
        """Trial after trial, until there are none left."""
        batches: list[Sequence[JobReturn]] = []
        while trials := self._claim():
            jobs = [self.space.suggest(trial) for trial in trials]
            with self.study.alive(trials):
                returned = launcher.launch(jobs, initial_job_idx=trials[0].number)
            for trial, job in zip(trials, returned, strict=True):
                self._tell(trial, job)
            batches.append(returned)
        self._conclude()
        return batches

    def _claim(self) -> list[Trial]:
        """As many trials as the launcher takes, with numbers in a row."""
        claimed: list[Trial] = []
        while len(claimed) < self.batch_size and (trial := self.study.claim()) is not None:
            claimed.append(trial)
        return claimed

    def _tell(self, trial: Trial, job: JobReturn) -> None:
        result = job._return_value
        if isinstance(result, optuna.TrialPruned):
            self.study.prune(trial)
            log.info(f"trial {trial.number}: pruned")
        elif job.status != JobStatus.COMPLETED:
            error = "".join(traceback.format_exception(result)) if isinstance(result, BaseException) else str(result)
            self.study.fail(trial, error)
            log.error(f"trial {trial.number}: failed\n{error}")
        else:
            self._take(trial, result)

    def _take(self, trial: Trial, result: Any) -> None:
        try:
            found, values = _values(result, self.names)
            for name, limit in self.constraints.items():
                trial.set_constraint(name, _named(found, name) - limit)
            for name, value in found.items():
                trial.set_user_attr(name, value)
            self.study.complete(trial, values)
        except (TypeError, ValueError, HydraException) as error:
            self.study.fail(trial, f"the job returned {result!r}: {error}")
            log.error(f"trial {trial.number}: failed: the job returned {result!r}: {error}")
        else:
            log.info(f"trial {trial.number}: {_said(values)}{self._best()}")

    def _best(self) -> str:
        best = self.study.best()
        return f" (best: trial {best[0].number}, {_said(best[0].values)})" if len(best) == 1 else ""

    def share(self) -> list[Sequence[JobReturn]]:
        """Start the workers here and tell of the trials that end, until all workers have ended.

        Raises:
            HydraException: a worker ended in another way than by having nothing left to do.
        """
        command = [sys.executable, *sys.orig_argv[1:], *self.overrides, "hydra.sweeper.workers=1"]
        running = []
        for number in range(self.workers):
            own = dict(os.environ)
            if self.devices:
                own["CUDA_VISIBLE_DEVICES"] = self.devices[number % len(self.devices)]
            with (self.folder / f"worker_{number}.log").open("a", encoding="utf-8") as out:
                running.append(subprocess.Popen(command, env=own, stdout=out, stderr=subprocess.STDOUT))
        log.info(f"{self.workers} workers; their output: {self.folder}/worker_*.log")
        told = {trial.number for trial in self.study.trials() if trial.state.is_finished()}
        try:
            while any(worker.poll() is None for worker in running):
                time.sleep(0.5)
                self._tell_of(told)
        except BaseException:
            for worker in running:
                worker.terminate()
            for worker in running:
                worker.wait()
            raise
        self._tell_of(told)
        codes = [worker.returncode for worker in running]
        if any(codes):
            raise HydraException(f"workers ended with exit codes {codes}; see {self.folder}/worker_*.log")
        self._conclude()
        return []

    def _tell_of(self, told: set[int]) -> None:
        for trial in self.study.trials():
            if trial.state.is_finished() and trial.number not in told:
                told.add(trial.number)
                is_complete = trial.state == TrialState.COMPLETE
                became = _said(trial.values) if is_complete else trial.state.name.lower()
                log.info(f"trial {trial.number}: {became}{self._best() if is_complete else ''}")
                if error := trial.user_attrs.get(ERROR):
                    log.error(error)

    def _conclude(self) -> None:
        """Say what the study came to, and write down its best trials."""
        trials = self.study.trials()
        counts = {state.name.lower(): sum(trial.state == state for trial in trials) for state in TrialState}
        log.info("study: " + ", ".join(f"{count} {state}" for state, count in counts.items() if count))
        summary = [self._summary(trial) for trial in self.study.best()]
        if self.concluded is not None:
            self.concluded(self.study.study, self.config, [each["overrides"] for each in summary])
        (self.folder / BEST).write_text(OmegaConf.to_yaml(OmegaConf.create(summary)), encoding="utf-8")
        for each in summary:
            log.info(f"best: trial {each['trial']}, {_said(each['values'])}: {shlex.join(each['overrides'])}")

    def _summary(self, trial: FrozenTrial) -> dict[str, Any]:
        overrides = self.space.suggest(optuna.trial.FixedTrial(trial.params))
        return {"trial": trial.number, "values": trial.values, "overrides": overrides}


def _goal(given: Mapping[str, Any], config: DictConfig) -> Goal:
    """The objectives' names and directions, checked against what jobs say that they will return."""
    directions = given["direction"] if isinstance(given["direction"], list) else [given["direction"]]
    for direction in directions:
        if direction not in {each.name.lower() for each in StudyDirection if each.value}:
            raise HydraException(f"hydra.sweeper.direction={direction}: expected maximize or minimize")
    objective = given["objective"]
    names = None if objective is None else tuple(objective if isinstance(objective, list) else [objective])
    if names is not None and len(names) != len(directions):
        raise HydraException(f"hydra.sweeper.direction: {len(directions)} given for {len(names)} objectives")
    if given["objectives"]:
        known: Callable[[DictConfig], Sequence[str]] = get_method(given["objectives"])
        available = known(config)
        for name in [*(names or ()), *given["constraints"]]:
            if name not in available:
                raise HydraException(f"hydra.sweeper: a job returns no {name}; it returns {', '.join(available)}")
    if given["constraints"] and names is None:
        raise HydraException("hydra.sweeper.constraints: they are of what a job returns by name; give an objective too")
    return names, tuple(directions)


def _values(result: Any, names: tuple[str, ...] | None) -> tuple[dict[str, float], list[float]]:
    if names is not None:
        found = {str(name): float(value) for name, value in dict(result).items()}
        return found, [_named(found, name) for name in names]
    return {}, [float(value) for value in (result if isinstance(result, (list, tuple)) else [result])]


def _named(found: Mapping[str, float], name: str) -> float:
    if name not in found:
        raise HydraException(f"it has no {name}, but {', '.join(found)}")
    return found[name]


def _said(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)


def _name(config: DictConfig, sweep: Sequence[str]) -> str:
    """A study's name that the same command has again."""
    job = str(config.hydra.job.name)
    hydra = sorted(each for each in _hydra_overrides(config) if not each.startswith("hydra.sweeper.workers"))
    said = json.dumps([config.hydra.job.config_name, hydra, list(sweep)])
    return f"{job}-{hashlib.sha256(said.encode()).hexdigest()[:8]}"


def _hydra_overrides(config: DictConfig) -> list[str]:
    """As typed: what they interpolate may be known to jobs alone."""
    typed: Any = OmegaConf.to_container(config.hydra.overrides.hydra, resolve=False)
    return list(typed)


def _folder(config: DictConfig, name: str) -> Path:
    """Where the sweep is told to be; with the study's name in the place of a time, which no second start would find."""
    told = OmegaConf.to_container(config.hydra.sweep, resolve=False)
    assert isinstance(told, dict)
    before, now, _ = str(told["dir"]).partition("${now:")
    return Path(before, name).resolve() if now else Path(str(config.hydra.sweep.dir)).resolve()


def _devices() -> list[str]:
    """GPUs here, if there are several."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        found = [each for each in visible.split(",") if each]
    else:
        try:
            listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
        except OSError:
            listed = ""
        found = [str(number) for number in range(len(listed.splitlines()))]
    return found if len(found) > 1 else []
