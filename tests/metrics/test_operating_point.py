"""Thresholds: each rule does what it says, against trying every threshold there is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from waferlab.errors import WaferlabError
from waferlab.metrics.operating_point import (
    F1,
    Argmax,
    Cost,
    FalsePositiveRate,
    Recall,
    bootstrap,
    false_positive_rates,
    rates_at,
)

SCORES = np.array([0.1, 0.2, 0.2, 0.4, 0.5, 0.7, 0.8, 0.9])
DEFECT = np.array([0, 0, 1, 0, 1, 0, 1, 1], bool)

judged = st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=2, max_size=30).filter(
    lambda rows: len({truth for _, truth in rows}) == 2
)


def split(rows: list[tuple[int, bool]]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    return np.array([score for score, _ in rows], float), np.array([truth for _, truth in rows])


def every(scores: NDArray[np.float64], is_defect: NDArray[np.bool_]) -> dict[float, dict[str, float]]:
    """What each threshold comes to."""
    return {threshold: rates_at(threshold, scores, is_defect) for threshold in [*set(scores.tolist()), np.inf]}


class TestRecall:
    def test_is_met_with_the_fewest_false_alarms(self) -> None:
        assert Recall(0.75)(SCORES, DEFECT) == pytest.approx(0.45), "midway between two scores"
        assert Recall(1.0)(SCORES, DEFECT) == pytest.approx(0.15)

    @given(rows=judged, share=st.floats(0.01, 1))
    def test_is_the_highest_threshold_that_meets_it(self, rows: list[tuple[int, bool]], share: float) -> None:
        scores, is_defect = split(rows)
        meets = [threshold for threshold, rates in every(scores, is_defect).items() if rates["recall"] >= share]
        found = Recall(share)(scores, is_defect)
        assert rates_at(found, scores, is_defect) == rates_at(max(meets), scores, is_defect)


class TestFalsePositiveRate:
    def test_finds_the_most_that_it_allows(self) -> None:
        assert FalsePositiveRate(0.25)(SCORES, DEFECT) == pytest.approx(0.45)
        assert FalsePositiveRate(0.0)(SCORES, DEFECT) == pytest.approx(0.75)

    def test_that_cannot_be_met_is_a_sentence(self) -> None:
        with pytest.raises(
            WaferlabError, match=r"operating_point.at_most=0.1 can't be met: .* a false positive rate of 0.25"
        ):
            FalsePositiveRate(0.1)(-SCORES, DEFECT)

    @given(rows=judged, share=st.floats(0, 0.99))
    def test_no_allowed_threshold_finds_more(self, rows: list[tuple[int, bool]], share: float) -> None:
        scores, is_defect = split(rows)
        allowed = [rates for rates in every(scores, is_defect).values() if rates["false_positive_rate"] <= share]
        most = max(rates["recall"] for rates in allowed)
        if most == 0:
            with pytest.raises(WaferlabError, match="can't be met"):
                FalsePositiveRate(share)(scores, is_defect)
            return
        rates = rates_at(FalsePositiveRate(share)(scores, is_defect), scores, is_defect)
        assert rates["false_positive_rate"] <= share
        assert rates["recall"] == most


class TestCost:
    def test_dear_misses_lower_the_threshold(self) -> None:
        thresholds = [Cost(missed=missed)(SCORES, DEFECT) for missed in (0.01, 1, 100)]
        assert thresholds == sorted(thresholds, reverse=True)
        assert thresholds[0] == pytest.approx(0.75)
        assert thresholds[-1] == pytest.approx(0.15)

    def test_rare_defects_raise_it(self) -> None:
        assert Cost(10, 1, share=0.001)(SCORES, DEFECT) > Cost(10, 1, share=0.5)(SCORES, DEFECT)

    @given(rows=judged, missed=st.floats(0.1, 10))
    def test_no_threshold_is_cheaper(self, rows: list[tuple[int, bool]], missed: float) -> None:
        scores, is_defect = split(rows)

        def cost(threshold: float) -> float:
            return missed * float((is_defect & (scores < threshold)).sum()) + float(
                (~is_defect & (scores >= threshold)).sum()
            )

        cheapest = min(map(cost, every(scores, is_defect)))
        assert cost(Cost(missed, 1)(scores, is_defect)) == pytest.approx(cheapest)


@given(rows=judged)
def test_no_threshold_has_a_higher_f1(rows: list[tuple[int, bool]]) -> None:
    scores, is_defect = split(rows)
    best = max(rates["f1"] for rates in every(scores, is_defect).values())
    assert rates_at(F1()(scores, is_defect), scores, is_defect)["f1"] == pytest.approx(best)


def test_argmax_has_no_threshold() -> None:
    assert np.isnan(Argmax()(SCORES, DEFECT))


@pytest.mark.parametrize("rule", [Recall(), FalsePositiveRate(), Cost(), F1()], ids=repr)
@pytest.mark.parametrize(("truth", "said"), [(True, "defects alone"), (False, "good ones alone")])
def test_one_kind_alone_is_a_sentence(rule: Recall, truth: bool, said: str) -> None:
    with pytest.raises(WaferlabError, match=said):
        rule(SCORES, np.full(8, truth))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Recall(0), lambda: Recall(1.1), lambda: FalsePositiveRate(1), lambda: FalsePositiveRate(-0.1),
        lambda: Cost(missed=0), lambda: Cost(share=1),
    ],
)  # fmt: skip
def test_a_wish_that_makes_no_sense_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"share|costs"):
        wrong()  # type: ignore[operator]


def test_false_alarms_at_a_recall_are_the_fewest() -> None:
    assert false_positive_rates(SCORES, DEFECT) == {
        "fpr_at_tpr/95": 0.75, "fpr_at_tpr/99": 0.75, "fpr_at_tpr/99.7": 0.75, "fpr_at_tpr/100": 0.75
    }  # fmt: skip


def test_shares_of_nothing_are_undefined() -> None:
    rates = rates_at(2.0, SCORES, np.zeros(8, bool))
    assert rates["false_positive_rate"] == 0
    assert np.isnan([rates["recall"], rates["precision"], rates["f1"]]).all()


class TestBootstrap:
    def test_covers_the_truth_as_often_as_it_says(self) -> None:
        random = np.random.default_rng(0)
        covered = 0
        for seed in range(200):
            hits = random.random(100) < 0.7
            low, high = bootstrap(lambda rows, hits=hits: float(hits[rows].mean()), 100, repeats=200, seed=seed)  # type: ignore[misc]
            covered += low <= 0.7 <= high
        assert 0.88 <= covered / 200 <= 0.99

    def test_leaves_out_what_is_undefined(self) -> None:
        assert np.isnan(bootstrap(lambda _: np.nan, 10, repeats=5)).all()
        values = iter([np.nan, 1.0, np.nan, 3.0])
        assert bootstrap(lambda _: next(values), 10, level=0.999999, repeats=4) == pytest.approx((1, 3), abs=1e-4)
