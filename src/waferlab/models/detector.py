"""Anomaly detection by a student that knows normal wafers only: where it departs from its teacher, they are not."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from waferlab.config import DetectorConfig
from waferlab.models.anomaly_model import AnomalyModel, spread
from waferlab.models.classifier import Classifier
from waferlab.models.disagreement import Distance, disagreements
from waferlab.models.pyramid import Pyramid
from waferlab.models.scoring import Scoring

#: Added to the variance of a teacher's channel: one that hardly varies on normal wafers is not blown up without limit.
_LEAST_VARIANCE: Final = 1e-3


class Targets(nn.Module):
    """What stands between the teacher's features and what the student is asked for: attention, and a layer norm.

    Args:
        shapes: (C, H, W) of each level.
        attention: one module a level, or None for none.
        layer_norm: normalise each map's level over (C, H, W) after attention, with learned scales, as the paper does.
    """

    def __init__(
        self, shapes: Sequence[tuple[int, int, int]], attention: Sequence[nn.Module] | None, layer_norm: bool
    ) -> None:
        super().__init__()
        self.attention = nn.ModuleList(attention or [nn.Identity() for _ in shapes])
        self.norm = nn.ModuleList(nn.LayerNorm(shape) if layer_norm else nn.Identity() for shape in shapes)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Levels (B, C, H, W) to the same shapes."""
        levels = zip(features, self.attention, self.norm, strict=True)
        return [norm(attention(level)) for level, attention, norm in levels]


class TeacherPyramid(nn.Module):
    """A pyramid that is never trained; its channels standardised on normal wafers where the distance wants that."""

    def __init__(self, pyramid: Pyramid, distance: Distance) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.standard = nn.ModuleList(
            nn.BatchNorm2d(channels, eps=_LEAST_VARIANCE, affine=False) if distance == "standard" else nn.Identity()
            for channels, _, _ in pyramid.shapes
        )
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, maps: Tensor) -> list[Tensor]:
        """Levels (B, C, H, W) of maps (B, H, W) uint8."""
        return [standard(level) for standard, level in zip(self.standard, self.pyramid(maps), strict=True)]

    @torch.no_grad()
    def standardise(self, batches: Sequence[Tensor]) -> None:
        """Learn mean and variance of each channel over all of these normal maps, batches of (B, H, W) uint8."""
        count, shapes = sum(map(len, batches)), self.pyramid.shapes
        sums = [torch.zeros(2, channels, dtype=torch.float64, device=batches[0].device) for channels, _, _ in shapes]
        for batch in batches:
            for both, level in zip(sums, self.pyramid(batch), strict=True):
                places = level.double().transpose(0, 1).flatten(1)
                both.add_(torch.stack([places.sum(1), places.square().sum(1)]))
        for standard, both, (_, height, width) in zip(self.standard, sums, shapes, strict=True):
            mean, square = both / (count * height * width)
            learnt = {"running_mean": mean, "running_var": (square - mean**2).clamp_min(0)}
            standard.load_state_dict(standard.state_dict() | learnt)


class StudentPyramid(nn.Module):
    """A pyramid with a scale and a shift for each channel where the distance is that of ``standard`` features."""

    def __init__(self, pyramid: Pyramid, distance: Distance) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.scale = nn.ModuleList(
            nn.Conv2d(channels, channels, 1, groups=channels) if distance == "standard" else nn.Identity()
            for channels, _, _ in pyramid.shapes
        )
        for scale in self.scale:
            if isinstance(scale, nn.Conv2d):
                nn.init.ones_(scale.weight)

    def forward(self, maps: Tensor) -> list[Tensor]:
        """Levels (B, C, H, W) of maps (B, H, W) uint8."""
        return [scale(level) for scale, level in zip(self.scale, self.pyramid(maps), strict=True)]


def build_detector(
    config: DetectorConfig, classes: tuple[str, ...], size: tuple[int, int], teacher: Classifier | None = None
) -> "Detector":
    """A detector for maps (H, W) with a new student, and the teacher given, or one that waits for its weights.

    Args:
        classes: of the teacher.
    """
    plain, distance = config.backbone.model_copy(update={"weights": "none"}), config.pyramid.distance

    def pyramid(network: Classifier) -> Pyramid:
        return Pyramid(network, config.pyramid.levels, config.pyramid.input_size)

    student = StudentPyramid(pyramid(Classifier(plain, classes, size, "backbone")), distance)
    teaching = pyramid(teacher or Classifier(plain, classes, size, "backbone"))
    module, shapes = config.attention.module, teaching.shapes
    attention = [module.build("attention.module", channels=channels) for channels, _, _ in shapes] if module else None
    targets = Targets(shapes, attention, config.attention.layer_norm)
    targets.requires_grad_(config.attention.training != "frozen")
    return Detector(TeacherPyramid(teaching, distance), targets, student, config.score.build("score"), distance)


class Detector(AnomalyModel):
    """A frozen teacher, what is asked of the student, the student, and how their disagreement becomes a score.

    Attributes:
        teacher: its features are never trained.
        targets: attention on the teacher's levels.
        student: a pyramid of the same levels.
        distance: between the features of student and targets.
    """

    def __init__(
        self, teacher: TeacherPyramid, targets: Targets, student: StudentPyramid, scoring: Scoring, distance: Distance
    ) -> None:
        super().__init__(teacher.pyramid.classifier.size, teacher.pyramid.input_size)
        self.teacher, self.targets, self.student, self.distance = teacher, targets, student, distance
        self.shapes = teacher.pyramid.shapes
        self.use(scoring)

    def train(self, mode: bool = True) -> "Detector":
        """The teacher stays as it is."""
        super().train(mode)
        self.teacher.eval()
        return self

    def features(self, maps: Tensor, cached: Tensor | None = None) -> list[Tensor]:
        """The teacher's levels (B, C, H, W) of maps (B, H, W) uint8.

        Args:
            cached: (B, all values of all levels), where they were computed before.
        """
        if cached is None:
            levels: list[Tensor] = self.teacher(maps)
            return levels
        parts = torch.split(cached, [math.prod(shape) for shape in self.shapes], dim=1)
        return [part.reshape(-1, *shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def forward(self, maps: Tensor) -> list[Tensor]:
        """Disagreement (B, h, w) of each level, not negative, of maps (B, H, W) uint8."""
        return disagreements(self.student(maps), self.targets(self.teacher(maps)), self.distance)

    def standardise(self, maps: NDArray[np.uint8]) -> None:
        """Learn the scale of the teacher's channels from normal wafers (N, H, W) uint8, where the distance needs it."""
        if self.distance == "standard":
            self.teacher.standardise(self.split(spread(maps)))

    @property
    def levels(self) -> int:
        """Number of the pyramid's levels."""
        return len(self.shapes)

    @property
    def knows_dies(self) -> bool:
        """It does."""
        return True
