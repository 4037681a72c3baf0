"""Wafer-map defect learning: compose an experiment from config groups, train it, compare the runs, keep the winner.

From Python, the same as on the command line::

    import waferlab

    outcome = waferlab.train("student=net2", "seed=1")
    labels = waferlab.load(outcome.model_file).predict(maps)
"""

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


def load(model: str | Path) -> "Classifier":
    """A trained model from its file; its ``predict`` takes (N, H, W) uint8 maps and gives (N, C) bits.

    Raises:
        waferlab.errors.WaferlabError: the file is missing or damaged, or names code that isn't ours.
    """
    from waferlab.models.files import load_model

    return load_model(Path(model))
