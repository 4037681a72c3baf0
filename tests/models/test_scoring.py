"""From disagreements to die maps and scores."""

import pytest
import torch
from torch import Tensor

from waferlab.models.scoring import Scoring
from waferlab.wafer import FAIL, NO_DIE, PASS

DIES = torch.ones(2, 4, 4, dtype=torch.bool)
LEVELS = [torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0)), torch.full((2, 2, 2), 0.5)]


def plain(fusion: str = "sum") -> Scoring:
    return Scoring("none", fusion, 0, "max")  # type: ignore[arg-type]


class TestDieMaps:
    @pytest.mark.parametrize(
        ("fusion", "expected"),
        [("sum", LEVELS[0] + 0.5), ("product", LEVELS[0] * 0.5), ("max", LEVELS[0].clamp_min(0.5))],
    )
    def test_fusion(self, fusion: str, expected: Tensor) -> None:
        assert torch.allclose(plain(fusion).die_maps(LEVELS, DIES), expected)

    def test_nothing_where_there_is_no_die(self) -> None:
        dies = DIES.clone()
        dies[0, 0] = False
        assert (plain().die_maps(LEVELS, dies)[0, 0] == 0).all()

    def test_smoothing_spreads_and_does_not_leak_over_the_edge(self) -> None:
        level = torch.zeros(1, 9, 9)
        level[0, 4, 4] = 1
        dies = torch.ones(1, 9, 9, dtype=torch.bool)
        smooth = Scoring("none", "sum", 1.0).die_maps([level], dies)
        assert 0 < smooth[0, 4, 5] < smooth[0, 4, 4] < 1
        flat = Scoring("none", "sum", 1.0).die_maps([torch.ones(1, 9, 9)], dies)
        assert torch.allclose(flat, torch.ones(1, 9, 9), atol=1e-5)


class TestWaferScores:
    MAP = torch.arange(16.0).view(1, 4, 4)
    ALL = torch.ones(1, 4, 4, dtype=torch.bool)

    def test_max(self) -> None:
        assert Scoring(reduction="max").wafer_scores(self.MAP, self.ALL).tolist() == [15]

    def test_mean_of_the_top_share_of_dies(self) -> None:
        assert Scoring(top=0.25).wafer_scores(self.MAP, self.ALL).tolist() == [13.5]

    def test_the_share_is_of_the_wafers_own_dies(self) -> None:
        dies = self.ALL.clone()
        dies[0, 2:] = False
        assert Scoring(top=0.25).wafer_scores(self.MAP, dies).tolist() == [6.5]

    def test_a_wafer_without_a_die_scores_0(self) -> None:
        for reduction in ("max", "top"):
            scoring = Scoring(reduction=reduction)  # type: ignore[arg-type]
            assert scoring.wafer_scores(self.MAP, torch.zeros_like(self.ALL)).tolist() == [0]


class TestJudged:
    MAPS = torch.tensor([[[NO_DIE, PASS, FAIL]]], dtype=torch.uint8)
    DIE_MAPS = torch.tensor([[[0.0, 3.0, 4.0]]])
    SCORES = torch.tensor([2.0])

    def test_changes_nothing_unless_asked_to(self) -> None:
        assert Scoring().judged(self.DIE_MAPS, self.SCORES, self.MAPS).tolist() == [[[0, 3, 4]]]

    def test_passing_dies_count_for_their_share(self) -> None:
        assert Scoring(passing=0.5).judged(self.DIE_MAPS, self.SCORES, self.MAPS).tolist() == [[[0, 1.5, 4]]]

    def test_with_context_dies_of_an_abnormal_wafer_score_higher_and_none_below_0(self) -> None:
        scoring = Scoring(context=3.0)
        low, high = (scoring.judged(self.DIE_MAPS, torch.tensor([score]), self.MAPS)[0, 0] for score in (-50.0, 2.0))
        assert high.tolist() == pytest.approx([0, 9, 10], abs=1e-3)
        assert low.tolist() == pytest.approx([0, 0, 0], abs=1e-3)
        assert (low >= 0).all()


@pytest.mark.parametrize("wrong", [{"smoothing": -1}, {"top": 0}, {"top": 1.1}, {"context": -1}, {"passing": 2}])
def test_what_is_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Scoring(**wrong)  # type: ignore[arg-type]
