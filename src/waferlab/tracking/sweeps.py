"""Sweeps read back from their runs."""

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import le
from pathlib import Path

from mlflow.entities import Run as MlflowRun

from waferlab.tracking.run import EXPERIMENT, SWEEP, SWEEP_ID, TRIAL_STATE, TRIAL_VALUES, best_metrics, seconds_open
from waferlab.tracking.tracker import Tracker

#: Prefixes of a sweep's metrics: a parameter's share in what sets the best trials apart; trials by state.
IMPORTANCE, TRIALS = "importance/", "trials/"
#: Tags of a sweep's run: what it searched, and what by, in which direction; with a number behind it, the command of one
#: of its best trials, with a key, what the best one has there.
SEARCHED, OBJECTIVE, DIRECTION, BEST = "searched", "objective", "direction", "best."


@dataclass(frozen=True)
class Trial:
    """One complete trial.

    Attributes:
        chosen: what was chosen, by key.
        values: of the objectives, in their order.
        seconds: that it took.
    """

    number: int
    chosen: Mapping[str, str]
    values: tuple[float, ...]
    seconds: float


@dataclass(frozen=True)
class SweepRun:
    """One sweep.

    Attributes:
        name: of its Optuna study.
        objectives: what it was judged by.
        best_commands: what trains its best trial again; with several objectives, those of the Pareto front.
        states: number of its trials by what became of them.
        seconds: that its complete and pruned trials took together.
        importance: by key, its share in what sets the best trials apart (PED-ANOVA); empty with several objectives.
        trials: complete ones, the best first; with several objectives, those of the Pareto front, by the first one.
        figures: PNG files of the search.
    """

    name: str
    objectives: tuple[str, ...]
    best_commands: tuple[str, ...]
    states: Mapping[str, int]
    seconds: float
    importance: Mapping[str, float]
    trials: list[Trial]
    figures: list[Path]


def read_sweeps(tracker: Tracker, study: str) -> list[SweepRun]:
    """The finished sweeps of a study, by name."""
    is_it = f"tags.role = '{SWEEP}' and tags.study = '{study}' and attributes.status = 'FINISHED'"
    found = (_read(run, tracker) for run in tracker.search(is_it))
    return sorted((sweep for sweep in found if sweep.trials), key=lambda sweep: sweep.name)


def _read(run: MlflowRun, tracker: Tracker) -> SweepRun:
    tags, metrics = run.data.tags, run.data.metrics
    objectives = tags.get(OBJECTIVE, "").split()
    signs = [-1 if direction == "maximize" else 1 for direction in tags.get(DIRECTION, "").split()]
    runs = list(tracker.search(f"tags.`{SWEEP_ID}` = '{tags[SWEEP_ID]}' and tags.role = '{EXPERIMENT}'"))
    trials = list(_trials(runs, tags.get(SEARCHED, "").split(), objectives))
    costs = {trial.number: [sign * value for sign, value in zip(signs, trial.values, strict=True)] for trial in trials}
    if len(objectives) > 1:
        trials = [trial for trial in trials if not _is_dominated(costs[trial.number], costs.values())]
    return SweepRun(
        name=tags["sweep"],
        objectives=tuple(objectives),
        best_commands=tuple(tags[key] for place in range(len(trials)) if (key := f"{BEST}{place}") in tags),
        states={key.removeprefix(TRIALS): int(value) for key, value in metrics.items() if key.startswith(TRIALS)},
        seconds=sum(seconds_open(run) for run in runs if _state(run) in ("complete", "pruned")),
        importance={key.removeprefix(IMPORTANCE): metrics[key] for key in metrics if key.startswith(IMPORTANCE)},
        trials=sorted(trials, key=lambda trial: (*costs[trial.number], trial.number)),
        figures=tracker.figures(run.info.run_id),
    )


def _trials(runs: Iterable[MlflowRun], keys: list[str], objectives: list[str]) -> Iterator[Trial]:
    for run in runs:
        tags = run.data.tags
        values = best_metrics(run) | json.loads(tags.get(TRIAL_VALUES, "{}"))
        if _state(run) == "complete" and all(name in values for name in objectives):
            given = dict(override.split("=", 1) for override in shlex.split(tags["command"])[2:] if "=" in override)
            chosen = {key: given.get(key, run.data.params.get(key, "")) for key in keys}
            yield Trial(int(tags["trial"]), chosen, tuple(values[name] for name in objectives), seconds_open(run))


def _state(run: MlflowRun) -> str:
    """What became of a trial; where its run came from elsewhere after the sweep's end, what the run says."""
    return str(run.data.tags.get(TRIAL_STATE, "complete" if run.info.status == "FINISHED" else "unknown"))


def _is_dominated(costs: Sequence[float], others: Iterable[Sequence[float]]) -> bool:
    """Whether another trial is at least as good in everything, and better in something."""
    return any(other != costs and all(map(le, other, costs)) for other in others)
