"""The feature maps of a network at some of its levels: what anomaly detection compares."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from waferlab.errors import ConfigError
from waferlab.models.backbones import MISFIT
from waferlab.models.classifier import Classifier


class Pyramid(nn.Module):
    """A classifier's encoding and its network up to the coarsest of the levels; what lies behind it is dropped.

    Args:
        classifier: whose network has timm's ``forward_intermediates``; it is taken over, not copied.
        levels: timm's indices of feature maps, fine to coarse; for a ResNet, 0 is the stem and 1 to 4 are its stages.
        input_size: side in pixels to which the encoded maps are enlarged by nearest die, or None to leave them.

    Attributes:
        shapes: (C, H, W) of each level.

    Raises:
        ConfigError: the network has no such levels.
    """

    def __init__(self, classifier: Classifier, levels: Sequence[int], input_size: int | None = None) -> None:
        super().__init__()
        self.levels, self.input_size = tuple(levels), input_size
        net: Any = classifier.net
        if not hasattr(net, "forward_intermediates"):
            raise ConfigError(f"{type(net).__name__} has no feature levels; choose a backbone of timm's, or compact")
        try:
            net.prune_intermediate_layers(list(levels), prune_norm=True, prune_head=True)
            self.classifier = classifier
            self.train(classifier.training)
            self.shapes = self._shapes()
        except MISFIT as error:
            what = f"levels={list(levels)}, input_size={input_size}"
            raise ConfigError(f"{type(net).__name__} has no pyramid of {what}: {error}") from error

    def forward(self, maps: Tensor) -> list[Tensor]:
        """Feature maps (B, C, H, W) of maps (B, H, W) uint8, one a level."""
        return self._levels_of(self.classifier.encode(maps))

    def _levels_of(self, pixels: Tensor) -> list[Tensor]:
        if self.input_size is not None:
            pixels = interpolate(pixels, size=self.input_size, mode="nearest")
        net: Any = self.classifier.net
        levels: list[Tensor] = net.forward_intermediates(
            pixels, indices=list(self.levels), intermediates_only=True, stop_early=True
        )
        return levels

    @torch.no_grad()
    def _shapes(self) -> list[tuple[int, int, int]]:
        """(C, H, W) of each level, wherever the weights are."""
        training, device = self.training, next(self.parameters()).device
        channels = self.classifier.table.shape[1]
        found = self.eval()._levels_of(torch.zeros(1, channels, *self.classifier.size, device=device))
        self.train(training)
        return [(level.shape[1], level.shape[2], level.shape[3]) for level in found]
