"""Wafer-map defect learning: compose an experiment from config groups, train it, compare the runs, keep the winner.

From Python, the same as on the command line::

    import waferlab

    outcome = waferlab.train("student=net2", "seed=1")
    bits = waferlab.load(outcome.run_id).predict(maps)
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from waferlab.commands.results import Outcome
    from waferlab.models.classifier import Classifier


def train(*overrides: str) -> "Outcome":
    """Run one experiment, as ``waferlab train OVERRIDES`` does.

    Raises:
        waferlab.errors.WaferlabError: what the command line would print.
    """
    from waferlab.commands.train import train_overrides

    return train_overrides(overrides)


def evaluate(*overrides: str) -> "Outcome":
    """Evaluate a trained model, as ``waferlab evaluate OVERRIDES`` does.

    Raises:
        waferlab.errors.WaferlabError: what the command line would print.
    """
    from waferlab.commands.evaluate import evaluate_overrides

    return evaluate_overrides(overrides)


def ui(*overrides: str) -> None:
    """Serve the MLflow UI until interrupted, as ``waferlab ui OVERRIDES`` does.

    Raises:
        waferlab.errors.WaferlabError: MLflow's server ended by itself.
    """
    from waferlab.commands.compose import compose_overrides
    from waferlab.commands.ui import run

    run(compose_overrides("ui", overrides))


def load(model: str | Path, store: str | Path | None = None) -> "Classifier":
    """A trained model; its ``predict`` takes (N, H, W) uint8 maps and gives (N, C) bits.

    Args:
        model: a model file, or the id of an MLflow run.
        store: where the run lies, if not in ``WAFERLAB_STORE`` or ``store``.

    Raises:
        waferlab.errors.WaferlabError: the model is missing or damaged, or names code that isn't ours.
    """
    from waferlab.commands.training import model_reference
    from waferlab.config import TrackingConfig
    from waferlab.models.files import load_model
    from waferlab.tracking.run import Tracker

    if Path(model).exists():
        return load_model(Path(model))
    tracking = TrackingConfig(uri=os.environ.get("MLFLOW_TRACKING_URI"), experiment="waferlab", tags={})
    tracker = Tracker(tracking, Path(store or os.environ.get("WAFERLAB_STORE", "store")))
    return load_model(model_reference(str(model), tracker))
