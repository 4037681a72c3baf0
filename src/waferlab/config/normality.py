"""The configuration of models of normality."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from waferlab.config.detection import DetectionConfig, Levels
from waferlab.config.parts import ModelConfig
from waferlab.schema import Component, Schema


class FeaturesConfig(Schema):
    """The deep features that normal wafers are known by.

    Attributes:
        levels: of the backbone.
        input_size: side in pixels to which maps are enlarged before the network, or null.
        of: ``wafer``: mean and maximum over the dies; ``place``: of each place of the finest level, for die maps.
        standard: whether each channel is brought to mean 0 and variance 1 on normal wafers.
    """

    levels: Levels
    input_size: int | None = Field(ge=8)
    of: Literal["wafer", "place"]
    standard: bool


class NormalityModelConfig(Schema):
    """All that a model of normality is built from; backbone and features where its measure asks for them."""

    normality: Component
    score: Component
    backbone: ModelConfig | None = None
    features: FeaturesConfig | None = None


class NormalityConfig(DetectionConfig):
    """A model of normal wafers, learnt from them alone.

    Attributes:
        normality: measures how far wafers are from normal.
        features: that it may measure by.
    """

    normality: Component
    features: FeaturesConfig

    @property
    def uses_features(self) -> bool:
        """Whether the measure is one of deep features."""
        return "features" in self.normality.signature()

    @property
    def model(self) -> NormalityModelConfig:
        """What the model is built from."""
        if not self.uses_features:
            return NormalityModelConfig(normality=self.normality, score=self.score)
        return NormalityModelConfig(
            normality=self.normality, score=self.score, backbone=self.backbone, features=self.features
        )

    def components(self) -> Iterator[tuple[str, Component, tuple[str, ...]]]:
        """Every component with its place in the configuration and the parameters that the program supplies."""
        yield from super().components()
        yield "normality", self.normality, ("features", "size")
