"""Sweeps read back from their runs."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Run as MlflowRun

from waferlab.tracking.run import EXPERIMENT, SWEEP, TRIAL_STATE, best_metrics, seconds_open
from waferlab.tracking.tracker import Tracker

#: Prefixes of a sweep's metrics: a parameter's share in what sets the best trials apart; trials by state.
IMPORTANCE, TRIALS = "importance/", "trials/"
#: Tags of a sweep's run: what it searched, and what by; with a number behind it, the command of one of its best trials,
#: with a key, what the best one has there.
SEARCHED, OBJECTIVE, BEST = "searched", "objective", "best."


@dataclass(frozen=True)
class Trial:
    """One complete trial.

    Attributes:
        chosen: what was chosen, by key.
        metrics: of validation, of the weights that were kept.
        seconds: that it took.
    """

    number: int
    chosen: Mapping[str, str]
    metrics: Mapping[str, float]
    seconds: float


@dataclass(frozen=True)
class SweepRun:
    """One sweep with a single objective.

    Attributes:
        name: of its Optuna study.
        objective: the validation metric that it was judged by.
        best_command: what trains its best trial again.
        states: number of its trials by what became of them.
        seconds: that all of its trials took together, pruned ones too.
        importance: by key, its share in what sets the best trials apart (PED-ANOVA).
        trials: complete ones, the best first.
        figures: PNG files of the search.
    """

    name: str
    objective: str
    best_command: str
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
    name, objective = tags["sweep"], tags.get(OBJECTIVE, "")
    runs = list(tracker.search(f"tags.sweep = '{name}' and tags.role = '{EXPERIMENT}'"))
    trials = list(_trials(runs, tags.get(SEARCHED, "").split()))
    trials = [trial for trial in trials if objective in trial.metrics]
    return SweepRun(
        name=name,
        objective=objective,
        best_command=tags.get(f"{BEST}0", ""),
        states={key.removeprefix(TRIALS): int(value) for key, value in metrics.items() if key.startswith(TRIALS)},
        seconds=sum(map(seconds_open, runs)),
        importance={key.removeprefix(IMPORTANCE): metrics[key] for key in metrics if key.startswith(IMPORTANCE)},
        trials=sorted(trials, key=lambda trial: (-trial.metrics[objective], trial.number)),
        figures=tracker.figures(run.info.run_id),
    )


def _trials(runs: Iterable[MlflowRun], keys: list[str]) -> Iterator[Trial]:
    for run in runs:
        if run.data.tags.get(TRIAL_STATE) == "complete":
            chosen = {key: run.data.params.get(key, "") for key in keys}
            yield Trial(int(run.data.tags["trial"]), chosen, best_metrics(run), seconds_open(run))
