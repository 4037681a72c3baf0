"""The runs of a sweep and of its trials."""

import json
from collections.abc import Mapping
from contextlib import suppress

from filelock import FileLock
from mlflow.entities import Run as MlflowRun
from mlflow.entities import RunStatus

from waferlab.errors import OpenElsewhereError
from waferlab.tracking.run import EXPERIMENT, SWEEP, SWEEP_ID, TRIAL_STATE, TRIAL_VALUES
from waferlab.tracking.tracker import Tracker


def sweep_run(tracker: Tracker, name: str, study: str, tags: Mapping[str, object]) -> str:
    """The run of a sweep, above those of its trials; made by whoever comes first, with these tags.

    Args:
        study: an id, since a name may come back for another study.
    """
    own = {"role": SWEEP, "sweep": name, SWEEP_ID: study}
    with FileLock(tracker.store / "mlflow.lock"), tracker.answering():
        for run in tracker.search(f"tags.role = '{SWEEP}' and tags.`{SWEEP_ID}` = '{study}'"):
            return str(run.info.run_id)
        texts = {key: str(value) for key, value in {**tracker.tags, **tags, **own}.items()}
        return str(tracker.client.create_run(tracker.experiment_id, run_name=name, tags=texts).info.run_id)


def close_trials(
    tracker: Tracker, study: str, states: Mapping[int, str], values: Mapping[int, Mapping[str, float]]
) -> None:
    """Tag the runs of a sweep's trials with what became of them; those that a crash left open are closed.

    Args:
        study: its id.
        states, values: of each trial, the latter by the objectives' names.
    """
    for run in list(tracker.search(f"tags.`{SWEEP_ID}` = '{study}' and tags.role != '{SWEEP}'")):
        here = run.info.run_id
        if run.info.status == RunStatus.to_string(RunStatus.RUNNING):
            with suppress(OpenElsewhereError), tracker.held(here):
                tracker.client.set_terminated(here, RunStatus.to_string(RunStatus.KILLED), _last_sign(tracker, run))
        if run.data.tags["role"] == EXPERIMENT:
            trial = int(run.data.tags["trial"])
            tracker.client.set_tag(here, TRIAL_STATE, states.get(trial, "unknown"))
            tracker.client.set_tag(here, TRIAL_VALUES, json.dumps(values.get(trial, {})))


def _last_sign(tracker: Tracker, run: MlflowRun) -> int:
    """When a run last logged a metric, in milliseconds."""
    logged = (tracker.client.get_metric_history(run.info.run_id, key) for key in run.data.metrics)
    return max((value.timestamp for values in logged for value in values), default=run.info.start_time)
