"""What trainings of models have in common that find abnormal wafers: how they are validated."""

import torch
from torch import Tensor

from waferlab.config import FitConfig
from waferlab.data.batches import Batch
from waferlab.data.masks import Truth
from waferlab.errors import WaferlabError
from waferlab.metrics.anomaly import AUPRO_LIMIT
from waferlab.models.anomaly_model import AnomalyModel
from waferlab.models.reference import Reference
from waferlab.tasks.detection import anomaly_metrics
from waferlab.tasks.shares import Share
from waferlab.tasks.task import Task


class DetectionTask(Task):
    """A training that is validated by the scores of whole wafers and their dies.

    Args:
        model: what scores them.
        how: optimizer and schedule.
        validation: truth of the validation wafers, in their order.
        select: the metric of `AnomalyMetrics` that the best epoch is chosen by.
        seed: with the epoch, determines what is random in the network.
    """

    def __init__(self, model: AnomalyModel, how: FitConfig, validation: Truth, select: str, seed: int) -> None:
        super().__init__(how, seed)
        self.model, self.validation, self.select = model, validation, select
        self.levels: list[list[Tensor]] = []
        self.maps: list[Tensor] = []

    @property
    def monitor(self) -> str:
        """The chosen metric on the validation part."""
        return f"val/{self.select}"

    def validation_step(self, batch: Batch, _: int) -> None:
        """Keep the wafers' levels; metrics are exact, over all maps at once."""
        share = Share(len(batch.maps))
        self.levels.append([share.whole(level.float()).cpu() for level in self.model(share.of(batch.maps))])
        self.maps.append(batch.maps.cpu())

    def on_validation_epoch_end(self) -> None:
        """Log every metric of the validation part; normal wafers among it stand for the training's.

        Raises:
            WaferlabError: the chosen metric is undefined on these wafers.
        """
        levels, maps = [torch.cat(level) for level in zip(*self.levels, strict=True)], torch.cat(self.maps)
        self.levels.clear()
        self.maps.clear()
        truth = self.validation
        is_normal = torch.from_numpy(~truth.is_abnormal)
        reference = Reference(self.model.reference.scoring, len(levels))
        reference.learn([level[is_normal] for level in levels], maps[is_normal])
        die_maps, scores = reference(levels, maps)
        found = anomaly_metrics(scores.numpy(), None if die_maps is None else die_maps.numpy(), truth, AUPRO_LIMIT)
        if self.select in found.undefined:
            why = "no die of validation is known as abnormal" if die_maps is not None else "there are no die maps"
            raise WaferlabError(f"task.select={self.select} is undefined: {why}")
        self.log_dict({f"val/{name}": value for name, value in found.values.items()})
