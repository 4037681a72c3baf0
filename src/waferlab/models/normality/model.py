"""A model of normality: a distance from normal wafers, and the scores that it becomes."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from waferlab.config import FeaturesConfig, ModelConfig, NormalityModelConfig
from waferlab.models.anomaly_model import AnomalyModel, spread
from waferlab.models.classifier import Classifier
from waferlab.models.normality.features import Features
from waferlab.models.normality.measure import Density, Gathering, Measure
from waferlab.models.pyramid import Pyramid
from waferlab.models.scoring import Scoring


class Normality(AnomalyModel):
    """Scores wafers, and dies where its measure knows of them, by their distance from normal ones.

    Attributes:
        measure: of the distance.
    """

    def __init__(self, measure: Measure, scoring: Scoring, size: tuple[int, int]) -> None:
        side = measure.features.levels.pyramid.input_size if isinstance(measure, Density) else None
        super().__init__(size, side)
        self.measure = measure
        self.use(scoring)

    @property
    def levels(self) -> int:
        """One."""
        return 1

    @property
    def knows_dies(self) -> bool:
        """Whether its measure does."""
        return self.measure.knows_dies

    def forward(self, maps: Tensor) -> list[Tensor]:
        """The distance (B, h, w), or (B,), of maps (B, H, W) uint8, as the one level of a `Reference`."""
        return [self.measure(maps)]

    def calibrate(self, maps: NDArray[np.uint8]) -> None:
        """Learn from normal wafers (N, H, W) uint8 what distance is usual; of a supervised measure it says nothing."""
        if not self.measure.is_supervised:
            super().calibrate(maps)

    @torch.inference_mode()
    def gather(self, maps: NDArray[np.uint8], is_abnormal: NDArray[np.bool_], seed: int) -> None:
        """Have the measure learn from maps (N, H, W) uint8 in one pass; unless it is supervised, all are normal."""
        assert isinstance(self.measure, Gathering)
        self.eval()
        if isinstance(self.measure, Density):
            self.measure.features.standardise(self.split(spread(maps)))
        self.measure.begin(seed)
        batches = self.split(maps)
        for batch, kinds in zip(batches, torch.split(torch.from_numpy(is_abnormal), len(batches[0])), strict=True):
            self.measure.update(batch, kinds)
        self.measure.finish()


def build_normality(
    config: NormalityModelConfig, classes: tuple[str, ...], size: tuple[int, int], network: Classifier | None = None
) -> Normality:
    """A model of normality for maps (H, W), of the network given, or of one that waits for its weights.

    Args:
        classes: of the network.
    """
    given: dict[str, Any] = {"size": size}
    if config.features is not None and config.backbone is not None:
        given = {"features": _features(config.features, config.backbone, classes, size, network)}
    measure: Measure = config.normality.build("normality", **given)
    return Normality(measure, config.score.build("score"), size)


def _features(
    config: FeaturesConfig,
    backbone: ModelConfig,
    classes: tuple[str, ...],
    size: tuple[int, int],
    network: Classifier | None,
) -> Features:
    plain = backbone.model_copy(update={"weights": "none"})
    source = Classifier(plain, classes, size, "backbone") if network is None else network
    return Features(Pyramid(source, config.levels, config.input_size), config.of, config.standard)
