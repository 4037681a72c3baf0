"""Small networks for devices with kilobytes of memory: input (B, channels, H, W) float, output (B, classes) logits."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


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

    A 3x3 convolution of stride 2, then three stages of blocks at 1/2, 1/4 and 1/8 of the map's size with `width`,
    2 `width` and 4 `width` channels, and one linear layer on the mean and the maximum of each channel: the mean sees
    rings and fail rates, the maximum a scratch that covers few dies.

    Args:
        width: channels of the first stage; multiples of 8 suit CPUs best.
        depths: blocks of each stage, at least 1.
        fused: batch norms are folded into the convolutions: fewer weights, the same function, no longer for training.

    Raises:
        ValueError: width or depths are out of range.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        size: tuple[int, int],
        width: int = 16,
        depths: tuple[int, int, int] = (2, 2, 2),
        fused: bool = False,
    ) -> None:
        if not 1 <= width <= 512 or not all(1 <= depth <= 32 for depth in depths):
            raise ValueError(f"width={width} and depths={list(depths)}: width is 1 to 512, each depth 1 to 32")
        super().__init__()
        self.arguments: dict[str, Any] = {"width": width, "depths": depths, "fused": fused}
        self._shapes = (in_channels, num_classes, size)
        channels = [width]
        strides = []
        for stage, depth in enumerate(depths):
            channels += [width * 2**stage] * depth
            strides += [2 if stage else 1, *([1] * (depth - 1))]
        self.features: nn.Sequential = nn.Sequential(
            _Convolution(in_channels, width, 3, stride=2, fused=fused),
            nn.ReLU(),
            *(_Block(*pair, stride, fused) for pair, stride in zip(pairwise(channels), strides, strict=True)),
        )
        self.classify: nn.Module = nn.Linear(2 * channels[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of (B, channels, H, W)."""
        if self.training:
            x = x.to(memory_format=torch.channels_last)  # two thirds of the time on a CPU
        x = self.features(x)
        logits: Tensor = self.classify(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1))
        return logits

    def forward_intermediates(self, x: Tensor, indices: Sequence[int], **_: bool) -> list[Tensor]:
        """The outputs of some of the three stages, as timm's networks give theirs with ``intermediates_only=True``."""
        levels = {end: stage for stage, end in enumerate(accumulate(self.arguments["depths"], initial=1)) if stage}
        found = []
        for place, module in enumerate(self.features):
            x = module(x)
            if levels.get(place, 0) - 1 in indices:
                found.append(x)
        return found

    def prune_intermediate_layers(self, indices: Sequence[int], **_: bool) -> None:
        """Drop what lies behind the last of the stages wanted, as timm's networks do.

        Raises:
            ValueError: there is no such stage.
        """
        if not indices or min(indices) < 0 or max(indices) >= len(self.arguments["depths"]):
            raise ValueError("its levels are 0, 1 and 2")
        end = 2 + sum(self.arguments["depths"][: max(indices) + 1])
        self.features = self.features[:end]
        self.classify = nn.Identity()

    def fuse(self) -> "Compact":
        """A copy with its batch norms folded into the convolutions before them."""
        copy = Compact(*self._shapes, **{**self.arguments, "fused": True})
        for trained, folded in zip(_convolutions(self), _convolutions(copy), strict=True):
            folded.load_state_dict(trained.folded())
        copy.classify.load_state_dict(self.classify.state_dict())
        return copy

    @torch.no_grad()
    def unfuse(self, x: Tensor) -> "Compact":
        """A copy for further training: batch norms that change nothing; in training, where inputs are like `x`."""
        copy = Compact(*self._shapes, **{**self.arguments, "fused": False})
        pairs = zip(_convolutions(self), _convolutions(copy), strict=True)
        hooks = [folded.register_forward_hook(fresh.unfold) for folded, fresh in pairs]
        self(x)
        for hook in hooks:
            hook.remove()
        copy.classify.load_state_dict(self.classify.state_dict())
        return copy


class _Block(nn.Module):
    """Depthwise 3x3, then pointwise convolution; added to the input where their shapes agree."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, fused: bool) -> None:
        super().__init__()
        self.residual = stride == 1 and in_channels == out_channels
        self.depthwise = _Convolution(in_channels, in_channels, 3, stride, groups=in_channels, fused=fused)
        self.pointwise = _Convolution(in_channels, out_channels, 1, fused=fused)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.pointwise(self.depthwise(x).relu())
        return (x + y if self.residual else y).relu()


class _Convolution(nn.Sequential):
    """A convolution and its batch norm, or a convolution with a bias into which the norm is folded."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1, *, fused: bool
    ) -> None:
        convolution = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=fused)
        super().__init__(convolution, *([] if fused else [nn.BatchNorm2d(out_channels)]))

    def folded(self) -> dict[str, Tensor]:
        """The state of the same convolution with its norm folded in."""
        return nn.Sequential(fuse_conv_bn_eval(*self.eval()) if len(self) == 2 else self[0]).state_dict()

    def unfold(self, folded: nn.Sequential, _: object, output: Tensor) -> None:
        """Become the convolution that gave this output, with a norm that scales back to what it takes away."""
        norm, given = self[1], folded.state_dict()
        assert isinstance(norm, nn.BatchNorm2d)
        variance, mean = torch.var_mean(output, (0, 2, 3), correction=0)
        before = {"1.running_mean": mean - given["0.bias"], "1.running_var": variance}
        after = {"1.weight": (variance + norm.eps).sqrt(), "1.bias": mean}
        self.load_state_dict({**self.state_dict(), "0.weight": given["0.weight"], **before, **after})


def _convolutions(network: nn.Module) -> list[_Convolution]:
    return [module for module in network.modules() if isinstance(module, _Convolution)]
