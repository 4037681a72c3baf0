"""Rankings of raw scores, against scikit-learn, against a written-out curve, and by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score, roc_curve

from waferlab.errors import WaferlabError
from waferlab.metrics.ranking import Ranked

Scored = tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]


@st.composite
def scored(draw: st.DrawFn) -> Scored:
    """Scores with many ties, at least one positive and one negative, and weights of the positives."""
    truth = [True, False, *draw(st.lists(st.booleans(), max_size=60))]
    numbers = st.integers(-4, 4).map(lambda number: number * 1.7)
    scores = draw(st.lists(numbers, min_size=len(truth), max_size=len(truth)))
    weights = draw(st.lists(st.floats(0.1, 9), min_size=len(truth), max_size=len(truth)))
    return np.array(scores), np.array(truth), np.array(weights)


def ranked(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> Ranked:
    return Ranked.of(scores[truth], scores[~truth])


class TestAgainstScikitLearn:
    @given(scored())
    def test_auroc(self, case: Scored) -> None:
        scores, truth, _ = case
        assert ranked(scores, truth).auroc() == pytest.approx(roc_auc_score(truth, scores))

    @given(scored())
    def test_average_precision(self, case: Scored) -> None:
        scores, truth, _ = case
        assert ranked(scores, truth).average_precision() == pytest.approx(average_precision_score(truth, scores))

    @given(scored())
    def test_best_f1_and_its_threshold(self, case: Scored) -> None:
        scores, truth, _ = case
        best, threshold = ranked(scores, truth).best_f1()
        assert best == pytest.approx(max(f1_score(truth, scores >= any_threshold) for any_threshold in scores))
        assert f1_score(truth, scores >= threshold) == pytest.approx(best)
        assert ranked(scores, truth).f1_at(threshold) == pytest.approx(best)


class TestTheThreshold:
    """Of the highest F1: apart from every score, so that a score that is computed elsewhere falls on the same side."""

    def test_lies_midway_to_the_next_lower_score(self) -> None:
        assert Ranked.of(np.array([3.0, 5.0]), np.array([1.0, 2.0])).best_f1() == (1.0, 2.5)
        assert Ranked.of(np.array([1.0, 5.0]), np.array([0.0, 2.0, 2.5, 3.0])).best_f1()[1] == 4.0

    def test_is_the_score_where_none_is_lower(self) -> None:
        assert Ranked.of(np.array([1.0, 2.0]), np.array([3.0])).best_f1()[1] == 1.0

    def test_is_the_score_where_no_number_lies_between(self) -> None:
        low = np.float32(1)
        high = np.nextafter(low, np.float32(2))
        assert Ranked.of(np.array([high]), np.array([low])).best_f1() == (1.0, high)


@given(scored(), st.floats(0.05, 1))
def test_the_area_up_to_a_rate_is_that_of_the_weighted_curve_drawn_point_by_point(case: Scored, limit: float) -> None:
    scores, truth, weights = case
    alarms, found, _ = roc_curve(truth, scores, sample_weight=np.where(truth, weights, 1), drop_intermediate=False)
    end = np.searchsorted(alarms, limit, side="right")
    if end < len(alarms):
        share = (limit - alarms[end - 1]) / (alarms[end] - alarms[end - 1])
        found = np.append(found[:end], found[end - 1] + share * (found[end] - found[end - 1]))
        alarms = np.append(alarms[:end], limit)
    area = np.trapezoid(found, alarms) / limit
    assert Ranked.of(scores[truth], scores[~truth], weights[truth]).auroc(limit) == pytest.approx(area)


class TestByHand:
    def test_perfect_and_worst(self) -> None:
        assert Ranked.of(np.array([2.0, 3.0]), np.array([0.0, 1.0])).auroc(0.3) == 1
        assert Ranked.of(np.array([0.0, 1.0]), np.array([2.0, 3.0])).auroc(0.3) == 0

    def test_ties_count_half(self) -> None:
        assert Ranked.of(np.array([1.0]), np.array([1.0])).auroc() == 0.5

    def test_a_tie_across_the_limit_counts_as_far_as_the_line_gets(self) -> None:
        # The curve is the diagonal; up to 0.5 its area is 1/8, over 0.5 that is 1/4.
        assert Ranked.of(np.array([1.0]), np.array([1.0, 1.0])).auroc(0.5) == 0.25

    def test_a_heavier_positive_weighs_more(self) -> None:
        scores = np.array([0.0, 2.0]), np.array([1.0])
        assert Ranked.of(*scores, np.array([3.0, 1.0])).auroc() == 0.25


@given(scored())
def test_only_the_order_matters(case: Scored) -> None:
    scores, truth, _ = case
    plain, bent = ranked(scores, truth), ranked(np.exp(scores) * 5 - 3, truth)
    assert (plain.auroc(0.4), plain.average_precision()) == pytest.approx((bent.auroc(0.4), bent.average_precision()))
    assert plain.best_f1()[0] == pytest.approx(bent.best_f1()[0])


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_refused(broken: float) -> None:
    with pytest.raises(WaferlabError, match="NaN or infinite"):
        Ranked.of(np.array([broken]), np.array([1.0]))


def test_one_class_alone_is_no_ranking() -> None:
    assert not Ranked.of(np.array([1.0]), np.array([])).is_defined
    assert not Ranked.of(np.array([]), np.array([1.0])).is_defined
