"""One MLflow run: everything that is logged goes through here."""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, TypeVar

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunStatus, RunTag
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException

from waferlab.tasks.fit import BEST

MODEL_FOLDER, MODEL_FILE, CONFIG_FILE, FIGURES = "model", "model.safetensors", "config.json", "figures"
_LONGEST_PARAMETER = 6000
#: Most values that MLflow takes at once.
PARAMETERS_AT_ONCE, METRICS_AT_ONCE = 100, 1000
#: Prefix of metrics that say how right and how sure a teacher is on the maps that it teaches.
TEACHING = "taught/"
#: Tags of a sweep's trial: what became of it, and its objectives' values as JSON; of both, what tells their sweep from
#: others of its name.
TRIAL_STATE, TRIAL_VALUES, SWEEP_ID = "trial.state", "trial.values", "sweep.id"

#: What a run is, as its tag ``role`` says: a whole experiment, the training of a teacher, an evaluation, or a sweep of
#: experiments.
EXPERIMENT, TEACHER, EVALUATION, SWEEP = "experiment", "teacher", "evaluation", "sweep"
#: Tags that say what a run is in a study.
STUDY = ("study", "arm", "claim", "reach")

Value = TypeVar("Value")
#: Logs something with a client to the run of this id.
Write = Callable[[MlflowClient, str], object]


class Run:
    """A run whose every value is written at once.

    One thread of its own writes all of them: a signal interrupts the program's main thread, never half a write, which
    might leave a database locked.
    """

    def __init__(self, client: MlflowClient, run_id: str, uri: str) -> None:
        self.client, self.id, self.uri = client, run_id, uri
        self._writer = ThreadPoolExecutor(1, thread_name_prefix=f"writer of {run_id}")

    def write(self, write: Write) -> None:
        """Log something."""
        self._writer.submit(write, self.client, self.id).result()

    def begin(self) -> None:
        """Say that it is running."""
        self.write(lambda client, run: client.update_run(run, RunStatus.to_string(RunStatus.RUNNING)))

    def end(self, status: int) -> None:
        """Close it; all that was logged before has arrived when this returns."""
        self.write(lambda client, run: client.set_terminated(run, RunStatus.to_string(status)))
        self._finish()

    def _finish(self) -> None:
        self._writer.shutdown()

    def parameters(self, config: Mapping[str, Any]) -> None:
        """Log nested plain values as flat parameters, and whole as a file."""
        flat = [Param(key, str(value)[:_LONGEST_PARAMETER]) for key, value in flatten(config)]
        for some in parts(flat, PARAMETERS_AT_ONCE):
            self.write(lambda client, run, some=some: client.log_batch(run, params=some))  # type: ignore[misc]
        self.write(lambda client, run: client.log_text(run, json.dumps(config, indent=1), CONFIG_FILE))

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log numbers at a step (epoch)."""
        now = int(time.time() * 1000)
        logged = [Metric(name, value, now, step) for name, value in values.items()]
        self.write(lambda client, run: client.log_batch(run, metrics=logged))

    def tags(self, values: Mapping[str, object]) -> None:
        """Set tags."""
        logged = [RunTag(name, str(value)) for name, value in values.items()]
        self.write(lambda client, run: client.log_batch(run, tags=logged))

    def file(self, path: Path, folder: str) -> None:
        """Keep a file with the run; it has to stay where it is until the run has ended."""
        self.write(lambda client, run: client.log_artifact(run, str(path), folder))

    def folder(self, path: Path, name: str) -> None:
        """Keep a folder's files with the run, under this name; they have to stay until the run has ended."""
        self.write(lambda client, run: client.log_artifacts(run, str(path), name))

    def figures(self, paths: Iterable[Path]) -> None:
        """Keep figures with the run."""
        for path in paths:
            self.file(path, FIGURES)


class PatientRun(Run):
    """A run on a server that may be slow, or go: nobody waits for it, and what it doesn't take is kept elsewhere.

    Args:
        spare: opens the run that takes what the server doesn't, given why it doesn't.
    """

    def __init__(self, client: MlflowClient, run_id: str, uri: str, spare: Callable[[str, str], Run]) -> None:
        super().__init__(client, run_id, uri)
        self._open_spare = spare
        self._spare: Run | None = None
        self._sent: list[Future[None]] = []

    def write(self, write: Write) -> None:
        """Log something soon."""
        self._sent.append(self._writer.submit(self._send, write))

    def _finish(self) -> None:
        """Wait until all that was logged has arrived somewhere.

        Raises:
            MlflowException: something arrived nowhere.
        """
        if wait(self._sent, timeout=5).not_done:
            print(f"waferlab: MLflow at {self.uri} is slow; waiting until it has taken run {self.id}", file=sys.stderr)
        self._writer.shutdown()
        for sent in self._sent:
            sent.result()

    def _send(self, write: Write) -> None:
        if self._spare is None:
            try:
                write(self.client, self.id)
                return
            except (MlflowException, OSError) as error:
                self._spare = self._open_spare(self.id, reason(error))
        self._spare.write(write)


def reason(error: Exception) -> str:
    """What MLflow says; of a fault in its database, what the database says, without the SQL."""
    return str(getattr(error.__cause__, "orig", getattr(error, "message", error)))


def parts(values: Sequence[Value], most: int) -> Iterator[Sequence[Value]]:
    """The values in order, at most so many at once."""
    return (values[start : start + most] for start in range(0, len(values), most))


def seconds_open(run: MlflowRun) -> float:
    """How long a run was open; 0 where a crash left no end."""
    return float((run.info.end_time or run.info.start_time) - run.info.start_time) / 1000


def best_metrics(run: MlflowRun) -> dict[str, float]:
    """The validation metrics, each under ``val/…``, of the weights that a training run kept."""
    kept = run.data.metrics.items()
    return {f"val/{name.removeprefix(BEST)}": float(value) for name, value in kept if name.startswith(BEST)}


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested values with their dotted names."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
