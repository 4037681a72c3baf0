"""The formats that a model is exported to."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from waferlab.deploy.answers import Answer
from waferlab.deploy.onnx_files import as_onnx, onnx_answers, with_card
from waferlab.deploy.pack import in_few_bits
from waferlab.deploy.repeats import said_once
from waferlab.deploy.slim import slimmed
from waferlab.deploy.static import quantised
from waferlab.edge.card import Card
from waferlab.errors import ConfigError
from waferlab.models.anomaly_model import AnomalyModel
from waferlab.models.classifier import Classifier
from waferlab.models.graph import quiet

Name = Literal["onnx", "onnx-int8", "onnx-int8-weights", "onnx-int4-weights", "executorch", "executorch-int8"]


@dataclass(frozen=True)
class Source:
    """What is exported.

    Attributes:
        model: a classifier, or what scores wafers.
        card: that travels with it.
        maps: (N, H, W) uint8, or images, by which the ranges of int8 values are chosen.
    """

    model: Classifier | AnomalyModel
    card: Card
    maps: NDArray[np.uint8]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one map, or image."""
        return self.maps.shape[1:]

    @cached_property
    def graph(self) -> ModelProto:
        """The model in ONNX, in fp32."""
        return as_onnx(self.model, self.shape)


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        suffix: of its name.
        make: its content.
        answers: what content of this kind, made of this model, answers, in one thread.
        plain: name of the format that computes the same in fp32; None where it is this one.
        calibrates: whether it looks at maps.
        weight_bits: of a model that learns with weights rounded as this format's are.
        package: that it takes beside those that are there anyway; an extra of ours has its name.
    """

    suffix: str
    make: Callable[[Source], bytes]
    answers: Callable[[bytes, Source], Answer]
    plain: Name | None = None
    calibrates: bool = False
    weight_bits: int | None = None
    package: str | None = None

    def require(self) -> None:
        """Refuse to go on without the package.

        Raises:
            ConfigError: it isn't installed.
        """
        if self.package is not None and importlib.util.find_spec(self.package) is None:
            raise ConfigError(f"format: this one needs {self.package}: pip install 'waferlab[train,{self.package}]'")


def _onnx(source: Source) -> bytes:
    return with_card(source.graph, source.card)


def _onnx_int8(source: Source) -> bytes:
    return with_card(said_once(slimmed(in_few_bits(quantised(source.graph, source.maps), 8))), source.card)


def _onnx_int8_weights(source: Source) -> bytes:
    return with_card(said_once(slimmed(in_few_bits(source.graph, 8))), source.card)


def _onnx_int4_weights(source: Source) -> bytes:
    return with_card(said_once(slimmed(in_few_bits(source.graph, 4))), source.card)


def _executorch(source: Source) -> bytes:
    return bytes(_programs().as_program(source.model, source.shape, source.card))


def _executorch_int8(source: Source) -> bytes:
    return bytes(_programs().as_program(source.model, source.shape, source.card, source.maps))


def _program_answers(content: bytes, source: Source) -> Answer:
    answer: Answer = _programs().program_answers(content, source.model)
    return answer


def _programs() -> ModuleType:
    with quiet():
        return importlib.import_module("waferlab.deploy.programs")  # which takes long, and may not be there


FORMATS: Final[dict[Name, Format]] = {
    "onnx": Format(".onnx", _onnx, onnx_answers),
    "onnx-int8": Format(".onnx", _onnx_int8, onnx_answers, plain="onnx", calibrates=True),
    "onnx-int8-weights": Format(".onnx", _onnx_int8_weights, onnx_answers, plain="onnx", weight_bits=8),
    "onnx-int4-weights": Format(".onnx", _onnx_int4_weights, onnx_answers, plain="onnx", weight_bits=4),
    "executorch": Format(".pte", _executorch, _program_answers, package="executorch"),
    "executorch-int8": Format(
        ".pte", _executorch_int8, _program_answers, plain="executorch", calibrates=True, package="executorch"
    ),
}
