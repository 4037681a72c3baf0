"""Exported models small enough to be understood: each looks at the share of a map's places that fail."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from waferlab.edge.card import KEY, Card

SIZE = (6, 8)


def patterns(path: Path, card: Card | None = None) -> Path:
    """Logits of ``many`` (share above a half) and ``few`` (share below a quarter), times a hundred."""
    return _save(path, card or Card("patterns", SIZE, ("many", "few")), {"logits": [[100, -100], [-50, 25]]})


def classes(path: Path, card: Card | None = None) -> Path:
    """Probabilities of ``Normal`` and ``Defect``, which is the share of fails; bits from a half on."""
    card = card or Card("class", SIZE, ("Normal", "Defect"), normal=0, threshold=0.0)
    return _save(path, card, {"probabilities": [[-1, 1], [1, 0]], "bits": [[-100, 100], [50.5, -49.5]]})


def anomaly(path: Path, card: Card | None = None) -> Path:
    """A wafer's score is the share of fails, a die's whether it fails."""
    return _save(path, card or Card("anomaly", SIZE, threshold=0.5, die_threshold=0.5), {"score": [[1], [0]]})


def broken(path: Path) -> Path:
    """Logits that are no numbers."""
    return _save(path, Card("patterns", SIZE, ("many",)), {"logits": [[np.nan], [0]]})


def _save(path: Path, card: Card, linear: dict[str, list[list[float]]]) -> Path:
    """Outputs that are linear in the share: slopes and offsets of each."""
    shared = [
        helper.make_node("Equal", ["maps", "two"], ["is_fail"]),
        helper.make_node("Cast", ["is_fail"], ["fails"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["fails", "axes"], ["share2"], keepdims=0),
        helper.make_node("Unsqueeze", ["share2", "last"], ["share"]),
    ]
    given = [
        numpy_helper.from_array(np.uint8(2), "two"),
        numpy_helper.from_array(np.array([1, 2]), "axes"),
        numpy_helper.from_array(np.array([1]), "last"),
    ]
    outputs = []
    for name, (slope, offset) in linear.items():
        given += [numpy_helper.from_array(np.array(slope, np.float32), f"{name}_slope")]
        given += [numpy_helper.from_array(np.array(offset, np.float32), f"{name}_offset")]
        kind, shape = TensorProto.FLOAT, ["wafers", len(slope)]
        shared += [
            helper.make_node("Mul", ["share", f"{name}_slope"], [f"{name}_scaled"]),
            helper.make_node("Add", [f"{name}_scaled", f"{name}_offset"], [f"{name}_sum"]),
        ]
        if name == "score":
            shared += [helper.make_node("Squeeze", [f"{name}_sum", "last"], [name])]
            shared += [helper.make_node("Identity", ["fails"], ["die_map"])]
            shape = ["wafers"]
            outputs += [helper.make_tensor_value_info("die_map", TensorProto.FLOAT, ["wafers", *SIZE])]
        elif name == "bits":
            kind = TensorProto.UINT8
            shared += [helper.make_node("Clip", [f"{name}_sum", "zero", "one"], [f"{name}_cut"])]
            shared += [helper.make_node("Cast", [f"{name}_cut"], [name], to=kind)]
            given += [numpy_helper.from_array(np.float32(value), word) for word, value in (("zero", 0), ("one", 1))]
        else:
            shared += [helper.make_node("Identity", [f"{name}_sum"], [name])]
        outputs.append(helper.make_tensor_value_info(name, kind, shape))
    maps = helper.make_tensor_value_info("maps", TensorProto.UINT8, ["wafers", *SIZE])
    model = helper.make_model(
        helper.make_graph(shared, "tiny", [maps], outputs, given),
        opset_imports=[helper.make_opsetid("", 18)], ir_version=9,
    )  # fmt: skip
    helper.set_model_props(model, {KEY: card.text()})
    onnx.save(model, path)
    return path
