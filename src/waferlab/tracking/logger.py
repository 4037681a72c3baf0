"""Lightning's metrics into a `Run`: one call an epoch, by epoch, and nothing else."""

from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers.logger import Logger

from waferlab.tracking.run import Run


class RunLogger(Logger):
    """Lightning's own MLflow logger also decides a run's status and copies checkpoints; here `Tracker` does.

    Args:
        run: that is logged to.
        done: epochs of an earlier training that the run has, whose numbers this one goes on with.
    """

    def __init__(self, run: Run, done: int = 0) -> None:
        super().__init__()
        self.run, self.done = run, done

    @property
    def name(self) -> str:
        """Lightning asks for one."""
        return "mlflow"

    @property
    def version(self) -> str:
        """The run's id."""
        return self.run.id

    @rank_zero_only
    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Nothing: the whole configuration is logged when the run opens."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Log an epoch's metrics, at the epoch's number."""
        values = dict(metrics)
        epoch = int(values.pop("epoch", step or 0))
        if values:
            self.run.metrics(values, self.done + epoch)
