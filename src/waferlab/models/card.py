"""What a trained model says of itself where it is used."""

from importlib.metadata import version
from typing import Any

import numpy as np

from waferlab.edge.card import Card
from waferlab.models.anomaly_model import AnomalyModel
from waferlab.models.classifier import Classifier
from waferlab.wafer import dihedral_indices


def card_of(model: Classifier | AnomalyModel, run: str | None = None, **sizing: Any) -> Card:
    """The card of a model.

    Args:
        run: id of its MLflow run.
        sizing: how what it learnt from came to its size: the card's ``resize``, ``fit`` and ``colour``.
    """
    said = sizing | {"run": run, "version": version("waferlab")}
    if isinstance(model, AnomalyModel):
        lines = [float(line) if np.isfinite(line) else None for line in model.thresholds.tolist()]
        return Card("anomaly", model.size, threshold=lines[0], die_threshold=lines[1], **said)
    decision, states = model.decision, len(model.table)
    if decision is None:
        return Card("patterns", model.size, model.classes, states, **said)
    views = len(dihedral_indices(*model.size)) if decision.all_views else 1
    return Card(
        "class", model.size, model.classes, states, normal=decision.normal, threshold=decision.threshold, views=views,
        **said,
    )  # fmt: skip
