"""Deep features: of a wafer, its dies alone; of places, every level on the finest one."""

from typing import Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from waferlab.config import ModelConfig
from waferlab.data.dataset import Dataset
from waferlab.models.classifier import Classifier
from waferlab.models.normality.features import Features, _pooled
from waferlab.models.pyramid import Pyramid
from waferlab.wafer import DEFECTS, NO_DIE


def features(of: Literal["wafer", "place"], standard: bool = False, levels: tuple[int, ...] = (0, 1, 2)) -> Features:
    torch.manual_seed(0)
    plain = {"_target_": "waferlab.models.students.Compact", "width": 4, "depths": [1, 1, 1], "encoding": "die_fail"}
    classifier = Classifier(ModelConfig.model_validate(plain), DEFECTS, (52, 52))
    return Features(Pyramid(classifier, levels), of, standard)


@pytest.fixture
def maps(tiny_dataset: Dataset) -> Tensor:
    return torch.from_numpy(tiny_dataset.part("val").maps[:12])


def by_hand(level: NDArray[np.float32], share: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean and maximum (2C,) of a level (C, h, w), each place by its share (h, w) of dies."""
    inside = share > 0
    means = [np.average(channel[inside], weights=share[inside]) for channel in level]
    return np.array([*means, *(channel[inside].max() for channel in level)], np.float32)


class TestOfWafers:
    def test_are_mean_and_maximum_of_each_channel_over_the_dies(self, maps: Tensor) -> None:
        made = features("wafer")
        shares = [
            interpolate((maps != NO_DIE).float()[:, None], level.shape[-2:], mode="bilinear")[:, 0]
            for level in made.levels(maps)
        ]
        for row, found in enumerate(made(maps)):
            expected = [
                by_hand(level[row].numpy(), share[row].numpy())
                for level, share in zip(made.levels(maps), shares, strict=True)
            ]
            np.testing.assert_allclose(found, np.concatenate(expected), atol=1e-5)

    @pytest.mark.parametrize("side", [8, 4])
    def test_do_not_look_at_what_lies_outside_the_wafer(self, side: int) -> None:
        dies, level = torch.zeros(1, 1, 8, 8), torch.randn(1, 3, side, side)
        dies[..., :4] = 1
        other = level.clone()
        other[..., side // 2 :] = 1e6
        assert torch.equal(_pooled(other, dies), _pooled(level, dies))
        assert torch.equal(_pooled(level, dies)[0, 3:], level[0, :, :, : side // 2].amax((1, 2)))

    def test_are_as_many_as_the_features_say(self, maps: Tensor) -> None:
        made = features("wafer")
        assert made(maps).shape == (len(maps), made.width)
        assert made.width == 2 * sum(channels for channels, _, _ in made.levels.pyramid.shapes)


class TestOfPlaces:
    def test_lie_on_the_finest_level_whose_channels_come_first(self, maps: Tensor) -> None:
        made = features("place")
        finest, *_, coarsest = made.levels(maps)
        found = made(maps).permute(0, 3, 1, 2)
        assert found.shape == (len(maps), made.width, *finest.shape[-2:])
        assert torch.equal(found[:, : finest.shape[1]], finest)
        enlarged = interpolate(coarsest, finest.shape[-2:], mode="bilinear")
        assert torch.allclose(found[:, -coarsest.shape[1] :], enlarged, atol=1e-6)


@pytest.mark.parametrize("of", ["wafer", "place"])
class TestOfEither:
    def test_are_finite_for_a_wafer_without_a_die_and_for_one_with_a_single_die(
        self, of: Literal["wafer", "place"]
    ) -> None:
        empty = torch.zeros(2, 52, 52, dtype=torch.uint8)
        empty[1, 0, 51] = 2
        assert features(of)(empty).isfinite().all()

    def test_are_never_trained(self, of: Literal["wafer", "place"], maps: Tensor) -> None:
        made = features(of, standard=True)
        assert not any(parameter.requires_grad for parameter in made.parameters())
        assert not made(maps).requires_grad


class TestStandard:
    def test_channels_have_mean_0_and_variance_1_on_the_wafers_they_are_standardised_on(self, maps: Tensor) -> None:
        made, raw = features("place", standard=True, levels=(0,)), features("place", levels=(0,))(maps)
        made.standardise(maps.split(5))
        variance, mean = torch.var_mean(made(maps), (0, 1, 2), correction=0)
        assert mean.abs().max() < 1e-4
        spread = raw.var((0, 1, 2), correction=0)
        assert torch.allclose(variance, spread / (spread + 1e-3), atol=1e-3)

    def test_is_left_alone_where_it_is_not_asked_for(self, maps: Tensor) -> None:
        made = features("wafer")
        before = made(maps)
        made.standardise((maps,))
        assert torch.equal(made(maps), before)
