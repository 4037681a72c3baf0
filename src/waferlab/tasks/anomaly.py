"""Anomaly detection as a LightningModule: a student matches its teacher's pyramid on normal wafers."""

import torch
from torch import Tensor

from waferlab.config import AttentionConfig, FitConfig
from waferlab.data.batches import Batch
from waferlab.data.masks import Truth
from waferlab.distillation.pyramid import PyramidDistillation
from waferlab.errors import WaferlabError
from waferlab.models.detector import Detector
from waferlab.models.disagreement import disagreements, diversity
from waferlab.tasks.shares import Share
from waferlab.tasks.validated import DetectionTask

#: Of the diversity of the teacher's features; below it, the targets say next to nothing.
COLLAPSED = 0.02


class Anomaly(DetectionTask):
    """Fits the student of a `Detector`, and its attention where the configuration says so.

    Args:
        detector: teacher, targets and student.
        loss: between the pyramids.
        how: optimizer and schedule.
        attention: how it is trained.
        validation: truth of the validation wafers, in their order.
        select: the metric of `AnomalyMetrics` that the best epoch is chosen by.
        seed: with the epoch, determines dropout.
    """

    model: Detector

    def __init__(
        self,
        detector: Detector,
        loss: PyramidDistillation,
        how: FitConfig,
        attention: AttentionConfig,
        validation: Truth,
        select: str,
        seed: int,
    ) -> None:
        super().__init__(detector, how, validation, select, seed)
        self.loss, self.attention = loss, attention
        self.diversity: list[Tensor] = []

    @property
    def may_be_best(self) -> bool:
        """Whether the student has begun to learn."""
        return not self._pretrains

    def on_train_epoch_start(self) -> None:
        """Have everything that isn't trained in this epoch in evaluation mode."""
        super().on_train_epoch_start()
        self.model.train()
        self.model.targets.train(self._trains_attention)

    @property
    def _trains_attention(self) -> bool:
        return self._pretrains or self.attention.training == "joint"

    @property
    def _pretrains(self) -> bool:
        return self.attention.training == "pretrained" and self.current_epoch < self.attention.pretrain_epochs

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Loss of one batch."""
        share = Share(len(batch.maps))
        with share.together():
            cached = None if batch.teacher is None else share.of(batch.teacher)
            return self.noted(self._loss(share, share.of(batch.maps), cached))

    def _loss(self, share: Share, maps: Tensor, cached: Tensor | None) -> Tensor:
        """Of the whole batch, by this process's share of its maps, and of the teacher's features of them."""
        model, is_first, learns = self.model, self._pretrains, self._trains_attention
        features = model.features(maps, cached)
        with torch.set_grad_enabled(learns):
            targets = model.targets(features)
        loss = maps.new_zeros((), dtype=torch.float32)
        if not is_first:
            student = disagreements(model.student(maps), targets, model.distance)
            loss = loss + self.loss([share.whole(level) for level in student])
        if learns:
            kept = [share.whole(level).mean() for level in disagreements(targets, features, model.distance)]
            loss = loss + (1.0 if is_first else self.attention.fidelity) * torch.stack(kept).sum()
            if share.count > 1:
                self._watch(share, targets, features)
        return loss

    @torch.no_grad()
    def _watch(self, share: Share, targets: list[Tensor], features: list[Tensor]) -> None:
        left, before = (diversity(levels, self.model.distance, share.mean) for levels in (targets, features))
        self.diversity.append(left / before.clamp_min(torch.finfo(torch.float32).tiny))

    def on_train_epoch_end(self) -> None:
        """Log the epoch, and end the training where attention has collapsed.

        Raises:
            WaferlabError: the targets have become next to constant.
        """
        super().on_train_epoch_end()
        if not self.diversity:
            return
        left = torch.stack(self.diversity[len(self.diversity) // 2 :]).mean(0)
        self.diversity.clear()
        self.log_now({"train/target_diversity": float(left.min())})
        if left.min() < COLLAPSED:
            level = self.model.teacher.pyramid.levels[int(left.argmin())]
            raise WaferlabError(
                f"the attention has collapsed: on level {level} its output has {100 * left.min():.2g} % of the variety "
                f"of the teacher's features: the student has nothing to learn; raise attention.fidelity (now "
                f"{self.attention.fidelity:g}), or use attention.training=frozen"
            )
