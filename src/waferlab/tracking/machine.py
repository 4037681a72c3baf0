"""What a run's machine does meanwhile: processors, memory, disk, network and GPUs, as MLflow measures them."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from waferlab.tracking.run import Run

#: Seconds between two measurements.
INTERVAL: Final = 10


class _Machine(SystemMetricsMonitor):
    """Logs through the run, where MLflow's own monitor would ask its server again each time."""

    def __init__(self, run: Run, is_resumed: bool) -> None:
        super().__init__(run.id, INTERVAL, resume_logging=is_resumed, tracking_uri=run.uri)  # type: ignore[no-untyped-call]
        self.run = run

    def monitor(self) -> None:
        """Measure until told to finish, or until MLflow refuses: then the run's own values say so."""
        with suppress(MlflowException):
            while not self._shutdown_event.wait(self.sampling_interval):
                self.collect_metrics()  # type: ignore[no-untyped-call]
                self.publish_metrics(self.aggregate_metrics())  # type: ignore[no-untyped-call]

    def publish_metrics(self, metrics: dict[str, float]) -> None:
        """Log one measurement."""
        self.run.metrics({f"system/{name}": value for name, value in metrics.items()}, self._logging_step)
        self._logging_step += 1
        for monitor in self.monitors:
            monitor.clear_metrics()  # type: ignore[no-untyped-call]


@contextmanager
def watched_machine(run: Run, is_resumed: bool) -> Iterator[None]:
    """Log ``system/…`` metrics to a run as long as this lasts; a resumed run's steps go on."""
    machine = _Machine(run, is_resumed)
    machine.start()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        machine.finish()  # type: ignore[no-untyped-call]
