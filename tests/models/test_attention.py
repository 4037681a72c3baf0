"""The efficient dual attention module: its size, and what each half does."""

import pytest
import torch
from torch import Tensor

from waferlab.models.attention import ChannelAttention, DualAttention, PositionAttention, timm_attention


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def features() -> Tensor:
    return torch.randn(2, 8, 5, 7)


@pytest.mark.parametrize(("channels", "parameters"), [(64, 131_716), (128, 525_572), (256, 2_099_716)])
def test_its_size_is_that_of_the_released_code(channels: int, parameters: int) -> None:
    assert sum(parameter.numel() for parameter in DualAttention(channels).parameters()) == parameters


@pytest.mark.parametrize("kind", [PositionAttention, ChannelAttention, DualAttention])
def test_features_keep_their_shape(kind: type[torch.nn.Module], features: Tensor) -> None:
    assert kind(8)(features).shape == features.shape


def test_dual_is_the_sum_of_its_halves(features: Tensor) -> None:
    dual = DualAttention(8).eval()
    assert torch.allclose(dual(features), dual.position(features) + dual.channel(features))


class TestPosition:
    def test_the_second_memory_begins_as_the_transpose_of_the_first(self) -> None:
        attention = PositionAttention(8)
        assert torch.equal(attention.values.weight[:, :, 0], attention.keys.weight[:, :, 0].T)

    def test_weights_add_up_to_one_over_positions(self, features: Tensor) -> None:
        attention = PositionAttention(8).eval()
        assert torch.allclose(attention.weights(features).sum(-1), torch.ones(2, 8), atol=1e-5)

    def test_a_higher_temperature_makes_them_more_alike(self, features: Tensor) -> None:
        attention = PositionAttention(8, temperature=0.1).eval()
        sharp = attention.weights(features).amax()
        attention.temperature = 100.0
        assert attention.weights(features).amax() < sharp


class TestChannel:
    def test_before_training_only_the_gate_is_at_work(self, features: Tensor) -> None:
        attention = ChannelAttention(8).eval()
        entered = attention.enter(features)
        gate = torch.sigmoid(attention.gate(entered.mean((2, 3))[:, None]))[:, 0, :, None, None]
        assert torch.allclose(attention(features), entered * gate)

    def test_its_scale_mixes_channels_by_the_softmax_of_their_unlikeness(self, features: Tensor) -> None:
        attention = ChannelAttention(8).eval()
        attention.gamma.data.fill_(0.5)
        entered = attention.enter(features)
        gate = torch.sigmoid(attention.gate(entered.mean((2, 3))[:, None]))[:, 0, :, None, None]
        for wafer, expected_gate, found in zip(entered, gate, attention(features), strict=True):
            flat = wafer.flatten(1)
            unlike = torch.stack([(row @ flat.T).max() - row @ flat.T for row in flat])
            mixed = (unlike.softmax(1) @ flat).view_as(wafer)
            assert torch.allclose(found, (0.5 * mixed + wafer) * expected_gate, atol=1e-5)


def test_a_name_that_timm_does_not_know_is_answered_with_some_that_it_does() -> None:
    with pytest.raises(ValueError, match="timm has no attention 'wrong'; try eca"):
        timm_attention(8, "wrong")
