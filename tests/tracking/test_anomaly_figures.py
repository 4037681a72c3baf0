"""What the figures of an anomaly run show."""

import numpy as np
import pytest

from waferlab.tracking import anomaly_figures as figures
from waferlab.wafer import FAIL, NO_DIE, PASS

WAFER = np.full((8, 8), PASS, np.uint8)
WAFER[0], WAFER[3, 2:6] = NO_DIE, FAIL
HEAT = np.where(WAFER == FAIL, 4.0, 0.5)


def shown(image) -> np.ndarray:
    return np.ma.filled(np.ma.masked_invalid(image.get_array()), 0)


def test_scores_of_both_kinds_are_shares_with_the_threshold_between_them() -> None:
    scores, is_abnormal = np.arange(10.0), np.arange(10) >= 5
    (axes,) = figures.score_histogram(scores, is_abnormal, 4.5).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["normal (5)", "abnormal (5)", "threshold"]
    assert axes.lines[0].get_xdata()[0] == 4.5


def test_without_a_threshold_none_is_drawn() -> None:
    (axes,) = figures.score_histogram(np.arange(4.0), np.array([False, False, True, True]), np.inf).axes
    assert not axes.lines


def test_each_score_has_a_mark_for_each_defect() -> None:
    metrics = {
        "detector": {"image/auroc": 0.9, "image/auroc/Donut": 0.95, "image/auroc/Loc": 0.85},
        "fail_share": {"image/auroc": 0.6, "image/auroc/Donut": 0.7, "image/auroc/Loc": 0.5},
    }
    figure = figures.auroc_by_defect(metrics)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Donut", "Loc"]
    assert [line.get_xdata().tolist() for line in axes.lines] == [pytest.approx([95, 85]), pytest.approx([70, 50])]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["detector", "fail share"]


def test_all_seven_scores_of_a_run_are_drawn() -> None:
    names = ("detector", "teacher", "a", "b", "c", "d", "e")
    assert len(figures.auroc_by_defect({name: {"image/auroc/Loc": 0.5} for name in names}).axes[0].lines) == 7


def test_abnormal_wafers_are_shown_from_the_middle_and_from_below_and_normal_ones_from_above() -> None:
    count = 40
    maps, heat = np.repeat(WAFER[None], count, 0), np.repeat(HEAT[None], count, 0)
    scores, is_abnormal = np.arange(float(count)), np.arange(count) % 2 == 0
    figure = figures.found_and_missed(maps, maps == FAIL, heat, scores, is_abnormal, 1.0)
    titles = [[axes.get_title() for axes in part.axes if axes.get_title()] for part in figure.subfigs]
    assert titles[0] == ["14", "16", "18", "20", "22", "24"]
    assert titles[1] == ["0", "2", "4", "6", "8", "10"]
    assert titles[2] == ["39", "37", "35", "33", "31", "29"]


@pytest.mark.parametrize(("threshold", "said"), [(2.0, "abnormal, score 2,500"), (9e9, "normal, score 2,500")])
def test_a_picture_says_what_the_decision_is_and_colours_abnormal_dies(threshold: float, said: str) -> None:
    figure = figures.overlay("wafer 7", WAFER, HEAT, 2500.0, threshold, 1.0)
    assert said in figure.get_suptitle()
    left, right = figure.axes
    np.testing.assert_array_equal(shown(left.images[1]) > 0, WAFER == FAIL)
    np.testing.assert_array_equal(shown(right.images[0]), np.where(WAFER == NO_DIE, 0, HEAT))


def test_a_picture_without_thresholds_is_drawn_too() -> None:
    figure = figures.overlay("wafer 7", WAFER, HEAT, 1.0, np.inf, np.inf)
    assert figure.get_suptitle() == "wafer 7: normal, score 1"
