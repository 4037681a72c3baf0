"""Networks that draw normal wafers as a LightningModule."""

from torch import Tensor

from waferlab.config import FitConfig
from waferlab.data.batches import Batch
from waferlab.data.masks import Truth
from waferlab.models.normality import Drawing, Normality
from waferlab.models.scoring import Scoring
from waferlab.tasks.validated import DetectionTask


class Drawn(DetectionTask):
    """Fits a `Normality` whose measure is a network that draws.

    Args:
        model: to be fitted.
        how, validation, select, seed: as of every `DetectionTask`.
    """

    def __init__(self, model: Normality, how: FitConfig, validation: Truth, select: str, seed: int) -> None:
        super().__init__(how, validation, select, seed)
        assert isinstance(model.measure, Drawing)
        self.model, self.measure = model, model.measure

    @property
    def scoring(self) -> Scoring:
        """The model's."""
        return self.model.reference.scoring

    def levels_of(self, maps: Tensor) -> list[Tensor]:
        """The distances of maps (B, H, W) uint8."""
        levels: list[Tensor] = self.model(maps)
        return levels

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Loss of one batch; of several processes each computes it whole, since drawings are made by one dice."""
        return self.noted(self.measure.loss(batch.maps))
