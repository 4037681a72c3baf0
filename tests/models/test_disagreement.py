"""Two pyramids, position by position."""

import pytest
import torch

from waferlab.models.disagreement import Distance, disagreements, diversity


def test_unit_vectors_agree_whatever_their_length_and_disagree_by_2_between_opposites() -> None:
    one = torch.rand(2, 3, 4, 4) + 0.1
    (none, most) = disagreements([one, one], [3 * one, -one], "unit")
    assert torch.allclose(none, torch.zeros(2, 4, 4), atol=1e-6)
    assert torch.allclose(most, torch.full((2, 4, 4), 2.0))


def test_standard_features_disagree_by_half_their_mean_squared_difference() -> None:
    one = torch.rand(2, 3, 4, 4)
    (found,) = disagreements([one], [one + torch.tensor([1.0, 2.0, 3.0])[:, None, None]], "standard")
    assert torch.allclose(found, torch.full((2, 4, 4), (1 + 4 + 9) / 3 / 2))


@pytest.mark.parametrize("distance", ["unit", "standard"])
def test_diversity_is_0_where_every_map_gives_the_same_however_positions_differ(distance: Distance) -> None:
    random = torch.Generator().manual_seed(0)
    one, varied = torch.randn(1, 3, 4, 4, generator=random), torch.randn(9, 3, 4, 4, generator=random)
    collapsed, whole = diversity([one.expand(9, -1, -1, -1), varied], distance).tolist()
    assert collapsed == pytest.approx(0, abs=1e-6)
    assert 0.6 < whole < 1.1


def test_standard_features_that_shrink_to_nothing_have_no_diversity_left() -> None:
    varied = torch.randn(9, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert diversity([varied / 100], "standard").item() < 1e-3
