"""MLflow runs: opened under a lock, filled through a client, always closed with the right status."""

import json
import logging
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunStatus, RunTag
from mlflow.exceptions import MlflowException

from waferlab.config import TrackingConfig
from waferlab.errors import Interrupted, WaferlabError

MODEL_FOLDER, MODEL_FILE, CONFIG_FILE = "model", "model.safetensors", "config.json"
_LONGEST_PARAMETER = 6000


class Run:
    """One MLflow run; every value goes through here."""

    def __init__(self, client: MlflowClient, run_id: str, uri: str) -> None:
        self.client, self.id, self.uri = client, run_id, uri

    def parameters(self, config: Mapping[str, Any]) -> None:
        """Log nested plain values as flat parameters, and whole as a file."""
        flat = [Param(key, str(value)[:_LONGEST_PARAMETER]) for key, value in flatten(config)]
        for start in range(0, len(flat), 100):
            self.client.log_batch(self.id, params=flat[start : start + 100])
        self.client.log_text(self.id, json.dumps(config, indent=1), CONFIG_FILE)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log numbers at a step (epoch)."""
        now = int(time.time() * 1000)
        self.client.log_batch(self.id, metrics=[Metric(name, value, now, step) for name, value in values.items()])

    def tags(self, values: Mapping[str, object]) -> None:
        """Set tags."""
        self.client.log_batch(self.id, tags=[RunTag(name, str(value)) for name, value in values.items()])

    def file(self, path: Path, folder: str) -> None:
        """Keep a file with the run."""
        self.client.log_artifact(self.id, str(path), folder)


class Tracker:
    """The place where runs are kept.

    Args:
        config: where to log.
        store: folder of the SQLite file and artifacts, where the configuration names no server.

    Raises:
        WaferlabError: the place can't be reached or made.
    """

    def __init__(self, config: TrackingConfig, store: Path) -> None:
        store.mkdir(parents=True, exist_ok=True)
        for chatty in ("mlflow", "alembic"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        self.uri = config.uri or default_uri(store)
        with FileLock(store / "mlflow.lock"):  # MLflow's schema must not be made by two at once
            try:
                self.client = MlflowClient(self.uri)
                found = self.client.get_experiment_by_name(config.experiment)
                artifacts = None if config.uri else (store / "artifacts").resolve().as_uri()
                self.experiment_id: str = (
                    found.experiment_id if found else self.client.create_experiment(config.experiment, artifacts)
                )
            except MlflowException as error:
                raise WaferlabError(f"MLflow at {self.uri} doesn't answer as it should: {error.message}") from error

    @contextmanager
    def run(self, name: str, tags: Mapping[str, object], resume: str | None = None) -> Iterator[Run]:
        """An open run: FINISHED after success, KILLED after an interruption, FAILED after anything else."""
        if resume is None:
            resume = self.client.create_run(self.experiment_id, run_name=name).info.run_id
        else:
            self.client.update_run(resume, RunStatus.to_string(RunStatus.RUNNING))
        run = Run(self.client, resume, self.uri)
        status = RunStatus.FAILED
        try:
            run.tags({**_versions(), **tags})
            yield run
            status = RunStatus.FINISHED
        except (Interrupted, KeyboardInterrupt):
            status = RunStatus.KILLED
            raise
        finally:
            self.client.set_terminated(run.id, RunStatus.to_string(status))

    def model_file(self, run_id: str) -> Path:
        """The model file of a run, fetched if it lies elsewhere.

        Raises:
            WaferlabError: there is no such run, or it kept no model.
        """
        try:
            return Path(self.client.download_artifacts(run_id, f"{MODEL_FOLDER}/{MODEL_FILE}"))
        except (MlflowException, OSError) as error:
            raise WaferlabError(f"run {run_id} at {self.uri} is unknown, or it kept no model ({error})") from error

    def interrupted_config(self, run_id: str) -> str:
        """The stored configuration, as JSON, of a run that can be resumed.

        Raises:
            WaferlabError: the run is unknown, or already finished.
        """
        try:
            status = self.client.get_run(run_id).info.status
            text = Path(self.client.download_artifacts(run_id, CONFIG_FILE)).read_text()
        except (MlflowException, OSError) as error:
            raise WaferlabError(f"run {run_id} at {self.uri} can't be resumed: {error}") from error
        if status == RunStatus.to_string(RunStatus.FINISHED):
            raise WaferlabError(f"run {run_id} is finished; there is nothing to resume")
        return text


def default_uri(store: Path) -> str:
    """The SQLite file of a store, as MLflow names it."""
    return f"sqlite:///{(store / 'mlflow.db').resolve()}"


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested values with their dotted names."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _versions() -> dict[str, str]:
    """Versions of what numbers depend on, and the state of the checkout, where the package lies in one."""
    versions = {f"version.{name}": version(name) for name in ("waferlab", "torch", "lightning", "timm", "numpy")}
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return versions
    return versions | {"git.commit": commit, "git.dirty": str(bool(changed)).lower()}
