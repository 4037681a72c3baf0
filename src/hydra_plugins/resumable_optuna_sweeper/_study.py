"""One study that many workers share: who gets which trial, what became of it, and what a crash left behind.

A trial's *slot* is its place in the study: from 0 to one less than the study's total. A slot whose job was cut off (its
process died, or a person stopped it) is given out again, as a further trial with the same slot and parameters; the
trial that was cut off stays in the study, failed and marked, and counts no more.
"""

import inspect
import math
import os
import platform
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import optuna
from hydra.errors import HydraException
from hydra.utils import get_class, instantiate
from optuna.samplers import BaseSampler, QMCSampler
from optuna.trial import FrozenTrial, Trial, TrialState

from hydra_plugins.resumable_optuna_sweeper._space import Value
from hydra_plugins.resumable_optuna_sweeper._storage import one_at_a_time, open_storage, quiet

Direction = Literal["minimize", "maximize"]
SLOT: Final = "slot"
WORKER: Final = "worker"
HEARTBEAT: Final = "heartbeat"
CUT_OFF: Final = "cut_off"
RETRY_OF: Final = "retry_of"
ERROR: Final = "error"
SEED: Final = "seed"
#: Seconds between two signs of life of a worker, and without one until it counts as gone.
BEAT: Final = 30.0
GONE: Final = 300.0


class TooManyFailuresError(HydraException):
    """More trials of the study have failed than it may have."""


@dataclass(frozen=True)
class Plan:
    """What a study is to become.

    Attributes:
        total: trials that count.
        max_failures: so many may fail.
        retries: so often a slot is given out again after its job was cut off; then it counts as failed.
        grid: parameters of each slot, where the sampler has no say.
    """

    total: int
    max_failures: int
    retries: int
    grid: Sequence[Mapping[str, Value]] | None = None


class SharedStudy:
    """A study in a storage, as one worker sees it.

    Args:
        place: the storage, as in `open_storage`.
        sampler, pruner: ``_target_`` and arguments; they are made anew for each trial, so that what is random in a
            trial follows from the seed and the trial's slot alone.
        seed: of the sampler, or None for one that the study draws when it is made.
    """

    def __init__(
        self,
        place: str,
        name: str,
        directions: Sequence[Direction],
        plan: Plan,
        sampler: Mapping[str, Any],
        pruner: Mapping[str, Any] | None,
        seed: int | None,
    ) -> None:
        quiet()
        self.place, self.plan, self.sampler = place, plan, sampler
        with one_at_a_time(place):
            self.study = optuna.create_study(
                storage=open_storage(place), study_name=name, directions=list(directions), load_if_exists=True,
                pruner=instantiate(pruner) if pruner else optuna.pruners.NopPruner(),
            )  # fmt: skip
            if SEED not in self.study.user_attrs:
                drawn = int.from_bytes(os.urandom(4), "little") if seed is None else seed
                self.study.set_user_attr(SEED, drawn)
        if [direction.name.lower() for direction in self.study.directions] != list(directions):
            raise HydraException(
                f"study {name} was made with other directions; choose another hydra.sweeper.study_name"
            )
        if seed not in (None, self.seed):
            raise HydraException(
                f"study {name} was made with seed {self.seed}; choose another hydra.sweeper.study_name"
            )

    @property
    def seed(self) -> int:
        """Of the study."""
        return int(self.study.user_attrs[SEED])

    def trials(self) -> list[FrozenTrial]:
        """Those that count: neither cut off, nor waiting."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if _counts(trial)]

    def best(self) -> list[FrozenTrial]:
        """The best one, or the Pareto front of several objectives; none where none is complete and feasible."""
        if len(self.study.directions) > 1:
            return self.study.best_trials
        try:
            return [self.study.best_trial]
        except ValueError:
            return []

    def claim(self) -> Trial | None:
        """The next trial, which nobody else has; None where the study has all its trials.

        Raises:
            TooManyFailuresError: the study's limit is passed.
        """
        with one_at_a_time(self.place):
            every = self.study.get_trials(deepcopy=False)
            for trial in every:
                if trial.state == TrialState.RUNNING and not _is_alive(trial):
                    self._cut_off(trial)
            every = self.study.get_trials(deepcopy=False)
            self._check_failures(every)
            if not any(trial.state == TrialState.WAITING for trial in every) and not self._enqueue(every):
                return None
            waiting = next(
                trial for trial in self.study.get_trials(deepcopy=False) if trial.state == TrialState.WAITING
            )
            self.study.sampler = self._seeded(int(waiting.user_attrs[SLOT]))
            claimed = self.study.ask()
            claimed.set_user_attr(WORKER, _this_worker())
            return claimed

    def _enqueue(self, every: Sequence[FrozenTrial]) -> bool:
        """Put the next slot into the queue: one that was cut off first; False where there is none."""
        tries: dict[int, list[FrozenTrial]] = {}
        for trial in every:
            tries.setdefault(int(trial.user_attrs[SLOT]), []).append(trial)
        for slot, of in sorted(tries.items()):
            if all(CUT_OFF in trial.user_attrs for trial in of) and len(of) <= self.plan.retries:
                self.study.enqueue_trial(of[-1].params, {SLOT: slot, RETRY_OF: of[-1].number})
                return True
        slot = len(tries)
        if slot >= self.plan.total:
            return False
        self.study.enqueue_trial(dict(self.plan.grid[slot]) if self.plan.grid else {}, {SLOT: slot})
        return True

    def _check_failures(self, every: Sequence[FrozenTrial]) -> None:
        failed = [trial for trial in every if trial.state == TrialState.FAIL and _counts(trial)]
        if len(failed) > self.plan.max_failures:
            first, error = failed[0].number, str(failed[0].user_attrs.get(ERROR, "")).strip().splitlines()[-1:]
            raise TooManyFailuresError(
                f"{len(failed)} trials have failed, more than hydra.sweeper.max_failures={self.plan.max_failures}; the "
                f"first one, trial {first}, with: {' '.join(error)}"
            )

    def _seeded(self, slot: int) -> BaseSampler:
        target = get_class(str(self.sampler["_target_"]))
        own = int(np.random.SeedSequence([self.seed, slot]).generate_state(1)[0])
        seed = self.seed if issubclass(target, QMCSampler) else own  # a sequence's points are of one seed
        seeded = {"seed": seed} if "seed" in inspect.signature(target).parameters else {}
        made: BaseSampler = instantiate(self.sampler, **seeded)
        return made

    @contextmanager
    def alive(self, trials: Sequence[Trial]) -> Iterator[None]:
        """Give signs of life of these trials while their jobs run; mark them as cut off where these never end."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(BEAT):
                for trial in trials:
                    trial.set_user_attr(HEARTBEAT, time.time())

        beats = threading.Thread(target=beat, daemon=True)
        beats.start()
        try:
            yield
        except BaseException:
            ended.set()
            beats.join()
            with one_at_a_time(self.place):
                for trial in trials:
                    self._cut_off(self.study.get_trials(deepcopy=False)[trial.number])
            raise
        finally:
            ended.set()
            beats.join()

    def complete(self, trial: Trial, values: Sequence[float]) -> None:
        """A trial has these values; one that is no number fails it."""
        if all(map(math.isfinite, values)):
            self.study.tell(trial, list(values))
        else:
            self.fail(trial, f"the objective is {values}")

    def prune(self, trial: Trial) -> None:
        """A trial was stopped by the pruner."""
        self.study.tell(trial, state=TrialState.PRUNED)

    def fail(self, trial: Trial, error: str) -> None:
        """A trial has failed with this traceback."""
        trial.set_user_attr(ERROR, error)
        self.study.tell(trial, state=TrialState.FAIL)

    def _cut_off(self, trial: FrozenTrial) -> None:
        """Close a trial whose job will never end."""
        if trial.state != TrialState.RUNNING:
            return
        storage = self.study._storage  # the trial is another worker's, which no public way reaches
        storage.set_trial_user_attr(trial._trial_id, CUT_OFF, value=True)
        self.study.tell(trial.number, state=TrialState.FAIL)


def _counts(trial: FrozenTrial) -> bool:
    return trial.state != TrialState.WAITING and CUT_OFF not in trial.user_attrs


def _this_worker() -> dict[str, Any]:
    return {"host": platform.node(), "pid": os.getpid(), "started": _start_of(os.getpid())}


def _start_of(pid: int) -> str | None:
    """What tells a process from a later one with its number; None where there is none, or no way to know."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def _is_alive(trial: FrozenTrial) -> bool:
    """Whether the worker of a running trial is there; of other machines, whether it gave a sign of life lately."""
    worker = trial.user_attrs.get(WORKER)
    if worker is None:
        return False  # it died before it could say so: claims come one at a time
    if worker["host"] == platform.node() and os.path.isdir("/proc/self"):
        return bool(_start_of(worker["pid"]) == worker["started"])
    begun = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
    return bool(time.time() - trial.user_attrs.get(HEARTBEAT, begun) < GONE)
