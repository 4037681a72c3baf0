"""From the disagreement of each level to one map of dies and one number a wafer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate, softplus

from waferlab.models.smoothing import smoothed
from waferlab.wafer import FAIL, NO_DIE

#: Of levels (L, B, H, W).
_FUSIONS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "product": lambda levels: levels.prod(0),
    "sum": lambda levels: levels.sum(0),
    "max": lambda levels: levels.amax(0),
}


@dataclass(frozen=True)
class Scoring:
    """How levels are compared with normal wafers, put together, and summed up.

    The published score is the maximum of the levels' product: ``Scoring("none", "product", 0, "max")``.

    Attributes:
        calibration: each level as it is (``none``), or over its mean on normal wafers (``level``).
        fusion: what becomes of the levels, enlarged to the map's size: their ``product``, ``sum`` or ``max``.
        smoothing: sigma of a Gaussian over the map, in dies; 0 for none.
        reduction: a wafer's score: its ``max``, or the mean of its highest dies (``top``).
        top: share of the wafer's dies that ``top`` takes, in (0, 1].
        conditional: a wafer's score as its distance from what is usual for normal wafers with as many dies and as many
            fails, in usual deviations: features of large and of noisy wafers are harder to predict, whether or not they
            have a defect.
        context: weight of the wafer's score in that of each of its dies: where all fails of an abnormal wafer count as
            abnormal dies (mask ``fail``), the wafer says more of a die than its neighbourhood does. 0 for none.
        passing: what the score of a passing die counts for, in [0, 1]: 0 where only failing dies can be abnormal.
    """

    calibration: Literal["none", "level"] = "none"
    fusion: Literal["product", "sum", "max"] = "sum"
    smoothing: float = 0.0
    reduction: Literal["max", "top"] = "top"
    top: float = 0.05
    conditional: bool = False
    context: float = 0.0
    passing: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if self.smoothing < 0:
            raise ValueError(f"smoothing={self.smoothing} is a distance in dies: 0 or more")
        if not 0 < self.top <= 1:
            raise ValueError(f"top={self.top} is a share of a wafer's dies: above 0, at most 1")
        if self.context < 0:
            raise ValueError(f"context={self.context} is a weight: 0 or more")
        if not 0 <= self.passing <= 1:
            raise ValueError(f"passing={self.passing} is a share: 0 to 1")

    def die_maps(self, levels: Sequence[Tensor], dies: Tensor) -> Tensor:
        """(B, H, W) float32, higher for abnormal, 0 where there is no die.

        Args:
            levels: disagreements (B, h, w), one a level, calibrated where that is asked for.
            dies: (B, H, W) bool.
        """
        size = dies.shape[-2:]
        stacked = torch.stack(
            [interpolate(level[:, None], size, mode="bilinear", align_corners=False)[:, 0] for level in levels]
        )
        fused = torch.where(dies, _FUSIONS[self.fusion](stacked), 0)
        return smoothed(fused, dies, self.smoothing)

    def wafer_scores(self, die_maps: Tensor, dies: Tensor) -> Tensor:
        """(B,) float32, higher for abnormal, of die maps (B, H, W); 0 of a wafer without a die."""
        flat = torch.where(dies, die_maps, -torch.inf).flatten(1).sort(1, descending=True).values
        count = dies.flatten(1).sum(1).clamp_min(1)
        taken = torch.ones_like(count) if self.reduction == "max" else (self.top * count).ceil().long()
        place = torch.arange(flat.shape[1], device=flat.device)
        return torch.where((place < taken[:, None]) & flat.isfinite(), flat, 0).sum(1) / taken

    def judged(self, die_maps: Tensor, scores: Tensor, maps: Tensor) -> Tensor:
        """Die maps (B, H, W) in the light of the wafers' scores (B,) and of what the dies (B, H, W) uint8 are."""
        if self.context:
            die_maps = softplus(die_maps + self.context * scores[:, None, None])
        counts = torch.where(maps == FAIL, 1.0, self.passing)
        return torch.where(maps == NO_DIE, 0, counts * die_maps)
