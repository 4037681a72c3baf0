"""The place where runs are kept: opened under a lock, each run closed with the right status."""

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from mlflow.entities import RunStatus
from mlflow.exceptions import MlflowException
from optuna import TrialPruned

from waferlab.config import TrackingConfig
from waferlab.errors import Interrupted, OpenElsewhereError, WaferlabError
from waferlab.tracking.machine import watched_machine
from waferlab.tracking.run import (
    CONFIG_FILE,
    EXPERIMENT,
    FIGURES,
    PatientRun,
    Run,
    reason,
)

#: Tags of a run that was kept in the store instead of a server's: which server, and which of its runs it goes on with.
UNSENT, GOES_ON = "unsent", "unsent.run"
#: How long a server may take for an answer, in seconds, and how often it is asked again; MLflow would wait for minutes.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "30", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}


class Tracker:
    """The place where runs are kept.

    Args:
        config: where to log.
        store: folder of the SQLite file and artifacts, where the configuration names no server.
        spare: keep runs in the store where the server doesn't answer, for `waferlab sync` to send; people are told.

    Attributes:
        tags: that all its runs get.

    Raises:
        WaferlabError: the place can't be reached or made.
    """

    def __init__(self, config: TrackingConfig, store: Path, *, spare: bool = False) -> None:
        self.config, self.store, self.spare, self.tags = config, store, spare, dict[str, object]()
        store.mkdir(parents=True, exist_ok=True)
        for chatty in ("mlflow", "alembic"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)  # pip is missing, and not missed
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it logs what it raises
        for key, value in {**_PATIENCE, "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}.items():
            os.environ.setdefault(key, value)
        with self.answering():
            self._open(config.uri)

    def _open(self, uri: str | None) -> None:
        self.uri = uri or default_uri(self.store)
        try:
            with FileLock(self.store / "mlflow.lock"):  # its schema must not be made by two at once
                self.client = MlflowClient(self.uri)
                found = self.client.get_experiment_by_name(self.config.experiment)
                is_server = self.uri.startswith("http")  # it keeps artifacts itself; a database can't
                artifacts = None if is_server else (self.store / "artifacts").resolve().as_uri()
                self.experiment_id: str = (
                    found.experiment_id if found else self.client.create_experiment(self.config.experiment, artifacts)
                )
        except (MlflowException, OSError) as error:
            self._stay_here(error)

    def _stay_here(self, error: MlflowException | OSError) -> None:
        """Keep runs in the store from now on, where that is allowed, as the server doesn't answer."""
        if self._is_own or not self.spare:
            raise error
        self.tags |= {UNSENT: self.uri}
        _tell(f"MLflow at {self.uri} doesn't answer ({reason(error)})", self.store)
        self._open(None)

    @property
    def _is_own(self) -> bool:
        """Whether runs are kept in the store."""
        return self.uri == default_uri(self.store)

    @contextmanager
    def run(self, name: str, tags: Mapping[str, object], resume: str | None = None) -> Iterator[Run]:
        """An open run: FINISHED after success, KILLED after an interruption or pruning, FAILED after anything else.

        Raises:
            WaferlabError: MLflow refuses or has gone.
        """
        status = RunStatus.FAILED
        with self.answering():
            run_id = resume or self._begun(name)
            with self.held(run_id):
                run = self._writer(run_id)
                try:
                    run.begin()
                    run.tags({**_versions(), **self.tags, **tags})
                    with watched_machine(run, is_resumed=resume is not None):
                        yield run
                    status = RunStatus.FINISHED
                except (Interrupted, KeyboardInterrupt, TrialPruned):
                    status = RunStatus.KILLED
                    raise
                finally:
                    self._close(run, status)

    def _begun(self, name: str) -> str:
        """The id of a new run."""
        try:
            return str(self.client.create_run(self.experiment_id, run_name=name).info.run_id)
        except MlflowException as error:
            self._stay_here(error)
        return str(self.client.create_run(self.experiment_id, run_name=name).info.run_id)

    def _writer(self, run_id: str) -> Run:
        """What logs to a run: patiently to a server's, where runs may be kept in the store."""
        if self._is_own or not self.spare:
            return Run(self.client, run_id, self.uri)
        return PatientRun(self.client, run_id, self.uri, partial(self._spare_run, self.uri))

    def _spare_run(self, uri: str, run_id: str, why: str) -> Run:
        """A run in the store for what a server's run doesn't take."""
        _tell(f"run {run_id}: MLflow at {uri} doesn't answer ({why})", self.store)
        here = Tracker(self.config.model_copy(update={"uri": None}), self.store)
        tags = {UNSENT: uri, GOES_ON: run_id}
        made = here.client.create_run(here.experiment_id, run_name=f"rest of {run_id}", tags=tags)
        return Run(here.client, made.info.run_id, here.uri)

    def search(self, what: str) -> Iterator[MlflowRun]:
        """Runs of the experiment, oldest first, by MLflow's search grammar."""
        order: list[str] = ["attributes.start_time ASC", "attributes.run_id ASC"]
        token: str | None = ""
        while token is not None:
            page = self.client.search_runs([self.experiment_id], what, order_by=order, page_token=token or None)
            yield from page
            token = page.token or None

    def figures(self, run_id: str) -> list[Path]:
        """The figures of a run, by name; fetched if they lie elsewhere."""
        names = sorted(file.path for file in self.client.list_artifacts(run_id, FIGURES))
        return [Path(self.client.download_artifacts(run_id, name)) for name in names]

    def curve(self, run_id: str, metric: str) -> dict[int, float]:
        """The values of a run's metric by step."""
        return {value.step: value.value for value in self.client.get_metric_history(run_id, metric)}

    def untag(self, run_id: str, prefix: str) -> None:
        """Take the tags away that begin like this."""
        for tag in [tag for tag in self.client.get_run(run_id).data.tags if tag.startswith(prefix)]:
            self.client.delete_tag(run_id, tag)

    @contextmanager
    def held(self, run_id: str) -> Iterator[None]:
        """Keep other processes of this machine from writing to the same run.

        Raises:
            OpenElsewhereError: one of them does.
        """
        lock = FileLock(self.store / "runs" / f"{run_id}.lock")
        Path(lock.lock_file).parent.mkdir(exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise OpenElsewhereError(
                f"run {run_id} is open in another process; wait for it, or end it first"
            ) from error
        try:
            yield
        finally:
            lock.release()
            Path(lock.lock_file).unlink(missing_ok=True)

    def _close(self, run: Run, status: int) -> None:
        try:
            run.end(status)
        except MlflowException as error:
            if status == RunStatus.FINISHED:
                raise
            # else what ended the run is what a person has to know; MLflow may well have gone for the same reason
            name = RunStatus.to_string(status)
            print(f"waferlab: run {run.id} can't be marked {name} in MLflow: {reason(error)}", file=sys.stderr)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """MLflow's faults, in words for people."""
        try:
            yield
        except MlflowException as error:
            raise WaferlabError(f"MLflow at {self.uri} doesn't answer as it should: {reason(error)}") from error

    def find(self, run_id: str) -> MlflowRun | None:
        """A run of this place, or None where it isn't one."""
        try:
            return self.client.get_run(run_id)
        except MlflowException:
            return None

    def interrupted_config(self, run_id: str) -> str:
        """The stored configuration, as JSON, of a run that can be resumed.

        Raises:
            WaferlabError: the run is unknown, already finished, or no experiment.
        """
        try:
            run = self.client.get_run(run_id)
            with tempfile.TemporaryDirectory() as folder:
                text = Path(self.client.download_artifacts(run_id, CONFIG_FILE, folder)).read_text()
        except (MlflowException, OSError) as error:
            raise WaferlabError(f"run {run_id} at {self.uri} can't be resumed: {error}") from error
        if run.data.tags.get("role") != EXPERIMENT:
            raise WaferlabError(
                f"run {run_id} is no experiment's; a teacher goes on when an experiment that wants it is run again"
            )
        if run.info.status == RunStatus.to_string(RunStatus.FINISHED):
            raise WaferlabError(f"run {run_id} is finished; there is nothing to resume")
        return text


def _tell(what: str, store: Path) -> None:
    print(f"waferlab: {what}; runs are kept in {store}: `waferlab sync tracking=server` sends them", file=sys.stderr)


def default_uri(store: Path) -> str:
    """The SQLite file of a store, as MLflow names it."""
    return f"sqlite:///{(store / 'mlflow.db').resolve()}"


def _versions() -> dict[str, str]:
    """Versions of what numbers depend on, and the state of the checkout, where the package lies in one."""
    versions = {f"version.{name}": version(name) for name in ("waferlab", "torch", "lightning", "timm", "numpy")}
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", __file__], capture_output=True, check=True)
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return versions
    return versions | {"git.commit": commit, "git.dirty": str(bool(changed)).lower()}
