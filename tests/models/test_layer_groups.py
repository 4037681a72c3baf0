"""Layer groups: every parameter in one of them, the head last, whatever the network."""

import pytest
import timm
import torch
from torch import nn

from waferlab.models.layer_groups import body_modules, layer_groups, spaced
from waferlab.models.students import Compact, Net1

TIMM = ["resnet18", "convnext_atto", "vit_tiny_patch16_224", "mobilenetv3_small_050", "efficientnet_b0", "densenet121"]


@pytest.mark.parametrize("name", TIMM)
def test_of_timms_networks_are_their_stages(name: str) -> None:
    net = timm.create_model(name, num_classes=9)
    groups = layer_groups(net)
    assert sorted(key for group in groups for key in group) == sorted(dict(net.named_parameters()))
    assert len(groups) >= 5
    head = dict(net.named_parameters())[groups[-1][0]]
    assert head.shape[0] == 9
    assert len(groups[-1]) == 2, "weight and bias"
    first = next(iter(dict(net.named_parameters())))
    assert first in groups[0]


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "levit_128s", "pit_ti_224", "rdnet_tiny"])
def test_hold_every_parameter_of_networks_with_two_heads_or_odd_layers(name: str) -> None:
    with torch.device("meta"):
        net = timm.create_model(name, num_classes=9)
    groups = layer_groups(net)
    assert sorted(key for group in groups for key in group) == sorted(dict(net.named_parameters()))
    assert any(dict(net.named_parameters())[key].shape[0] == 9 for key in groups[-1])


@pytest.mark.parametrize(
    ("net", "groups", "head"),
    [
        (Net1(1, 9, (52, 52)), 6, ["14.weight", "14.bias"]),
        (Compact(2, 9, (52, 52), 8, (1, 1, 1)), 5, ["classify.weight", "classify.bias"]),
    ],
    ids=["Net1", "Compact"],
)
def test_of_our_own_networks_are_their_layers(net: nn.Module, groups: int, head: list[str]) -> None:
    found = layer_groups(net)
    assert len(found) == groups
    assert found[-1] == head
    assert sorted(key for group in found for key in group) == sorted(dict(net.named_parameters()))


@pytest.mark.parametrize("name", TIMM)
def test_the_body_is_all_but_the_head(name: str) -> None:
    net = timm.create_model(name, num_classes=9)
    body = set(body_modules(net))
    assert net.get_classifier() not in body
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    assert body.issuperset(norms)


def test_rates_grow_by_the_same_factor_to_the_head() -> None:
    assert spaced(1e-5, 1e-2, 4) == pytest.approx([1e-5, 1e-4, 1e-3, 1e-2])
    assert spaced(1e-5, 1e-2, 1) == [1e-2]
