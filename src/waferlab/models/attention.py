"""Attention on one level of a feature pyramid: what stands between the teacher's features and the student's target.

The efficient dual attention module is that of Hasan, Yu and Khan Mirani (IEEE TSM 37(3), 2024) as their released code
has it: a position branch of external attention (Guo et al. 2021), linear in the number of positions, beside a channel
branch of channel self-attention (DANet, Fu et al. 2019) under an ECA gate (Wang et al. 2020), summed.
"""

import torch
from timm.layers import create_attn
from torch import Tensor, nn


def _block(channels: int) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU."""
    convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU())


class PositionAttention(nn.Module):
    """External attention: positions are compared with a learned memory instead of with each other.

    Args:
        channels: of the features; the memory has as many slots.
        temperature: of the softmax over positions.
    """

    def __init__(self, channels: int, temperature: float = 2.0) -> None:
        super().__init__()
        self.temperature = temperature
        self.enter = _block(channels)
        self.query = nn.Conv2d(channels, channels, 1)
        self.keys = nn.Conv1d(channels, channels, 1, bias=False)
        self.values = nn.Conv1d(channels, channels, 1, bias=False)
        self.values.weight.data = self.keys.weight.data.transpose(0, 1).clone()
        self.mix = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels))
        self.leave = nn.Sequential(_block(channels), nn.Dropout2d(0.1), nn.Conv2d(channels, channels, 1))

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        answer: Tensor = self.leave(self.mix(self.values(self.weights(features)).view_as(features)))
        return answer

    def weights(self, features: Tensor) -> Tensor:
        """How much each slot of the memory attends to each position: (B, C, H * W), each slot's add up to 1."""
        query = self.query(self.enter(features)).flatten(2)
        return torch.softmax(self.keys(query) / self.temperature, dim=-1)


class ChannelAttention(nn.Module):
    """Channels compared with each other, added with a learned weight that begins at 0, under an ECA gate."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = _block(channels)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.gate = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        features = self.enter(features)
        flat = features.flatten(2)
        likeness = flat @ flat.transpose(1, 2)
        weights = torch.softmax(likeness.amax(-1, keepdim=True) - likeness, dim=-1)
        attended = self.gamma * (weights @ flat).view_as(features) + features
        gate: Tensor = torch.sigmoid(self.gate(features.mean((2, 3))[:, None]))
        return attended * gate[:, 0, :, None, None]


class DualAttention(nn.Module):
    """Both branches, summed: (B, C, H, W) to the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.position, self.channel = PositionAttention(channels), ChannelAttention(channels)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        answer: Tensor = self.position(features) + self.channel(features)
        return answer


def timm_attention(channels: int, name: str) -> nn.Module:
    """An attention module of timm's, by the name that its models know it by: ``eca``, ``se``, ``cbam``, …

    Raises:
        ValueError: timm has none of that name.
    """
    try:
        module: nn.Module | None = create_attn(name, channels)
    except AssertionError:
        module = None
    if module is None:
        raise ValueError(f"timm has no attention '{name}'; try eca, se, cbam, gc or ge")
    return module
