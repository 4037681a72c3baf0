"""Scores against what normal wafers show."""

import pytest
import torch
from torch import Tensor

from waferlab.models.reference import Reference, Usual
from waferlab.models.scoring import Scoring
from waferlab.wafer import FAIL, NO_DIE, PASS

LEVELS = [torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0)), torch.full((2, 2, 2), 0.5)]
MAPS = torch.ones(2, 4, 4, dtype=torch.uint8)


def reference(**scoring: object) -> Reference:
    return Reference(Scoring(fusion="sum", reduction="max", **scoring), levels=2)  # type: ignore[arg-type]


class TestCalibration:
    def test_evens_out_levels_and_keeps_positions_apart(self) -> None:
        found = reference(calibration="level").learn(LEVELS, MAPS)
        assert torch.allclose(found.levels, torch.stack([LEVELS[0].mean(), torch.tensor(0.5)]))
        die_maps, _ = found(LEVELS, MAPS)
        assert torch.allclose(die_maps, LEVELS[0] / LEVELS[0].mean() + 1)

    def test_none_changes_nothing(self) -> None:
        assert reference(calibration="none").learn(LEVELS, MAPS).levels.tolist() == [1, 1]

    def test_a_level_on_which_student_and_teacher_always_agree_stays_finite(self) -> None:
        levels = [torch.zeros_like(level) for level in LEVELS]
        assert (reference(calibration="level").learn(levels, MAPS)(levels, MAPS)[0] == 0).all()


def wafers(sides: Tensor, shares: Tensor) -> Tensor:
    """Square wafers of these sides in a grid of 20, this share of whose dies fail."""
    maps = torch.full((len(sides), 20, 20), NO_DIE, dtype=torch.uint8)
    for wafer, side, share in zip(maps, sides.tolist(), shares.tolist(), strict=True):
        states = torch.full((side * side,), PASS, dtype=torch.uint8)
        states[: round(share * side * side)] = FAIL
        wafer[:side, :side] = states.view(side, side)
    return maps


class TestUsual:
    RANDOM = torch.Generator().manual_seed(0)
    MAPS = wafers(torch.randint(10, 21, (500,), generator=RANDOM), 0.3 * torch.rand(500, generator=RANDOM))
    SHARE = (MAPS == FAIL).flatten(1).sum(1) / (MAPS != NO_DIE).flatten(1).sum(1)
    SIZE = (MAPS != NO_DIE).flatten(1).sum(1).log()

    def learnt(self, scores: Tensor, maps: Tensor = MAPS) -> Usual:
        usual = Usual()
        usual.learn(scores, maps)
        return usual

    def test_takes_out_what_size_and_share_of_fails_explain(self) -> None:
        noise = torch.randn(500, generator=self.RANDOM)
        scores = 5 * self.SIZE + 20 * self.SHARE**2 + 0.1 * noise
        standing = self.learnt(scores)(scores, self.MAPS)
        assert torch.corrcoef(torch.stack([standing, noise]))[0, 1] > 0.99

    def test_counts_in_deviations_that_are_usual_for_such_a_wafer(self) -> None:
        scores = (0.1 + self.SHARE) * torch.randn(500, generator=self.RANDOM)
        standing = self.learnt(scores)(scores, self.MAPS)
        few, many = standing[self.SHARE < 0.1].std(), standing[self.SHARE > 0.2].std()
        assert 0.7 < few / many < 1.4

    def test_ranks_wafers_of_one_size_and_share_as_their_scores_do(self) -> None:
        maps = wafers(torch.full((50,), 12), torch.full((50,), 0.1))
        scores = torch.rand(50, generator=self.RANDOM)
        standing = self.learnt(scores, maps)(scores, maps)
        assert standing.argsort().tolist() == scores.argsort().tolist()
        assert standing.mean().abs() < 1e-3

    def test_compares_a_wafer_beyond_all_normal_ones_with_the_nearest_of_them(self) -> None:
        usual = self.learnt(20 * self.SHARE**2 + 0.1 * torch.randn(500, generator=self.RANDOM))
        edge, beyond = wafers(torch.tensor([20, 20]), torch.tensor([self.SHARE.max().item(), 1.0])).split(1)
        assert torch.allclose(usual(torch.ones(1), edge), usual(torch.ones(1), beyond), atol=0.05)

    def test_stays_finite_where_normal_wafers_all_score_the_same(self) -> None:
        assert self.learnt(torch.ones(500))(torch.tensor([1.0, 2.0]), self.MAPS[:2]).isfinite().all()

    def test_stays_finite_where_a_normal_wafer_has_no_die(self) -> None:
        maps = torch.cat([torch.full_like(self.MAPS[:1], NO_DIE), self.MAPS[1:]])
        scores = torch.rand(500, generator=self.RANDOM)
        assert self.learnt(scores, maps)(scores, maps).isfinite().all()

    @pytest.mark.parametrize("count", [1, 2, 5])
    def test_learns_from_few_wafers_what_it_can(self, count: int) -> None:
        scores = torch.rand(count, generator=self.RANDOM)
        assert self.learnt(scores, self.MAPS[:count])(scores, self.MAPS[:count]).isfinite().all()
