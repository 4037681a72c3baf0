"""Wafer-map defect learning: compose an experiment from config groups, train it, compare the runs, keep the winner.

From Python, the same as on the command line::

    import waferlab

    outcome = waferlab.train("student=net2", "seed=1")
    bits = waferlab.load(outcome.run_id).predict(maps)
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from waferlab.edge.model import OnnxModel
    from waferlab.edge.predict import Found
    from waferlab.experiment.outcome import Outcome
    from waferlab.models.anomaly_model import AnomalyModel
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


def predict(*overrides: str) -> "Found":
    """Predict the wafers of a file or folder, as ``waferlab predict OVERRIDES`` does; exported models need no torch.

    Returns:
        How many wafers have each pattern, and which files were written.

    Raises:
        waferlab.errors.WaferlabError: what the command line would print.
    """
    from waferlab.edge.zoo import needs_little

    if needs_little(overrides):
        from waferlab.edge.command import predicted
    else:
        from waferlab.commands.predict import predicted
    return predicted(overrides)[0]


def ui(*overrides: str) -> None:
    """Serve the MLflow UI until interrupted, as ``waferlab ui OVERRIDES`` does.

    Raises:
        waferlab.errors.WaferlabError: MLflow's server ended by itself.
    """
    from waferlab.commands.ui import run
    from waferlab.experiment.compose import compose_overrides

    run(compose_overrides("ui", overrides))


def load(model: str | Path, *overrides: str) -> "Classifier | AnomalyModel | OnnxModel":
    """A trained or exported model; its ``predict`` takes maps (N, H, W) uint8.

    A classifier's gives bits (N, C) uint8, a detector's die maps (N, H, W) and scores (N,), float32.

    Args:
        model: a model file, or the id of an MLflow run; an exported file or ``zoo/NAME`` needs no torch.
        overrides: as ``waferlab evaluate`` takes them, such as ``store=…``, where the run lies.

    Raises:
        waferlab.errors.WaferlabError: the model is missing or damaged, or names code that isn't ours.
    """
    from waferlab.edge.zoo import exported

    if (file := exported(str(model))) is not None:
        from waferlab.edge.model import OnnxModel

        return OnnxModel(file)
    from waferlab.commands.evaluate import load_overrides

    return load_overrides(str(model), overrides)
