"""Small networks for devices with kilobytes of memory: input (B, channels, H, W) float, output (B, classes) logits."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


class Net1(nn.Sequential):
    """The larger student of Shukla et al. (arXiv 2303.13974), in the reading that gives its 60 K parameters and 248 KB.

    Three valid 5x5 convolutions of 6, 16 and 32 channels, each with ReLU and 2x2 max-pooling, then linear layers of
    120, 84 and `num_classes`. With one channel, 52x52 dies and 8 classes: 60,928 parameters.

    Raises:
        ValueError: maps are too small for three valid convolutions (under 36x36 dies).
    """

    def __init__(self, in_channels: int, num_classes: int, size: tuple[int, int]) -> None:
        features = 32 * _flattened(size, kernel=5, pools=(2, 2, 2))
        super().__init__(
            *(nn.Conv2d(in_channels, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 5), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(features, 120), nn.ReLU()),
            *(nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, num_classes)),
        )


class Net2(nn.Sequential):
    """The smaller student of Shukla et al. (arXiv 2303.13974), in the reading that gives its 4 K parameters and 21 KB.

    Two valid 5x5 convolutions of 6 and 16 channels with ReLU, max-pooling of 4 and then 2, and one linear layer. With
    one channel, 52x52 dies and 8 classes: 4,628 parameters.

    Raises:
        ValueError: maps are too small for both convolutions (under 28x28 dies).
    """

    def __init__(self, in_channels: int, num_classes: int, size: tuple[int, int]) -> None:
        features = 16 * _flattened(size, kernel=5, pools=(4, 2))
        super().__init__(
            *(nn.Conv2d(in_channels, 6, 5), nn.ReLU(), nn.MaxPool2d(4)),
            *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(features, num_classes)),
        )


def _flattened(size: tuple[int, int], kernel: int, pools: tuple[int, ...]) -> int:
    """Positions left of a map after valid convolutions, each followed by max-pooling."""
    height, width = size
    for pool in pools:
        height, width = (height - kernel + 1) // pool, (width - kernel + 1) // pool
    if height < 1 or width < 1:
        raise ValueError(f"maps of {size[0]}x{size[1]} dies are too small for this student; use student=compact")
    return height * width
