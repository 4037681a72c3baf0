"""One study that many workers share: who gets which trial, what became of it, and what a crash left behind.

A trial's *slot* is its place in the study: from 0 to one less than the study's total. A slot whose job was cut off (its
process died, or a person stopped it) is given out again, as a further trial with the same slot and parameters; the
trial that was cut off stays in the study, failed and marked, and counts no more.
"""

import inspect
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import uuid4

import numpy as np
import optuna
from hydra.errors import HydraException
from hydra.utils import get_class, instantiate
from optuna.samplers import BaseSampler, QMCSampler
from optuna.trial import FrozenTrial, Trial, TrialState

from hydra_plugins.resumable_optuna_sweeper._errors import SweepFailedError
from hydra_plugins.resumable_optuna_sweeper._process import is_alive, this_worker
from hydra_plugins.resumable_optuna_sweeper._space import Space, Value
from hydra_plugins.resumable_optuna_sweeper._storage import made_pruner, mend, one_at_a_time, open_storage, patiently

log = logging.getLogger("resumable_optuna_sweeper")

Direction = Literal["minimize", "maximize"]
#: Attributes of trials and of the study; the prefix keeps them apart from what jobs return by name.
_OWN: Final = "sweeper:"
SLOT, WORKER, HEARTBEAT, CUT_OFF, RETRY_OF, ERROR, OVERRIDES = (
    _OWN + name for name in ("slot", "worker", "heartbeat", "cut_off", "retry_of", "error", "overrides")
)
SEED, SEARCHED, CONCLUDED, ID = (_OWN + name for name in ("seed", "searched", "concluded", "id"))
#: Seconds between two signs of life of a worker.
BEAT: Final = 30.0


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


@dataclass(frozen=True)
class Job:
    """A trial that this worker has claimed, and the overrides that it is run with."""

    trial: Trial
    overrides: list[str]


class SharedStudy:
    """A study in a storage, as one worker sees it.

    Args:
        place: the storage, as `location` gives it.
        searched: what a study can't change: kept with it, and compared at each start.
        sampler: ``_target_`` and arguments; it is made anew for each trial, so that what is random in a trial follows
            from the seed and the trial's slot alone.
        pruner: the same of a pruner; jobs ask it.
        seed: of the sampler, or None for one that the study draws when it is made.

    Raises:
        HydraException: the study was made for another search.
    """

    def __init__(
        self,
        place: str,
        name: str,
        directions: Sequence[Direction],
        plan: Plan,
        space: Space,
        searched: Mapping[str, str],
        sampler: Mapping[str, Any],
        pruner: Mapping[str, Any] | None,
        seed: int | None,
    ) -> None:
        self.place, self.plan, self.space, self.sampler = place, plan, space, sampler
        with one_at_a_time(place):
            mend(place)
            self.study = optuna.create_study(
                storage=open_storage(place), study_name=name, directions=list(directions), load_if_exists=True,
                pruner=made_pruner(pruner),
            )  # fmt: skip
            if SEARCHED not in self.study.user_attrs:
                drawn = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
                self.study.set_user_attr(SEED, drawn)
                self.study.set_user_attr(ID, uuid4().hex)
                self.study.set_user_attr(SEARCHED, dict(searched))
        before = {**self.study.user_attrs[SEARCHED], "seed": str(self.seed)}
        for what, value in {**searched, "seed": str(self.seed if seed is None else seed)}.items():
            if before[what] != value:
                raise HydraException(
                    f"study {name} has another {what}: {before[what]}, not {value}; choose another "
                    f"hydra.sweeper.study_name"
                )
        self._seeded(0)  # what it wants and isn't there is missed now

    @property
    def seed(self) -> int:
        """Of the study."""
        return int(self.study.user_attrs[SEED])

    def trials(self) -> list[FrozenTrial]:
        """Those that count: neither cut off, nor waiting."""
        return patiently(self._counting)

    def best(self) -> list[FrozenTrial]:
        """The best one, or the Pareto front of several objectives; none where none is complete and feasible."""
        return patiently(self._best)

    def _best(self) -> list[FrozenTrial]:
        if len(self.study.directions) > 1:
            return self.study.best_trials
        try:
            return [self.study.best_trial]
        except ValueError:
            return []

    def claim(self, most: int) -> list[Job]:
        """The next trials, with numbers in a row, which nobody else has; none where the study has all its trials.

        This process must have no job running.

        Raises:
            SweepFailedError: the study's limit of failures is passed.
        """
        jobs: list[Job] = []
        patiently(lambda: self._claim(most, jobs))
        return jobs

    def _claim(self, most: int, jobs: list[Job]) -> None:
        with one_at_a_time(self.place):
            for trial in self._every():
                if trial.state == TrialState.RUNNING and not self._is_someones(trial, jobs):
                    self._cut_off(trial)
            self.check_failures()
            while len(jobs) < most and (slot := self._enqueued()) is not None:
                waiting = next(trial for trial in self._every() if trial.state == TrialState.WAITING)
                if jobs and waiting.number != jobs[-1].trial.number + 1:
                    break  # an earlier worker died in between; it is the next batch's
                self.study.sampler = self._seeded(slot)
                claimed = self.study.ask()
                claimed.set_user_attr(WORKER, this_worker())
                overrides = self.space.suggest(claimed)
                claimed.set_user_attr(OVERRIDES, overrides)
                jobs.append(Job(claimed, overrides))

    @staticmethod
    def _is_someones(trial: FrozenTrial, ours: Sequence[Job]) -> bool:
        """Whether a running trial has a worker; of those of this process, which is claiming, only these have."""
        if trial.user_attrs.get(WORKER) == this_worker():
            return any(job.trial.number == trial.number for job in ours)
        return is_alive(_signs_of_life(trial))

    def check_failures(self) -> None:
        """Compare the failures with the limit.

        Raises:
            SweepFailedError: there are more.
        """
        failed = [trial for trial in self._counting() if trial.state == TrialState.FAIL]
        lost = len(self.given_up())
        if len(failed) + lost > self.plan.max_failures:
            error = str(failed[0].user_attrs.get(ERROR, "")).strip().splitlines()[-1:] if failed else []
            first = f"; the first one, trial {failed[0].number}, with: {' '.join(error)}" if failed else ""
            raise SweepFailedError(
                f"{len(failed) + lost} trials have failed, more than hydra.sweeper.max_failures="
                f"{self.plan.max_failures}{first}"
            )

    def given_up(self) -> list[int]:
        """Slots whose every job was cut off, as often as the plan allows."""
        tries = self._tries().items()
        return [
            slot for slot, of in tries if len(of) > self.plan.retries and all(CUT_OFF in each.user_attrs for each in of)
        ]

    def is_over(self) -> bool:
        """Whether all slots have come to an end."""
        tries = self._tries()
        open_slots = [
            slot for slot, of in tries.items() if not of[-1].state.is_finished() or CUT_OFF in of[-1].user_attrs
        ]
        return len(tries) >= self.plan.total and not set(open_slots) - set(self.given_up())

    @contextmanager
    def concluding(self, is_over: bool = False) -> Iterator[bool]:
        """Whether it is this worker's part to conclude the study: once all its slots have come to an end.

        It is concluded when this context ends well; otherwise the next start concludes it. Trials that end later, or a
        larger total, have it concluded anew.

        Args:
            is_over: it is, although slots are left.
        """
        with one_at_a_time(self.place):
            ended = sum(trial.state.is_finished() for trial in self._every())
            is_ours = (is_over or self.is_over()) and self.study.user_attrs.get(CONCLUDED) != ended
            yield is_ours
            if is_ours:
                self.study.set_user_attr(CONCLUDED, ended)

    @contextmanager
    def alive(self, jobs: Sequence[Job]) -> Iterator[None]:
        """Give signs of life of these trials while their jobs run; close those whose jobs never end."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(BEAT):
                for job in jobs:
                    patiently(lambda job=job: job.trial.set_user_attr(HEARTBEAT, time.time()))  # type: ignore[misc]

        beats = threading.Thread(target=beat, daemon=True)
        beats.start()
        try:
            yield
        except BaseException:
            ended.set()
            with one_at_a_time(self.place):
                every = self._every()
                for job in jobs:
                    self._cut_off(every[job.trial.number])
            raise
        finally:
            ended.set()

    def tell(
        self,
        trial: Trial,
        state: TrialState,
        values: Sequence[float] | None = None,
        keep: Callable[[], None] | None = None,
    ) -> None:
        """Say what became of a trial; without effect where others have closed it meanwhile.

        Args:
            keep: writes down what else is to be known of it, before.
        """

        def told() -> None:
            with one_at_a_time(self.place):
                if self._every()[trial.number].state != TrialState.RUNNING:
                    log.warning(f"trial {trial.number} was closed by others meanwhile; what its job returned is lost")
                    return
                if keep is not None:
                    keep()
                self.study.tell(trial, values, state)

        patiently(told)

    def _enqueued(self) -> int | None:
        """The slot that waits now: what was left waiting, else one that was cut off, else the next; None at the end."""
        every, tries = self._every(), self._tries()
        for trial in every:
            if trial.state == TrialState.WAITING:
                if SLOT not in trial.user_attrs:  # a person's wish, from a dashboard
                    self.study._storage.set_trial_user_attr(trial._trial_id, SLOT, len(tries))
                return int(trial.user_attrs.get(SLOT, len(tries)))
        for slot, of in sorted(tries.items()):
            if all(CUT_OFF in trial.user_attrs for trial in of) and len(of) <= self.plan.retries:
                self.study.enqueue_trial(_chosen(of[-1]), {SLOT: slot, RETRY_OF: of[-1].number})
                return slot
        slot = len(tries)
        if slot >= self.plan.total:
            return None
        self.study.enqueue_trial(dict(self.plan.grid[slot]) if self.plan.grid else {}, {SLOT: slot})
        return slot

    def _tries(self) -> dict[int, list[FrozenTrial]]:
        """The trials of each slot."""
        tries: dict[int, list[FrozenTrial]] = {}
        for trial in self._every():
            if SLOT in trial.user_attrs:
                tries.setdefault(int(trial.user_attrs[SLOT]), []).append(trial)
        return tries

    def _counting(self) -> list[FrozenTrial]:
        return [trial for trial in self._every() if _counts(trial)]

    def _every(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _seeded(self, slot: int) -> BaseSampler:
        target = get_class(str(self.sampler["_target_"]))
        own = int(np.random.SeedSequence([self.seed, slot]).generate_state(1)[0])
        seed = self.seed if issubclass(target, QMCSampler) else own  # a sequence's points are of one seed
        seeded = {"seed": seed} if "seed" in inspect.signature(target).parameters else {}
        made: BaseSampler = instantiate(self.sampler, **seeded)
        return made

    def _cut_off(self, trial: FrozenTrial) -> None:
        """Close a trial whose job will never end; the caller holds the lock."""
        if trial.state != TrialState.RUNNING:
            return
        storage = self.study._storage  # the trial is another worker's, which no public way reaches
        storage.set_trial_user_attr(trial._trial_id, CUT_OFF, value=True)
        self.study.tell(trial.number, state=TrialState.FAIL)


def _chosen(trial: FrozenTrial) -> dict[str, Value]:
    """What a trial's parameters were or were going to be; where its worker died while they were chosen, what was given.

    A part of them would shift the random numbers of the others.
    """
    given: dict[str, Value] = trial.system_attrs.get("fixed_params", {})
    return dict(trial.params) if OVERRIDES in trial.user_attrs else given


def _counts(trial: FrozenTrial) -> bool:
    return trial.state != TrialState.WAITING and CUT_OFF not in trial.user_attrs


def _signs_of_life(trial: FrozenTrial) -> tuple[Any, float]:
    begun = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
    return trial.user_attrs.get(WORKER), float(trial.user_attrs.get(HEARTBEAT, begun))
