"""What an experiment is to the sweep that it may be a trial of."""

import inspect
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from omegaconf import DictConfig, ListConfig, OmegaConf
from optuna import Study, TrialPruned
from optuna.trial import FrozenTrial

from hydra_plugins.resumable_optuna_sweeper import became, current_trial, objectives_of_sweep, patiently, study_id
from waferlab.config import TrackingConfig
from waferlab.experiment.compose import command_line, plain
from waferlab.metrics.anomaly import METRICS
from waferlab.metrics.multilabel import HEADLINES
from waferlab.metrics.single_label import HEADLINES as SINGLE_LABEL
from waferlab.models.normality import Boosting, Density
from waferlab.schema import Component, parse
from waferlab.tracking.sweep_figures import importance, sweep_figures
from waferlab.tracking.sweeps import BEST, DIRECTION, IMPORTANCE, OBJECTIVE, SEARCHED, TRIALS
from waferlab.tracking.tracker import Tracker
from waferlab.tracking.trials import close_trials, sweep_run

#: What a trial may be judged by apart from validation metrics; the less, the better.
COSTS: Final = ("bytes", "parameters", "seconds_per_map")


def objectives(composed: DictConfig) -> list[str]:
    """What jobs of such a configuration return by name: validation metrics of the weights they keep, and costs."""
    names: Sequence[str]
    if composed.task.name == "anomaly":
        names = METRICS
    elif composed.task.name == "normality":
        names = METRICS if _knows_dies(composed) else [name for name in METRICS if name.startswith("image/")]
    elif composed.task.name == "transfer":
        names = list(dict.fromkeys([*SINGLE_LABEL, composed.task.select]))
    else:
        loss: Any = Component.model_validate(dict(composed.distillation)).resolve()
        agrees = loss.uses_teacher and composed.get("student") is not None
        names = (*HEADLINES, *(["teacher_agreement"] if agrees else []))
    return [*(f"val/{name}" for name in names), *COSTS]


def _knows_dies(composed: DictConfig) -> bool:
    """Whether a model of normality has die maps."""
    measure: Any = Component.model_validate(dict(composed.normality)).resolve()
    if not inspect.isclass(measure):  # it is refused later
        return True
    if issubclass(measure, Density):
        return bool(composed.features.of == "place")
    return not issubclass(measure, Boosting) and composed.normality.get("score") != "discriminator"


def pruning(done: int = 0) -> Callable[[int, Mapping[str, float]], None] | None:
    """What shows a trial's epochs to its sweep; None where there is no sweep, or none that can prune.

    It raises `TrialPruned` where the sweep's pruner wants the training to end.

    Args:
        done: epochs of the trial's earlier trainings.
    """
    trial, judged_by = current_trial(), objectives_of_sweep()
    if trial is None or len(judged_by) != 1 or judged_by[0] in COSTS:
        return None

    def watch(epoch: int, metrics: Mapping[str, float]) -> None:
        patiently(lambda: trial.report(metrics[judged_by[0]], done + epoch))
        if patiently(trial.should_prune):
            raise TrialPruned(f"after epoch {done + epoch + 1}")

    return watch


def trial_tags(tracker: Tracker, tags: Mapping[str, object]) -> dict[str, object]:
    """What the runs of a trial say of their sweep, whose own run, with the given tags, is above them.

    Nothing outside a sweep.
    """
    trial = current_trial()
    if trial is None:
        return {}
    name, study = trial.study.study_name, study_id(trial.study)
    parent = sweep_run(tracker, name, study, tags)
    return {"mlflow.parentRunId": parent, "sweep": name, "sweep.id": study, "trial": trial.number}


def run_name(otherwise: str) -> str:
    """What an experiment's run is called: by its number in a sweep, whose runs would else be named alike."""
    trial = current_trial()
    return otherwise if trial is None else f"trial {trial.number}"


def conclude(study: Study, composed: DictConfig, best: Sequence[Sequence[str]], has_failed: bool) -> None:
    """Complete the sweep's own run: what its best trials came to, their commands, and figures of the search.

    The commands train a best trial again, alone, and measure on the test part.

    Args:
        has_failed: too many trials have; so has the run, then.
    """
    judged_by = composed.hydra.sweeper.objective
    names = list(judged_by) if isinstance(judged_by, ListConfig) else [judged_by]
    settings = plain(OmegaConf.masked_copy(composed, ["tracking", "store"]))
    tracker = Tracker(parse(TrackingConfig, settings["tracking"]), Path(settings["store"]), spare=True)
    parent = sweep_run(tracker, study.study_name, study_id(study), settings["tracking"]["tags"])
    trials = study.trials
    with (
        tempfile.TemporaryDirectory() as to,
        suppress(_TooManyFailuresError),
        tracker.run(study.study_name, {}, parent) as run,
    ):
        states = {trial.number: became(trial) for trial in trials}
        close_trials(tracker, study_id(study), states, {trial.number: _named(names, trial) for trial in trials})
        tracker.untag(parent, BEST)
        run.metrics({f"{TRIALS}{state}": count for state, count in Counter(states.values()).items()})
        searched = sorted({key for trial in trials for key in trial.params})
        directions = [direction.name.lower() for direction in study.directions]
        run.tags({SEARCHED: " ".join(searched), OBJECTIVE: " ".join(names), DIRECTION: " ".join(directions)})
        if len(names) == 1:
            run.metrics({f"{IMPORTANCE}{key}": share for key, share in importance(study).items()})
            run.tags({f"{BEST}{key}": value for trial in study.best_trials[:1] for key, value in trial.params.items()})
        for place, overrides in enumerate(best):
            run.tags({f"{BEST}{place}": command_line("train", [*overrides, "test=true"])})
        found = [_named(names, trial) for trial in study.best_trials]
        for name, direction in zip(names, directions, strict=True):
            values = [each[name] for each in found]
            if values:
                run.metrics({name: max(values) if direction == "maximize" else min(values)}, step=len(trials))
        run.figures(sweep_figures(study, names, Path(to)))
        if has_failed:
            raise _TooManyFailuresError


class _TooManyFailuresError(Exception):
    """Ends a sweep's run as failed."""


def _named(names: Sequence[str], trial: FrozenTrial) -> dict[str, float]:
    """The objectives of a complete trial; nothing of others."""
    return dict(zip(names, trial.values, strict=True)) if became(trial) == "complete" else {}
