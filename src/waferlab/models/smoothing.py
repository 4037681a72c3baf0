"""Averages over the dies around each die."""

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur


def smoothed(values: Tensor, dies: Tensor, sigma: float) -> Tensor:
    """Mean (B, H, W) of the values of the dies around each place, with Gaussian weights, 0 where there is no die.

    Args:
        values: (B, H, W) float, 0 where there is no die.
        dies: (B, H, W) bool.
        sigma: of the weights, in dies; 0 leaves the values as they are.
    """
    if not sigma:
        return values
    weights = _blurred(dies.float(), sigma).clamp_min(1e-3)
    return torch.where(dies, _blurred(values, sigma) / weights, 0)


def _blurred(maps: Tensor, sigma: float) -> Tensor:
    side = 2 * int(3 * sigma + 0.5) + 1
    blurred: Tensor = gaussian_blur(maps[:, None], [side, side], [sigma, sigma])[:, 0]
    return blurred
