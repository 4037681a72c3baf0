"""Runs that were kept in the store because their server didn't answer, sent to it."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

from mlflow.entities import Param, RunStatus, RunTag
from mlflow.entities import Run as MlflowRun

from waferlab.errors import OpenElsewhereError
from waferlab.tracking.run import METRICS_AT_ONCE, PARAMETERS_AT_ONCE, SWEEP, SWEEP_ID, parts
from waferlab.tracking.tracker import GOES_ON, UNSENT, Tracker

#: Tags: of a run that was sent, which run it has become; of that one, which it was.
SENT, SENT_FROM = "sent.run", "sent.from"
RUNNING, KILLED, FINISHED = map(RunStatus.to_string, (RunStatus.RUNNING, RunStatus.KILLED, RunStatus.FINISHED))
#: Tags that name another run.
_NAMING = ("mlflow.parentRunId", "teacher.run_id", "model")


@dataclass(frozen=True)
class Sync:
    """From the store to a server; runs that are there already get what they lack, however often it is interrupted."""

    store: Tracker
    server: Tracker

    def send(self) -> Iterator[tuple[str, str | None]]:
        """Send all runs that are meant for this server: ids in the store, and there; None of those still open."""
        unsent = list(self.store.search(f"tags.`{UNSENT}` = '{self.server.uri}'"))
        sent = {run.info.run_id: self._there(run) for run in unsent}  # all of them first, as they name each other
        for run in unsent:
            here = run.info.run_id
            yield here, sent[here] if self._completed(run, sent) else None

    def _there(self, run: MlflowRun) -> str:
        """The server's run that this one becomes, or goes on with."""
        here, tags = run.info.run_id, {SENT_FROM: run.info.run_id}
        if goes_on := run.data.tags.get(GOES_ON):
            return goes_on
        known = f"tags.`{SENT_FROM}` = '{here}'"
        if run.data.tags.get("role") == SWEEP:  # it may have begun there
            tags |= {"role": SWEEP, SWEEP_ID: run.data.tags[SWEEP_ID]}
            known = f"tags.role = '{SWEEP}' and tags.`{SWEEP_ID}` = '{tags[SWEEP_ID]}'"
        for begun in self.server.search(known):
            return str(begun.info.run_id)
        made = self.server.client.create_run(self.server.experiment_id, run.info.start_time, tags, run.info.run_name)
        return str(made.info.run_id)

    def _completed(self, run: MlflowRun, sent: dict[str, str]) -> bool:
        """Whether the server has all of a run now; not of one that is still open."""
        if run.info.status == RUNNING and run.data.tags.get("role") == SWEEP:
            return False
        try:
            with self.store.held(run.data.tags.get(GOES_ON, run.info.run_id)):
                self._complete(run, sent)
        except OpenElsewhereError:
            return False
        return True

    def _complete(self, run: MlflowRun, sent: dict[str, str]) -> None:
        here, client = run.info.run_id, self.server.client
        there = sent[here]
        for some in parts([Param(key, value) for key, value in run.data.params.items()], PARAMETERS_AT_ONCE):
            client.log_batch(there, params=some)
        for key in run.data.metrics:
            for values in parts(self.store.client.get_metric_history(here, key), METRICS_AT_ONCE):
                client.log_batch(there, metrics=values)
        with tempfile.TemporaryDirectory() as folder:
            for file in self.store.client.list_artifacts(here):
                self.store.client.download_artifacts(here, file.path, folder)
            client.log_artifacts(there, folder)
        tags = {key: self._renamed(key, value, sent) for key, value in run.data.tags.items()}
        kept = {key for key in tags if key in (UNSENT, GOES_ON) or (GOES_ON in tags and key.startswith("mlflow."))}
        client.log_batch(there, tags=[RunTag(key, value) for key, value in tags.items() if key not in kept])
        if client.get_run(there).info.status != FINISHED:  # it may have been resumed, with the server back
            client.set_terminated(there, KILLED if run.info.status == RUNNING else run.info.status, run.info.end_time)
        self.store.client.delete_tag(here, UNSENT)
        self.store.client.set_tag(here, SENT, there)

    def _renamed(self, key: str, value: str, sent: dict[str, str]) -> str:
        """The value of a tag, where it names a run, by the name that this run has on the server."""
        if key not in _NAMING:
            return value
        named = self.store.find(value)
        return sent.get(value) or (named.data.tags.get(SENT, value) if named else value)
