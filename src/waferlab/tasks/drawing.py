"""Networks that draw normal wafers as a LightningModule."""

from torch import Tensor

from waferlab.config import FitConfig
from waferlab.data.batches import Batch
from waferlab.data.masks import Truth
from waferlab.models.normality import Drawing, Normality
from waferlab.tasks.validated import DetectionTask


class Drawn(DetectionTask):
    """Fits a `Normality` whose measure is a network that draws.

    Args:
        model: to be fitted.
        how, validation, select, seed: as of every `DetectionTask`.
    """

    def __init__(self, model: Normality, how: FitConfig, validation: Truth, select: str, seed: int) -> None:
        super().__init__(model, how, validation, select, seed)
        assert isinstance(model.measure, Drawing)
        self.loss = model.measure.loss

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Loss of one batch; of several processes each computes it whole, since drawings are made by one dice."""
        return self.noted(self.loss(batch.maps))
