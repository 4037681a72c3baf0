"""Anomaly detection by a student that knows normal wafers only: where it departs from its teacher, they are not."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from waferlab.config import DetectorConfig
from waferlab.models.classifier import Classifier, require_maps
from waferlab.models.disagreement import Distance, disagreements
from waferlab.models.pyramid import Pyramid
from waferlab.models.reference import Reference
from waferlab.models.scoring import Scoring

#: Of normal wafers, so many teach what is usual; of more, some that are spread evenly among them.
_ENOUGH = 4096
#: Pixels of a batch: networks on a CPU slow down where their features leave its caches.
_BATCH: Final = 2**18
#: Added to the variance of a teacher's channel: one that hardly varies on normal wafers is not blown up without limit.
_LEAST_VARIANCE = 1e-3


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


class Detector(nn.Module):
    """A frozen teacher, what is asked of the student, the student, and how their disagreement becomes a score.

    Attributes:
        teacher: its features are never trained.
        targets: attention on the teacher's levels.
        student: a pyramid of the same levels.
        reference: from disagreements to die maps and scores, against what normal wafers show.
        distance: between the features of student and targets.
        thresholds: (2,) scores from which on a wafer, and a die, count as abnormal; infinite until they are chosen.
    """

    def __init__(
        self, teacher: TeacherPyramid, targets: Targets, student: StudentPyramid, scoring: Scoring, distance: Distance
    ) -> None:
        super().__init__()
        self.teacher, self.targets, self.student, self.distance = teacher, targets, student, distance
        self.shapes = teacher.pyramid.shapes
        self.use(scoring)
        self.thresholds: Tensor
        self.register_buffer("thresholds", torch.full((2,), torch.inf))

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
            self.teacher.standardise(self._split(_spread(maps)))

    def use(self, scoring: Scoring) -> None:
        """Score in another way from now on, once it is calibrated."""
        self.reference = Reference(scoring, len(self.shapes)).to(self.device)

    @torch.inference_mode()
    def calibrate(self, maps: NDArray[np.uint8]) -> None:
        """Learn from normal wafers (N, H, W) uint8 what disagreement is usual."""
        self.eval()
        batches = self._split(_spread(maps))
        levels = [torch.cat(level) for level in zip(*map(self, batches), strict=True)]
        self.reference.learn(levels, torch.cat(batches))

    @torch.inference_mode()
    def predict(self, maps: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Die maps (N, H, W) and wafer scores (N,), both higher for abnormal, of maps (N, H, W) uint8.

        Raises:
            WaferlabError: maps of another size or type, or with states other than 0, 1 and 2.
        """
        require_maps(maps, self.size)
        self.eval()
        found = [self.reference(self(batch), batch) for batch in self._split(maps)]
        die_maps, scores = (torch.cat(each).cpu().numpy() for each in zip(*found, strict=True))
        return die_maps, scores

    def _split(self, maps: NDArray[np.uint8]) -> tuple[Tensor, ...]:
        pyramid = self.teacher.pyramid
        pixels = math.prod(self.size) if pyramid.input_size is None else pyramid.input_size**2
        return torch.split(torch.from_numpy(maps).to(self.device), max(1, _BATCH // pixels))

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the maps it reads."""
        return self.teacher.pyramid.classifier.size

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.student.parameters()).device


def _spread(maps: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return maps[:: -(-len(maps) // _ENOUGH) or 1]
