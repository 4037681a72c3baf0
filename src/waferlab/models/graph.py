"""A model as one ONNX graph, from die states to what a person wants to know of a wafer."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from waferlab.models.anomaly_model import AnomalyModel
from waferlab.models.classifier import Classifier
from waferlab.models.decision import Decision
from waferlab.wafer import dihedral_indices

#: Name of the graph's input: maps (N, H, W) uint8 die states.
INPUT: Final = "maps"


class _Classified(nn.Module):
    """Bits (N, C) uint8 and probabilities (N, C) float32 of maps (N, H, W) uint8."""

    outputs: Final = ("bits", "probabilities")

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, maps: Tensor) -> tuple[Tensor, ...]:
        logits = self.model(maps)
        return (logits > 0).to(torch.uint8), logits.sigmoid()


class _Inspected(nn.Module):
    """Bits (N, K) uint8, one of them set, and probabilities (N, K) float32 of maps, by the model's `Decision`."""

    outputs: Final = _Classified.outputs
    views: Tensor

    def __init__(self, model: Classifier, decision: Decision) -> None:
        super().__init__()
        self.model, self.decision = model, decision
        views = dihedral_indices(*model.size)[: None if decision.all_views else 1]
        self.register_buffer("views", torch.from_numpy(views))

    def forward(self, maps: Tensor) -> tuple[Tensor, ...]:
        decision, flat, classes = self.decision, maps.flatten(1, 2), torch.arange(len(self.model.classes))
        shown = torch.cat([flat.index_select(1, view).view_as(maps) for view in self.views])
        logits = self.model(shown).view(len(self.views), -1, len(classes))
        each = (logits / decision.temperature).softmax(2)
        probabilities = each.mean(0)
        if decision.vote == "majority":
            votes = (each.argmax(2, keepdim=True) == classes).sum(0)
            probabilities = (votes + probabilities) / (len(each) + 1)
        answer = probabilities.argmax(1)
        if decision.threshold is not None and decision.normal is not None:
            defects = probabilities.masked_fill(classes == decision.normal, 0)
            odds = defects.sum(1).log() - probabilities[:, decision.normal].log()
            answer = torch.where(odds >= decision.threshold, defects.argmax(1), decision.normal)
        return (answer[:, None] == classes).to(torch.uint8), probabilities


class _Detected(nn.Module):
    """Whether a wafer is abnormal (N,) uint8, its score (N,) float32, and its die map (N, H, W) where there is one."""

    def __init__(self, model: AnomalyModel) -> None:
        super().__init__()
        self.model = model
        self.outputs = ("abnormal", "score", *(["die_map"] if model.knows_dies else []))

    def forward(self, maps: Tensor) -> tuple[Tensor, ...]:
        die_map, score = self.model.judge(maps)
        is_abnormal = (score >= self.model.thresholds[0]).to(torch.uint8)
        return (is_abnormal, score) if die_map is None else (is_abnormal, score, die_map)


def save_graph(model: Classifier | AnomalyModel, shape: Sequence[int], path: Path) -> Path:
    """Write a model as one ONNX file: its encoding and thresholds inside, any number of maps at once.

    A classifier's outputs are ``bits`` and ``probabilities``; others' are ``abnormal``, ``score``, and, where they know
    dies, ``die_map``.

    Args:
        shape: of a map, (H, W), or of an image, (H, W, C).
    """
    whole = _whole(model).cpu().eval()
    maps, wafers = torch.zeros(2, *shape, dtype=torch.uint8), torch.export.Dim("wafers", min=1)
    with _quiet():
        torch.onnx.export(
            whole, (maps,), path, dynamo=True, verbose=False, external_data=False,
            input_names=[INPUT], output_names=whole.outputs, dynamic_shapes=({0: wafers},),
        )  # fmt: skip
    return path


def outputs_of(model: Classifier | AnomalyModel) -> Sequence[str]:
    """Names of the outputs of the model's graph."""
    return _whole(model).outputs


def _whole(model: Classifier | AnomalyModel) -> _Classified | _Inspected | _Detected:
    if isinstance(model, AnomalyModel):
        return _Detected(model)
    return _Classified(model) if model.decision is None else _Inspected(model, model.decision)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's advice for its authors away from people who can't act on it."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
