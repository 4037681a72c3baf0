"""Weights of an ONNX graph in a byte each, or half of one, and constants of one kind in one tensor."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

Arrays = Mapping[str, NDArray[Any]]

#: Scales are powers of it, so that one byte says which: from 2^-21 to 2^21.
_STEP: Final = np.float32(2 ** (1 / 6))


def in_few_bits(model: ModelProto, bits: Literal[4, 8]) -> ModelProto:
    """The same graph with weights of convolutions and linear layers in so many bits each, and a scale for each row.

    Scales are of one byte, or for 4 bits, where they matter more, of half precision, as biases are. A runtime computes
    the float weights once, as it loads the graph; from then on it computes what it did before.
    """
    weights, biases = _parameters(model)
    deep = {f"{name}, deep" if each.ndim == 2 else name: _deep(each) for name, each in weights.items()}
    groups = {f"all {next(iter(alike))}": alike for alike in _by_rows(deep)}
    wholes = {name: np.concatenate([*alike.values()]) for name, alike in groups.items()}
    packing = Packing()
    scales = _scales(packing, wholes, bits) if weights else {}
    small = {f"{name}, small": np.rint(whole / scales[name]) for name, whole in wholes.items()}
    if bits == 4 and weights:
        packing.halves(small)
    for name, alike in groups.items():
        whole = f"{name}, small" if bits == 4 else packing.write(f"{name}, small", small[f"{name}, small"], np.int8)
        packing.split(packing.make("Mul", [whole, f"scales of {name}"], [name]), alike)
    for name in weights.keys() - deep.keys():
        packing.make("Flatten", [f"{name}, deep"], [name])
    packing.together(biases, np.float16)
    return packing.within(model, [*weights, *biases])


def _scales(packing: "Packing", wholes: Arrays, bits: Literal[4, 8]) -> Arrays:
    """Of the rows of each array, by its name; a graph has them as ``scales of NAME``."""
    highest = {name: np.abs(whole).max((1, 2, 3), keepdims=True) for name, whole in wholes.items()}
    least = np.finfo(np.float16).tiny
    named = {f"scales of {name}": each for name, each in highest.items()}
    if bits == 4:
        packing.split(packing.write("scales", np.concatenate([*named.values()]) / 7, np.float16), named)
        return {
            name: np.maximum((each / 7).astype(np.float16).astype(np.float32), least) for name, each in highest.items()
        }
    powers = {name: _powers(each) for name, each in named.items()}
    packing.constants["step"] = np.asarray(_STEP)
    packing.write("powers", np.concatenate([*powers.values()]), np.int8)
    packing.split(packing.make("Pow", ["step", "powers"], ["scales"]), powers)
    return {name: _STEP ** powers[f"scales of {name}"] for name in highest}


class Packing:
    """Constants of a graph in the form in which they are written; a runtime unpacks them as it loads the graph.

    Attributes:
        constants: that are written, by name.
        nodes: what makes of them those that they stand for.
    """

    def __init__(self) -> None:
        self.constants: dict[str, NDArray[Any]] = {}
        self.nodes: list[NodeProto] = []

    def write(self, name: str, array: NDArray[Any], dtype: DTypeLike) -> str:
        """Write an array as this type; it has its own again under its name, which is returned."""
        if array.dtype == dtype:
            self.constants[name] = array
            return name
        self.constants[f"{name}, written"] = array.astype(dtype)
        return self.make("Cast", [f"{name}, written"], [name], to=helper.np_dtype_to_tensor_dtype(array.dtype))

    def halves(self, arrays: Arrays) -> None:
        """Write whole numbers from -8 to 7 in half a byte each; the first half of all of them in the upper bits."""
        values = (np.concatenate([array.ravel() for array in arrays.values()]) + 8).astype(np.uint8)
        upper, lower = np.pad(values, (0, len(values) % 2)).reshape(2, -1)
        self.constants |= {
            "halves": upper << 4 | lower,
            "four": np.array([4], np.uint8),
            "lower bits": np.array([15], np.uint8),
        }
        self.make("BitShift", ["halves", "four"], ["upper"], direction="RIGHT")
        self.make("BitwiseAnd", ["halves", "lower bits"], ["lower"])
        self.make("Concat", ["upper", "lower"], ["one by one"], axis=0)
        self.make("Cast", ["one by one"], ["from zero"], to=TensorProto.FLOAT)
        self.constants["eight"] = np.array([8], np.float32)
        flat = {f"{name}, flat": array.ravel() for name, array in arrays.items()}
        rest = {"nothing": values[: len(values) % 2]}
        self.split(
            self.make("Sub", ["from zero", "eight"], ["whole numbers"]), flat | (rest if len(values) % 2 else {})
        )
        for name, array in arrays.items():
            self.constants[f"shape of {name}"] = np.array([-1, *array.shape[1:]])
            self.make("Reshape", [f"{name}, flat", f"shape of {name}"], [name])

    def together(self, arrays: Arrays, dtype: DTypeLike) -> None:
        """Write arrays as this type, those whose rows have one shape in one tensor."""
        for alike in _by_rows(arrays):
            self.split(self.write(f"all {next(iter(alike))}", np.concatenate([*alike.values()]), dtype), alike)

    def split(self, whole: str, arrays: Arrays) -> None:
        """The rows of one array are those of several, in their order."""
        self.constants[f"{whole}, sizes"] = np.array([len(each) for each in arrays.values()])
        self.make("Split", [whole, f"{whole}, sizes"], [*arrays])

    def make(self, operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> str:
        """Add a node; the name of its first output."""
        self.nodes.append(helper.make_node(operator, inputs, outputs, **attributes))
        return outputs[0]

    def within(self, model: ModelProto, done: Iterable[str]) -> ModelProto:
        """A model with these constants in place of those of its own that are done with."""
        made, gone = ModelProto(), {*done}
        made.CopyFrom(model)
        made.graph.ClearField("initializer")
        made.graph.ClearField("node")
        made.graph.initializer.extend(each for each in model.graph.initializer if each.name not in gone)
        made.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in self.constants.items())
        made.graph.node.extend([*self.nodes, *model.graph.node])
        return made


def _parameters(model: ModelProto) -> tuple[Arrays, Arrays]:
    """Weights, of four or two dimensions, and biases of convolutions and linear layers, by name."""
    constants = (each for each in model.graph.initializer if each.data_type == TensorProto.FLOAT)
    floats = {each.name: numpy_helper.to_array(each) for each in constants}
    layers = [node.input for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    weights, biases = ({name: floats.get(name) for each in layers for name in each[at : at + 1]} for at in (1, 2))
    return (
        {name: each for name, each in weights.items() if each is not None and each.ndim in (2, 4)},
        {name: each for name, each in biases.items() if each is not None},
    )


def _by_rows(arrays: Arrays) -> list[Arrays]:
    """Groups of those whose rows have one shape."""
    found: dict[tuple[int, ...], dict[str, NDArray[Any]]] = defaultdict(dict)
    for name, array in arrays.items():
        found[array.shape[1:]][name] = array
    return [*found.values()]


def _deep(array: NDArray[Any]) -> NDArray[Any]:
    """In four dimensions."""
    return array.reshape(*array.shape, *[1] * (4 - array.ndim))


def _powers(highest: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of the step, for rows with these largest values: the least one by which all values come to at most 127."""
    found = np.ceil(np.log(np.maximum(highest, np.finfo(np.float32).tiny) / 127) / np.log(_STEP))
    powers: NDArray[np.float32] = np.clip(found, -128, 127).astype(np.float32)
    return powers
