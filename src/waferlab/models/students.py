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


class Compact(nn.Module):
    """Our own family of students, made for accuracy per byte: residual depthwise-separable convolutions.

    A 3x3 convolution of stride 2, then three stages of `depth` blocks at 1/2, 1/4 and 1/8 of the map's size with
    `width`, 2 `width` and 4 `width` channels, and one linear layer on the mean and the maximum of each channel: the
    mean sees rings and fail rates, the maximum a scratch that covers few dies.

    Args:
        width: channels of the first stage.
        depth: blocks per stage, at least 1.
        fused: batch norms are folded into the convolutions: fewer weights, the same function, no longer for training.

    Raises:
        ValueError: width or depth is out of range.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        size: tuple[int, int],
        width: int = 16,
        depth: int = 2,
        fused: bool = False,
    ) -> None:
        if not 1 <= width <= 512 or not 1 <= depth <= 32:
            raise ValueError(f"width={width} and depth={depth}: width is 1 to 512, depth 1 to 32")
        super().__init__()
        self.arguments = {"width": width, "depth": depth, "fused": fused}
        self._build = (in_channels, num_classes, size)
        channels = [width, *([width] * depth), *([2 * width] * depth), *([4 * width] * depth)]
        strides = [1 + (block > 0 and block % depth == 0) for block in range(3 * depth)]
        self.features = nn.Sequential(
            _convolution(in_channels, width, 3, stride=2, fused=fused),
            nn.ReLU(),
            *(_Block(*pair, stride, fused) for pair, stride in zip(pairwise(channels), strides, strict=True)),
        )
        self.classify = nn.Linear(2 * channels[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of (B, channels, H, W)."""
        x = self.features(x)
        logits: Tensor = self.classify(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1))
        return logits

    def fuse(self) -> "Compact":
        """A copy with its batch norms folded into the convolutions before them."""
        if self.arguments["fused"]:
            return self
        copy = Compact(*self._build, **(self.arguments | {"fused": True}))
        for trained, folded in zip(_convolutions(self), _convolutions(copy), strict=True):
            convolution, norm = trained
            folded[0].weight, folded[0].bias = fuse_conv_bn_weights(
                convolution.weight, None, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
        copy.classify.load_state_dict(self.classify.state_dict())
        return copy


class _Block(nn.Module):
    """Depthwise 3x3, then pointwise convolution; added to the input where their shapes agree."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, fused: bool) -> None:
        super().__init__()
        self.residual = stride == 1 and in_channels == out_channels
        self.depthwise = _convolution(in_channels, in_channels, 3, stride, groups=in_channels, fused=fused)
        self.pointwise = _convolution(in_channels, out_channels, 1, fused=fused)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.pointwise(self.depthwise(x).relu())
        return (x + y if self.residual else y).relu()


class _Convolution(nn.Sequential):
    """A convolution and its batch norm, or a convolution with a bias into which the norm is folded."""


def _convolution(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1, *, fused: bool
) -> _Convolution:
    convolution = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=fused)
    return _Convolution(convolution) if fused else _Convolution(convolution, nn.BatchNorm2d(out_channels))


def _convolutions(network: nn.Module) -> list[_Convolution]:
    return [module for module in network.modules() if isinstance(module, _Convolution)]
