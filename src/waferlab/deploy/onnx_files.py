"""Models as ONNX files, and what such files answer."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx
import onnxruntime
from onnx import ModelProto

from waferlab.deploy.answers import Answer
from waferlab.deploy.slim import slimmed
from waferlab.edge.card import KEY, Card
from waferlab.models.anomaly_model import AnomalyModel
from waferlab.models.classifier import Classifier
from waferlab.models.graph import INPUT, save_graph


def as_onnx(model: Classifier | AnomalyModel, shape: Sequence[int]) -> ModelProto:
    """A model in fp32, in few bytes more than its weights take.

    Args:
        shape: of a map, (H, W), or of an image, (H, W, C).
    """
    with tempfile.TemporaryDirectory() as folder:
        return slimmed(onnx.load(save_graph(model, shape, Path(folder) / "model.onnx", decided=False)))


def with_card(graph: ModelProto, card: Card) -> bytes:
    """The content of a file of this graph."""
    made = ModelProto()
    made.CopyFrom(graph)
    made.metadata_props.add(key=KEY, value=card.text())
    return bytes(made.SerializeToString())


def onnx_answers(content: bytes, *_: object) -> Answer:
    """What an ONNX file of this content answers, in one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return lambda maps: dict(zip(names, session.run(names, {INPUT: maps}), strict=True))
