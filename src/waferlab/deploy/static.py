"""Static quantisation: an ONNX graph that computes in int8, within the ranges that its values have on training maps."""

import tempfile
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from waferlab.deploy.pack import Packing
from waferlab.models.graph import INPUT, quiet

#: What is computed in int8; logits and scores are not.
_OPERATORS: Final = ["Conv", "Relu", "Add", "MaxPool"]
#: Inputs of a QLinearConv that have a row, or a value, for each channel, and as what they are written: its weights,
#: their scales, and its biases.
_WRITTEN: Final = {3: np.int8, 4: np.float16, 8: np.int32}
_ZERO_POINTS: Final = 5  # of its weights
#: Maps that ranges are looked for in at once.
_AT_ONCE: Final = 64


class _Maps(CalibrationDataReader):  # type: ignore[misc]
    """Maps in batches, as the quantiser reads them."""

    def __init__(self, maps: NDArray[np.uint8]) -> None:
        self.batches = iter([maps[start : start + _AT_ONCE] for start in range(0, len(maps), _AT_ONCE)])

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        batch = next(self.batches, None)
        return None if batch is None else {INPUT: np.asarray(batch)}


def quantised(model: ModelProto, maps: NDArray[np.uint8]) -> ModelProto:
    """The graph with int8 weights, one scale a channel, and uint8 values between its convolutions.

    Args:
        maps: (N, H, W) uint8, or images, that show which values occur.
    """
    with tempfile.TemporaryDirectory() as folder, quiet():
        given, made = Path(folder) / "given.onnx", Path(folder) / "made.onnx"
        onnx.save(model, given)
        quantize_static(
            given, made, _Maps(maps), quant_format=QuantFormat.QOperator, op_types_to_quantize=_OPERATORS,
            per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
        return _packed(onnx.load(made))


def _packed(model: ModelProto) -> ModelProto:
    """The same in fewer bytes: constants of one kind in one tensor, scales in half precision, one zero for all."""
    arrays = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    layers = [node.input for node in model.graph.node if node.op_type == "QLinearConv"]
    packing, done = Packing(), set[str]()
    for place, dtype in _WRITTEN.items():
        found = {name: arrays[name] for layer in layers for name in layer[place : place + 1] if arrays[name].ndim}
        packing.together(found, dtype)
        done |= found.keys()
    packing.constants["zero"] = np.zeros((), np.int8)
    for layer in layers:
        if not arrays[layer[_ZERO_POINTS]].any():
            layer[_ZERO_POINTS] = "zero"
    return packing.within(model, done)
