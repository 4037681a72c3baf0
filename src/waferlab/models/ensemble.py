"""Several classifiers that answer as one."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from waferlab.models.classifier import Classifier


class Ensemble(nn.Module):
    """The mean of its members' logits; they read the same maps, have the same classes, and are on the first's device.

    Args:
        members: one or more.
    """

    def __init__(self, members: Sequence[Classifier]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members).to(next(members[0].parameters()).device)

    def forward(self, maps: Tensor) -> Tensor:
        """Logits (B, C) of maps (B, H, W) uint8."""
        return torch.stack([member(maps) for member in self.members]).mean(0)

    @property
    def parameters_count(self) -> int:
        """Number of trained parameters of all members."""
        return sum(p.numel() for p in self.parameters())
