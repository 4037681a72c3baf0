"""Deep features of whole wafers, or of the places on them."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from waferlab.models.detector import TeacherPyramid
from waferlab.models.pyramid import Pyramid
from waferlab.wafer import NO_DIE


class Features(nn.Module):
    """The levels of a pyramid side by side, in one vector.

    Args:
        pyramid: of a network that is not trained any more.
        of: ``wafer``: mean and maximum of each channel over the dies; ``place``: each place of the finest level, to
            which the others are enlarged.
        standard: whether each channel is brought to mean 0 and variance 1 on normal wafers.

    Attributes:
        width: D, values of a vector.
    """

    def __init__(self, pyramid: Pyramid, of: Literal["wafer", "place"], standard: bool) -> None:
        super().__init__()
        self.levels = TeacherPyramid(pyramid, "standard" if standard else "unit")
        self.of, self.is_standard = of, standard
        self.width = sum(channels for channels, _, _ in pyramid.shapes) * (2 if of == "wafer" else 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Vectors (B, D) of wafers, or (B, h, w, D) of places, of maps (B, H, W) uint8."""
        levels = self.levels(maps)
        if self.of == "wafer":
            dies = (maps != NO_DIE).float()[:, None]
            return torch.cat([_pooled(level.float(), dies) for level in levels], 1)
        size = levels[0].shape[-2:]
        enlarged = [interpolate(level.float(), size, mode="bilinear", align_corners=False) for level in levels]
        return torch.cat(enlarged, 1).permute(0, 2, 3, 1)

    def standardise(self, batches: Sequence[Tensor]) -> None:
        """Learn the channels' scale from normal maps, batches of (B, H, W) uint8, where that is asked for."""
        if self.is_standard:
            self.levels.standardise(batches)


def _pooled(level: Tensor, dies: Tensor) -> Tensor:
    """(B, 2C) mean and maximum of a level (B, C, h, w) over the places with a die; 0 of a wafer without any."""
    there = interpolate(dies, level.shape[-2:], mode="bilinear", align_corners=False)
    mean = (level * there).sum((2, 3)) / there.sum((2, 3)).clamp_min(1e-6)
    highest = torch.where(there > 0, level, -torch.inf).amax((2, 3))
    return torch.cat([mean, torch.where(highest.isfinite(), highest, 0)], 1)
