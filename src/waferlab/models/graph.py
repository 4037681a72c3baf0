"""A model as one ONNX graph, from die states to what a person wants to know of a wafer."""

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from waferlab.models.anomaly_model import AnomalyModel
from waferlab.models.classifier import Classifier
from waferlab.models.decision import Decision
from waferlab.wafer import PIXELS

#: Name of the graph's input: maps (N, H, W) uint8 die states.
INPUT: Final = "maps"


class Graph(nn.Module):
    """A copy of a model that reads maps (N, H, W) uint8, or images, and gives what `outputs` name.

    Attributes:
        outputs: their names, in the order in which `forward` gives them.
    """

    outputs: Sequence[str]


class _Classified(Graph):
    """Bits (N, C) uint8 and probabilities (N, C) float32 of maps (N, H, W) uint8."""

    outputs: Sequence[str] = ("bits", "probabilities")

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, maps: Tensor) -> tuple[Tensor, ...]:
        logits = self.model(maps)
        return (logits > 0).to(torch.uint8), logits.sigmoid()


class _Logits(_Classified):
    """Logits (N, C) float32 of maps (N, H, W) uint8."""

    outputs = ("logits",)

    def forward(self, maps: Tensor) -> tuple[Tensor, ...]:
        return (self.model(maps),)


class _Inspected(Graph):
    """Bits (N, K) uint8, one of them set, and probabilities (N, K) float32 of maps, by the model's `Decision`."""

    outputs = _Classified.outputs

    def __init__(self, model: Classifier, decision: Decision) -> None:
        super().__init__()
        self.model, self.decision = model, decision

    def forward(self, maps: Tensor) -> tuple[Tensor, ...]:
        decision, classes = self.decision, torch.arange(len(self.model.classes))
        views = _dihedral(maps) if decision.all_views else [maps]
        logits = self.model(torch.cat(views)).view(len(views), -1, len(classes))
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


class _Scored(Graph):
    """Scores (N,) float32 of wafers, and their die maps (N, H, W) where there are any."""

    def __init__(self, model: AnomalyModel) -> None:
        super().__init__()
        self.model = model
        self.outputs = ("score", *(["die_map"] if model.knows_dies else []))

    def forward(self, maps: Tensor) -> tuple[Tensor, ...]:
        die_map, score = self.model.judge(maps)
        return (score,) if die_map is None else (score, die_map)


class _Detected(_Scored):
    """Whether a wafer is abnormal (N,) uint8, and what `_Scored` gives."""

    def __init__(self, model: AnomalyModel) -> None:
        super().__init__(model)
        self.outputs = ("abnormal", *self.outputs)

    def forward(self, maps: Tensor) -> tuple[Tensor, ...]:
        score, *die_map = super().forward(maps)
        return (score >= self.model.thresholds[0]).to(torch.uint8), score, *die_map


def graph_of(model: Classifier | AnomalyModel, decided: bool = True) -> Graph:
    """A copy of a model on the CPU, from maps to answers, its encoding and thresholds inside.

    Args:
        decided: a classifier gives ``bits`` and ``probabilities``; others ``abnormal``, ``score``, and, where they know
            dies, ``die_map``. Otherwise whoever reads the outputs decides: a classifier gives ``logits``, others all
            but ``abnormal``; one that names one class still does so itself.
    """
    model = copy.deepcopy(model).cpu()
    if isinstance(model, Classifier):
        model = model.fused()
    for part in model.modules():
        if isinstance(part, Classifier) and part.config.encoding != PIXELS:
            part.encode = _encoder(part.table)  # type: ignore[method-assign, assignment]
    return _graph_of(model, decided).eval()


def _graph_of(model: Classifier | AnomalyModel, decided: bool) -> Graph:
    if isinstance(model, AnomalyModel):
        return _Detected(model) if decided else _Scored(model)
    if model.decision is not None:
        return _Inspected(model, model.decision)
    return _Classified(model) if decided else _Logits(model)


def save_graph(model: Classifier | AnomalyModel, shape: Sequence[int], path: Path, decided: bool = True) -> Path:
    """Write a model as one ONNX file: any number of maps at once, and the outputs of `graph_of`.

    Args:
        shape: of a map, (H, W), or of an image, (H, W, C).
    """
    graph = graph_of(model, decided)
    maps, wafers = torch.zeros(2, *shape, dtype=torch.uint8), torch.export.Dim("wafers", min=1)
    with quiet():
        torch.onnx.export(
            graph, (maps,), path, dynamo=True, verbose=False, external_data=False,
            input_names=[INPUT], output_names=graph.outputs, dynamic_shapes=({0: wafers},),
        )  # fmt: skip
    return path


def outputs_of(model: Classifier | AnomalyModel, decided: bool = True) -> Sequence[str]:
    """Names of the outputs of `graph_of`."""
    return graph_of(model, decided).outputs


def _dihedral(maps: Tensor) -> list[Tensor]:
    """The views of `waferlab.wafer.dihedral_indices`, of maps (N, H, W) or images (N, H, W, C)."""
    turns = range(4) if maps.shape[1] == maps.shape[2] else (0, 2)
    return [side.rot90(turn, (1, 2)) for side in (maps, maps.flip(2)) for turn in turns]


def _encoder(table: Tensor) -> Callable[[Tensor], Tensor]:
    """What encodes die states as `Classifier.encode` does, by arithmetic: look-ups take longer than a small network."""
    none, steps = table[0], table.diff(dim=0)
    if torch.equal(*steps) and not none.any():
        return lambda maps: maps[:, None] * steps[0, :, None, None]

    def encode(maps: Tensor) -> Tensor:
        states = torch.arange(2, dtype=torch.uint8)[:, None, None]
        reached = (maps[:, None] > states).float()  # (N, 2, H, W): is a die, and one that fails
        return reached if is_all else conv2d(reached, steps.T[:, :, None, None], none)

    is_all = torch.equal(steps, torch.eye(2)) and not none.any()
    return encode


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporter's advice for its authors away from people who can't act on it."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        unheard = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stdout(unheard), contextlib.redirect_stderr(unheard):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
