"""Feature levels of any network that has them."""

import pytest
import torch

from waferlab.config import ModelConfig
from waferlab.errors import ConfigError
from waferlab.models.classifier import Classifier
from waferlab.models.pyramid import Pyramid
from waferlab.wafer import DEFECTS


def classifier(**network: object) -> Classifier:
    torch.manual_seed(0)
    given = {"encoding": "die_fail"} | network
    return Classifier(ModelConfig.model_validate(given), DEFECTS, (52, 52)).eval()


def resnet() -> Classifier:
    return classifier(_target_="waferlab.models.backbones.timm_model", name="test_resnet")


def compact() -> Classifier:
    return classifier(_target_="waferlab.models.students.Compact", width=4, depths=[1, 2, 1])


MAPS = torch.randint(0, 3, (2, 52, 52), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("make", [resnet, compact])
def test_levels_are_what_the_network_computes_on_the_way(make: type) -> None:
    whole = make()
    with torch.no_grad():
        _, *expected = whole.net.forward_intermediates(whole.encode(MAPS), indices=[0, 1, 2], intermediates_only=True)
        found = Pyramid(make(), [1, 2])(MAPS)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_a_compact_pyramid_ends_in_what_its_classifier_reads() -> None:
    whole = compact()
    with torch.no_grad():
        (last,) = Pyramid(compact(), [2])(MAPS)
        assert torch.equal(last, whole.net.features(whole.encode(MAPS)))


@pytest.mark.parametrize("make", [resnet, compact])
def test_what_lies_behind_the_levels_is_dropped(make: type) -> None:
    sizes = [sum(p.numel() for p in Pyramid(make(), [level]).parameters()) for level in (0, 1, 2)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2] < sum(p.numel() for p in make().parameters())


def test_shapes_are_those_of_the_levels() -> None:
    pyramid = Pyramid(resnet(), [1, 2])
    assert [(2, *shape) for shape in pyramid.shapes] == [tuple(level.shape) for level in pyramid(MAPS)]


def test_maps_are_enlarged_by_nearest_die() -> None:
    small, large = Pyramid(resnet(), [1]).shapes, Pyramid(resnet(), [1], input_size=104).shapes
    assert [2 * side for side in small[0][1:]] == list(large[0][1:])


@pytest.mark.parametrize(
    ("network", "levels", "fault"),
    [(resnet, [9], r"ResNet has no pyramid of levels=\[9\]"), (compact, [3], "its levels are 0, 1 and 2")],
)
def test_levels_that_are_not_there_are_refused(network: type, levels: list[int], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        Pyramid(network(), levels)


def test_a_network_without_levels_is_refused() -> None:
    with pytest.raises(ConfigError, match="Net2 has no feature levels"):
        Pyramid(classifier(_target_="waferlab.models.students.Net2"), [0])
