"""What scores wafers, and their dies where it can: detectors by distillation, and models of normality."""

import math
from abc import ABC, abstractmethod
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from waferlab.models.classifier import require_maps
from waferlab.models.reference import Reference
from waferlab.models.scoring import Scoring

#: Pixels of a batch: networks on a CPU slow down where their features leave its caches.
_BATCH: Final = 2**18
#: Of normal wafers, so many teach what is usual; of more, some that are spread evenly among them.
_ENOUGH: Final = 4096


class AnomalyModel(nn.Module, ABC):
    """From maps to distances from normal, and from these to scores of wafers and of dies, higher for abnormal.

    Args:
        size: (H, W) of the maps.
        side: in pixels, of what its network sees, where that is not the maps' size.

    Attributes:
        reference: from distances to die maps and scores, against what normal wafers show; chosen by `use`.
        thresholds: (2,) scores from which on a wafer, and a die, count as abnormal; infinite until they are chosen.
    """

    reference: Reference
    thresholds: Tensor

    def __init__(self, size: tuple[int, int], side: int | None = None) -> None:
        super().__init__()
        self.size = size
        self.pixels = math.prod(size) if side is None else side**2
        self.register_buffer("thresholds", torch.full((2,), torch.inf))

    @property
    @abstractmethod
    def levels(self) -> int:
        """Number of levels on which distances are measured."""

    @property
    @abstractmethod
    def knows_dies(self) -> bool:
        """Whether it has die maps."""

    @abstractmethod
    def forward(self, maps: Tensor) -> list[Tensor]:
        """Distances of maps (B, H, W) uint8, as a `Reference` takes them."""

    def use(self, scoring: Scoring) -> None:
        """Score in this way from now on, once it is calibrated."""
        self.reference = Reference(scoring, self.levels).to(self.device)

    @torch.inference_mode()
    def calibrate(self, maps: NDArray[np.uint8]) -> None:
        """Learn from normal wafers (N, H, W) uint8 what distance is usual."""
        self.eval()
        batches = self.split(spread(maps))
        levels = [torch.cat(level) for level in zip(*map(self, batches), strict=True)]
        self.reference.learn(levels, torch.cat(batches))

    def judge(self, maps: Tensor) -> tuple[Tensor | None, Tensor]:
        """Die maps (B, H, W), or None where it knows nothing of dies, and scores (B,) of maps (B, H, W) uint8."""
        return self.reference(self(maps), maps)  # type: ignore[no-any-return]

    @torch.inference_mode()
    def predict(self, maps: NDArray[np.uint8]) -> tuple[NDArray[np.float32] | None, NDArray[np.float32]]:
        """Die maps (N, H, W), or None where it knows nothing of dies, and scores (N,) of maps (N, H, W) uint8.

        Raises:
            WaferlabError: maps of another size or type, or with states other than 0, 1 and 2.
        """
        require_maps(maps, self.size)
        self.eval()
        found = [self.judge(batch) for batch in self.split(maps)]
        scores = torch.cat([score for _, score in found]).cpu().numpy()
        die_maps = [die_map for die_map, _ in found if die_map is not None]
        return torch.cat(die_maps).cpu().numpy() if die_maps else None, scores

    def split(self, maps: NDArray[np.uint8]) -> tuple[Tensor, ...]:
        """Batches (B, H, W) uint8 where the weights are; one without a map where there is none."""
        return torch.split(torch.from_numpy(maps).to(self.device), max(1, _BATCH // self.pixels))

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.thresholds.device


def spread(maps: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Of many maps (N, H, W), some that are spread evenly among them."""
    return maps[:: -(-len(maps) // _ENOUGH) or 1]
