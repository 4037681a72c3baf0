"""How often maps of small classes are shown."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from waferlab.data.oversampling import Oversampling

CLASSES = torch.tensor([0] * 100 + [1] * 30 + [2] * 4)


def shown(power: float, seed: int = 0) -> torch.Tensor:
    """How often each map is shown in an epoch."""
    order = Oversampling(CLASSES, power).order(torch.Generator().manual_seed(seed))
    return torch.bincount(order, minlength=len(CLASSES))


@pytest.mark.parametrize(("power", "counts"), [(0.0, [100, 30, 4]), (0.5, [100, 55, 20]), (1.0, [100, 100, 100])])
def test_shares_of_classes_follow_the_power(power: float, counts: list[int]) -> None:
    times = shown(power)
    assert [int(times[each == CLASSES].sum()) for each in range(3)] == counts
    assert len(Oversampling(CLASSES, power)) == sum(counts)


@given(power=st.floats(0, 1), seed=st.integers(0, 100))
def test_no_map_of_a_class_is_shown_more_than_once_more_than_another(power: float, seed: int) -> None:
    times = shown(power, seed)
    for each in range(3):
        of_class = times[each == CLASSES]
        assert of_class.min() >= 1
        assert of_class.max() - of_class.min() <= 1


def test_epochs_differ_and_are_repeatable() -> None:
    sampling = Oversampling(CLASSES, 0.5)
    first, second = (sampling.order(torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert not torch.equal(first, second)
    assert torch.equal(first, sampling.order(torch.Generator().manual_seed(0)))


def test_a_class_without_maps_is_no_fault() -> None:
    assert len(Oversampling(torch.tensor([0, 0, 2]), 1.0)) == 4
