"""A model as one ONNX graph, from die states to what a person wants to know of a wafer."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from waferlab.models.classifier import Classifier
from waferlab.models.detector import Detector

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


class _Detected(nn.Module):
    """Whether a wafer is abnormal (N,) uint8, its score (N,) and die map (N, H, W) float32, of maps (N, H, W) uint8."""

    outputs: Final = ("abnormal", "score", "die_map")

    def __init__(self, model: Detector) -> None:
        super().__init__()
        self.model = model

    def forward(self, maps: Tensor) -> tuple[Tensor, ...]:
        die_map, score = self.model.reference(self.model(maps), maps)
        return (score >= self.model.thresholds[0]).to(torch.uint8), score, die_map


def save_graph(model: Classifier | Detector, path: Path) -> Path:
    """Write a model as one ONNX file: its encoding and thresholds inside, any number of maps at once.

    A classifier's outputs are ``bits`` and ``probabilities``, a detector's ``abnormal``, ``score`` and ``die_map``.
    """
    whole = (_Classified(model) if isinstance(model, Classifier) else _Detected(model)).cpu().eval()
    maps, wafers = torch.zeros(2, *model.size, dtype=torch.uint8), torch.export.Dim("wafers", min=1)
    with _quiet():
        torch.onnx.export(
            whole, (maps,), path, dynamo=True, verbose=False, external_data=False,
            input_names=[INPUT], output_names=whole.outputs, dynamic_shapes=({0: wafers},),
        )  # fmt: skip
    return path


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
