"""How far a student's features are from those it is asked for, at each position of a level."""

from collections.abc import Callable, Sequence
from typing import Final, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

#: How features (B, C, H, W) are compared: as ``unit`` vectors over the channels, as the papers have it, or as they are
#: (``standard``), for features whose channels have mean 0 and variance 1 on normal wafers.
Distance = Literal["unit", "standard"]
_COMPARED: Final[dict[Distance, Callable[[Tensor], Tensor]]] = {
    "unit": lambda features: normalize(features.float()),
    "standard": lambda features: features.float() / features.shape[1] ** 0.5,
}


def disagreements(student: Sequence[Tensor], targets: Sequence[Tensor], distance: Distance) -> list[Tensor]:
    """Half the squared distance at each position: (B, H, W) float32, not negative, a level; for ``unit`` at most 2."""
    compared = _COMPARED[distance]
    pairs = zip(student, targets, strict=True)
    return [(compared(one) - compared(other)).square().sum(1) / 2 for one, other in pairs]


def diversity(
    levels: Sequence[Tensor], distance: Distance, mean: Callable[[Tensor], Tensor] = lambda maps: maps.mean(0)
) -> Tensor:
    """How much the features of each level vary from map to map.

    The mean over positions of the squared distance from their mean over maps: 0 where all maps give the same, as after
    a collapse. There must be two maps at least.

    Args:
        mean: over the maps of a batch, (B, …) to (…): where these are a share of them, it is told how.
    """
    return torch.stack([_variance(_COMPARED[distance](level), mean) for level in levels])


def _variance(features: Tensor, mean: Callable[[Tensor], Tensor]) -> Tensor:
    return mean((features - mean(features)).square().sum(1)).mean()
