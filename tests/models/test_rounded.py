"""Weights of few bits: whole steps of their rows, which learn as if they were not rounded."""

import pytest
import torch
from torch import nn

from waferlab.models.rounded import keep_rounded, round_weights
from waferlab.models.students import Compact


def steps(weights: torch.Tensor, bits: int) -> torch.Tensor:
    """Weights (rows, …) in units of their row's step."""
    flat = weights.detach().flatten(1)
    return flat / flat.abs().amax(1, keepdim=True) * (2 ** (bits - 1) - 1)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_they_are_whole_steps_near_what_they_were(bits: int) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 5, 3)
    before = layer.weight.detach().clone()
    round_weights(layer, bits)
    found = steps(layer.weight, bits)
    torch.testing.assert_close(found, found.round(), atol=1e-3, rtol=0)
    assert (found - steps(before, bits)).abs().max() <= 0.5 + 1e-3


def test_they_learn_as_if_they_were_not_rounded() -> None:
    layer = nn.Linear(4, 2, bias=False)
    round_weights(layer, 2)
    layer(torch.arange(4.0)).sum().backward()
    (given,) = layer.parameters()
    assert given.grad is not None
    assert given.grad.tolist() == [[0, 1, 2, 3]] * 2


def test_what_is_kept_is_the_rounded_network_with_its_batch_norms_folded_in() -> None:
    torch.manual_seed(0)
    network = Compact(1, 3, (16, 16), width=4, depths=(1, 1, 1))
    round_weights(network, 4)
    maps = torch.rand(8, 1, 16, 16)
    network(maps)
    before = network.eval()(maps)
    names = {*Compact(1, 3, (16, 16), width=4, depths=(1, 1, 1)).state_dict()}
    keep_rounded(network)
    assert {*network.state_dict()} == names
    fused = network.fuse()
    torch.testing.assert_close(fused(maps), before, atol=1e-5, rtol=1e-4)
    for module in fused.modules():
        if isinstance(module, nn.Conv2d):
            found = steps(module.weight, 4)
            torch.testing.assert_close(found, found.round(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("bits", [1, 9])
def test_other_numbers_of_bits_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match=f"weight_bits={bits}"):
        round_weights(nn.Linear(1, 1), bits)
