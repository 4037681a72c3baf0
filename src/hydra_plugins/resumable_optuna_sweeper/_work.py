"""The work on a sweep: set up the study, then trial after trial, here or in several processes."""

import hashlib
import json
import logging
import math
import os
import shlex
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
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
from optuna.trial import FrozenTrial, TrialState

from hydra_plugins.resumable_optuna_sweeper._errors import SweepFailedError
from hydra_plugins.resumable_optuna_sweeper._process import end, end_with_parent
from hydra_plugins.resumable_optuna_sweeper._settings import Goal, Settings
from hydra_plugins.resumable_optuna_sweeper._space import Space
from hydra_plugins.resumable_optuna_sweeper._storage import location, quiet
from hydra_plugins.resumable_optuna_sweeper._study import ERROR, OVERRIDES, Job, Plan, SharedStudy

log = logging.getLogger("resumable_optuna_sweeper")

BEST = "best.yaml"
Concluded = Callable[[optuna.Study, DictConfig, Sequence[Sequence[str]], bool], None]


@dataclass
class Work:
    """One process's part in a sweep.

    Attributes:
        study: shared with all others.
        goal: what trials are judged by.
        folder: of the sweep.
        settings: of the sweeper.
        overrides: those of Hydra's configuration that the processes started here get.
        config: of the sweep.
    """

    study: SharedStudy
    goal: Goal
    folder: Path
    settings: Settings
    overrides: Sequence[str]
    config: DictConfig

    @classmethod
    def begin(
        cls, given: Mapping[str, Any], context: HydraContext, config: DictConfig, arguments: Sequence[str]
    ) -> "Work":
        """Check the sweep, then make its study or find it again.

        Raises:
            HydraException: a key, a value or an objective is wrong, or the study was made for another search.
        """
        quiet()
        settings = Settings.of(given)
        swept = [*settings.params, *arguments]
        parser = OverridesParser.create(config_loader=context.config_loader)
        space, goal = Space.of(parser.parse_overrides(swept), settings.conditions), Goal.of(settings, config)
        grid = space.grid() if settings.is_grid else None
        total = settings.n_trials if grid is None else len(grid)
        if total is None:
            raise HydraException("hydra.sweeper.n_trials: give a number; only a grid has one of its own")
        searched = {
            "configuration": str(config.hydra.job.config_name),
            "search": shlex.join(swept),
            "conditions": json.dumps(settings.conditions),
            "goal": str(goal),
        }
        name = settings.study_name or _name(
            config, {**searched, "sampler": str(settings.sampler), "seed": str(settings.seed)}
        )
        folder = _folder(config, name)
        place = location(settings.storage, folder)
        study = SharedStudy(
            place, name, goal.directions, Plan(total, settings.max_failures, settings.retries, grid), space, searched,
            settings.sampler, settings.pruner, settings.seed,
        )  # fmt: skip
        told = {"hydra.sweeper.study_name": name, "hydra.sweeper.storage": place, "hydra.sweep.dir": str(folder)}
        own = [f"{key}={_quoted(value)}" for key, value in told.items()]
        with open_dict(config):
            config.hydra.overrides.hydra = [*_hydra_overrides(config), *own]
            config.hydra.sweep.dir, config.hydra.sweeper.study_name = str(folder), name
        _take_folder(folder, name, config)
        return cls(study, goal, folder, settings, own, config)

    def run(self, launcher: Launcher) -> list[Sequence[JobReturn]]:
        """Trial after trial, until there are none left.

        Raises:
            SweepFailedError: too many of the study's jobs have failed.
        """
        batches: list[Sequence[JobReturn]] = []
        while jobs := self._claimed():
            with self.study.alive(jobs):
                returned = launcher.launch([job.overrides for job in jobs], initial_job_idx=jobs[0].trial.number)
            for job, result in zip(jobs, returned, strict=True):
                self._tell(job, result)
                _let_go(result._return_value)
            batches.append(returned)
        self._conclude()
        if not batches:
            log.info("nothing is left to do; a larger hydra.sweeper.n_trials would go on")
        return batches

    def _claimed(self) -> list[Job]:
        try:
            return self.study.claim(self.settings.batch_size)
        except SweepFailedError:
            self._conclude(has_failed=True)
            raise

    def _tell(self, job: Job, returned: JobReturn) -> None:
        number, result = job.trial.number, returned._return_value
        if isinstance(result, optuna.TrialPruned):
            self.study.tell(job.trial, TrialState.PRUNED)
            log.info(f"trial {number}: pruned")
            return
        if returned.status == JobStatus.COMPLETED:
            try:
                values = self.goal.take(result)
            except (TypeError, ValueError) as wrong:
                error = f"the job returned {result!r}: {wrong}"
            else:
                keep = partial(self.goal.keep, job.trial, result)
                self.study.tell(job.trial, TrialState.COMPLETE, values, keep)
                log.info(f"trial {number}: {_said(values)}{self._best()}")
                return
        else:
            is_error = isinstance(result, BaseException)
            error = "".join(traceback.format_exception(result)) if is_error else str(result)
        self.study.tell(job.trial, TrialState.FAIL, keep=partial(job.trial.set_user_attr, ERROR, error))
        log.error(f"trial {number}: failed\n{error}")

    def _best(self) -> str:
        best = self.study.best()
        return f" (best: trial {best[0].number}, {_said(best[0].values)})" if len(best) == 1 else ""

    def share(self) -> list[Sequence[JobReturn]]:
        """Start the workers here and tell of the trials that end, until there are no more.

        A worker that dies, and that was not asked to, is replaced as often as a trial is retried.

        Raises:
            SweepFailedError: too many jobs have failed, or a worker ended with work left to do.
        """
        told = {trial.number for trial in self.study.trials() if trial.state.is_finished()}
        workers = {number: self._start(number) for number in range(self.settings.workers)}
        replaced = 0
        log.info(f"{len(workers)} workers; their output: {self.folder}/worker_*.log")
        with _ended(workers):
            while any(worker.poll() is None for worker in workers.values()):
                time.sleep(0.2)
                self._tell_of(told)
                for number, worker in workers.items():
                    if (worker.poll() or 0) < 0 and replaced < self.settings.retries and not self.study.is_over():
                        log.warning(f"worker {number} died ({signal.Signals(-worker.returncode).name}); another begins")
                        workers[number], replaced = self._start(number), replaced + 1
        self._tell_of(told)
        self._conclude()
        self.study.check_failures()
        for number, worker in workers.items():
            if worker.returncode:
                file = self.folder / f"worker_{number}.log"
                last = "\n".join(file.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])
                raise SweepFailedError(
                    f"worker {number} ended with exit code {worker.returncode}; {file} ends with\n{last}"
                )
        return []

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, *sys.orig_argv[1:], *self.overrides, "hydra.sweeper.workers=1"]
        own, devices = dict(os.environ), self.settings.gpus()
        if devices:
            own["CUDA_VISIBLE_DEVICES"] = devices[number % len(devices)]
        with (self.folder / f"worker_{number}.log").open("a", encoding="utf-8") as out:
            return subprocess.Popen(
                command, env=own, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                start_new_session=True, preexec_fn=end_with_parent,  # noqa: PLW1509 - one thread, and one system call
            )  # fmt: skip

    def _tell_of(self, told: set[int]) -> None:
        for trial in self.study.trials():
            if trial.state.is_finished() and trial.number not in told:
                told.add(trial.number)
                is_complete = trial.state == TrialState.COMPLETE
                became = _said(trial.values) if is_complete else trial.state.name.lower()
                log.info(f"trial {trial.number}: {became}{self._best() if is_complete else ''}")
                if error := trial.user_attrs.get(ERROR):
                    log.error(error)

    def _conclude(self, has_failed: bool = False) -> None:
        """Say what the study came to; whoever comes last writes down its best trials.

        Args:
            has_failed: it ends before all its slots have, as too many of its jobs have failed.
        """
        trials = self.study.trials()
        counts = {state.name.lower(): sum(trial.state == state for trial in trials) for state in TrialState}
        counts["given up"] = len(self.study.given_up())
        log.info("study: " + ", ".join(f"{count} {state}" for state, count in counts.items() if count))
        best = self.study.best()
        for trial in best:
            log.info(f"best: trial {trial.number}, {_said(trial.values)}: {shlex.join(_overrides(trial))}")
        with self.study.concluding(has_failed) as is_ours:
            if not is_ours:
                return
            summary = [{"trial": each.number, "values": each.values, "overrides": _overrides(each)} for each in best]
            unfinished = self.folder / f".{BEST}"
            unfinished.write_text(OmegaConf.to_yaml(OmegaConf.create(summary)), encoding="utf-8")
            unfinished.replace(self.folder / BEST)
            if self.settings.concluded:
                concluded: Concluded = get_method(self.settings.concluded)
                concluded(self.study.study, self.config, [each["overrides"] for each in summary], has_failed)


@contextmanager
def _ended(workers: Mapping[int, subprocess.Popen[bytes]]) -> Iterator[None]:
    """Have workers close their trials and end where this process is interrupted or told to end."""

    def stop(_: int, __: object) -> None:
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGTERM)
    with suppress(ValueError):  # not the main thread
        if before == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except BaseException:
        log.info("ending the workers")
        end(list(workers.values()))
        raise
    finally:
        with suppress(ValueError):
            signal.signal(signal.SIGTERM, before)


def _overrides(trial: FrozenTrial) -> list[str]:
    return list(trial.user_attrs[OVERRIDES])


def _said(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.6g}" for value in values if math.isfinite(value))


def _quoted(text: str) -> str:
    """A text as Hydra's grammar has it between quotes."""
    escaped = text.replace("\\'", "\\\\'").replace("'", "\\'")
    return f"'{escaped}'"


def _name(config: DictConfig, search: Mapping[str, str]) -> str:
    """A study's name that the same search has again, whatever its total, its limits and its workers."""
    return f"{config.hydra.job.name}-{hashlib.sha256(json.dumps(search).encode()).hexdigest()[:8]}"


def _hydra_overrides(config: DictConfig) -> list[str]:
    """As typed: what they interpolate may be known to jobs alone."""
    typed: Any = OmegaConf.to_container(config.hydra.overrides.hydra, resolve=False)
    return list(typed)


def _folder(config: DictConfig, name: str) -> Path:
    """Where the sweep is told to be; with the study's name in the place of a time, which no second start would find."""
    told: Any = OmegaConf.to_container(config.hydra.sweep, resolve=False)
    before, now, _ = str(told["dir"]).partition("${now:")
    with open_dict(config):
        config.hydra.sweep.dir = f"{before}{name}" if now else told["dir"]
    return Path(str(config.hydra.sweep.dir)).resolve()


def _take_folder(folder: Path, name: str, config: DictConfig) -> None:
    """Keep the sweep's configuration in its folder, and say so if that is another study's."""
    file = folder / "multirun.yaml"
    if file.exists() and (other := OmegaConf.select(OmegaConf.load(file), "hydra.sweeper.study_name")) != name:
        log.warning(f"{folder} is the folder of study {other} too, whose jobs' folders are written over")
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".multirun.{os.getpid()}"
    OmegaConf.save(config, unfinished)
    unfinished.replace(file)


def _let_go(returned: object) -> None:
    """Free what the frames of a job's error keep alive: all that the job had in memory."""
    while isinstance(returned, BaseException):
        traceback.clear_frames(returned.__traceback__)
        returned = returned.__cause__ or returned.__context__
