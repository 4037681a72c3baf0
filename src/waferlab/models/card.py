"""What a trained model says of itself where it is used."""

from importlib.metadata import version

import numpy as np

from waferlab.data.ragged import Resize
from waferlab.edge.card import Card
from waferlab.models.anomaly_model import AnomalyModel
from waferlab.models.classifier import Classifier
from waferlab.wafer import dihedral_indices


def card_of(model: Classifier | AnomalyModel, resize: Resize = "keep", run: str | None = None) -> Card:
    """The card of a model.

    Args:
        resize: how the maps that it learnt from came to their size.
        run: id of its MLflow run.
    """
    made = version("waferlab")
    if isinstance(model, AnomalyModel):
        lines = [float(line) if np.isfinite(line) else None for line in model.thresholds.tolist()]
        return Card(
            "anomaly", model.size, resize=resize, threshold=lines[0], die_threshold=lines[1], run=run, version=made
        )
    decision, states = model.decision, len(model.table)
    if decision is None:
        return Card("patterns", model.size, model.classes, states, resize, run=run, version=made)
    views = len(dihedral_indices(*model.size)) if decision.all_views else 1
    return Card(
        "class", model.size, model.classes, states, resize, decision.normal, decision.threshold, views=views, run=run,
        version=made,
    )  # fmt: skip
