"""Transforms: bytes come back as bytes whatever lies between, and dies stay the dies they are."""

import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from waferlab.data.transforms import require_moves, transformed
from waferlab.errors import ConfigError, WaferlabError

IMAGES = torch.randint(256, (5, 6, 7, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
TO_FRACTIONS = v2.ToDtype(torch.float32, scale=True)


class TestImages:
    def test_come_back_from_fractions_as_they_were(self) -> None:
        assert torch.equal(transformed(IMAGES, TO_FRACTIONS), IMAGES)

    def test_are_transformed_each_by_itself_and_keep_their_shape(self) -> None:
        assert torch.equal(transformed(IMAGES, v2.RandomHorizontalFlip(1.0)), IMAGES.flip(2))

    @pytest.mark.parametrize(
        "wrong", [nn.Sequential(TO_FRACTIONS, v2.Normalize([0.5], [0.1])), v2.ToDtype(torch.int32)]
    )
    def test_that_are_neither_bytes_nor_fractions_are_refused(self, wrong: nn.Module) -> None:
        with pytest.raises(WaferlabError, match=r"transforms yield torch\.\w+ from .* leave out what standardises"):
            transformed(IMAGES, wrong)


class TestMaps:
    @pytest.mark.parametrize(
        "geometric",
        [v2.RandomRotation(20), v2.RandomAffine(10, (0.1, 0.1)), v2.RandomVerticalFlip(), v2.RandomErasing(1)],
    )
    def test_may_be_moved(self, geometric: nn.Module) -> None:
        require_moves(geometric, "transforms.moved", (9, 9))

    @pytest.mark.parametrize(
        "wrong",
        [
            v2.ColorJitter(brightness=0.2), v2.RandomInvert(), v2.GaussianBlur(3), v2.RandomPosterize(1),
            v2.RandomAffine(10, interpolation=v2.InterpolationMode.BILINEAR),
        ],
    )  # fmt: skip
    def test_of_other_dies_are_refused(self, wrong: nn.Module) -> None:
        with pytest.raises(ConfigError, match=r"transforms\.light: on wafer maps a transform may move dies"):
            require_moves(wrong, "transforms.light", (9, 9))

    def test_that_a_transform_does_not_take_are_a_sentence(self) -> None:
        with pytest.raises(ConfigError, match=r"transforms\.grey: it can't be applied to wafer maps"):
            require_moves(v2.RGB(), "transforms.grey", (9, 9))

    def test_are_tried_without_a_trace_in_the_random_numbers(self) -> None:
        before = torch.random.get_rng_state()
        require_moves(v2.RandomRotation(20), "transforms.moved", (9, 9))
        assert torch.equal(torch.random.get_rng_state(), before)
