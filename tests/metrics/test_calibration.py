import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import expit, logit
from scipy.stats import entropy
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from waferlab.errors import WaferlabError
from waferlab.metrics.calibration import BETAS, calibration_metrics, pseudo_label_error, reliability
from waferlab.metrics.multilabel import multilabel_metrics

few = settings(max_examples=30, deadline=None)


def evaluations():
    """Logits, saturated ones among them, and labels of one shape."""
    return hnp.array_shapes(min_dims=2, max_dims=2, max_side=8).flatmap(
        lambda shape: st.tuples(
            hnp.arrays(np.float32, shape, elements=st.floats(-200, 200, width=32)),
            hnp.arrays(np.uint8, shape, elements=st.integers(0, 1)),
        )
    )


@pytest.fixture
def scored():
    rng = np.random.default_rng(0)
    logits = 3 * rng.normal(size=(4000, 8))
    return logits, (rng.random(logits.shape) < expit(logits)).astype(np.uint8)


def test_expected_calibration_error_of_a_hand_solved_case():
    logits = logit(np.array([[0.9, 0.9], [0.9, 0.9], [0.2, 0.2]]))
    labels = np.array([[1, 1], [1, 0], [0, 0]], np.uint8)
    metrics = calibration_metrics(logits, labels)
    assert metrics["expected_calibration_error"] == pytest.approx(4 / 6 * (0.9 - 0.75) + 2 / 6 * 0.2)
    assert metrics["brier_score"] == pytest.approx((3 * 0.01 + 0.81 + 2 * 0.04) / 6)
    assert metrics["prediction_entropy"] == pytest.approx(
        (4 * entropy([0.9, 0.1]) + 2 * entropy([0.2, 0.8])) / 6 / np.log(2)
    )


def test_the_curve_and_the_brier_score_are_scikit_learns(scored):
    logits, labels = scored
    curve = reliability(logits, labels)
    observed, predicted = calibration_curve(labels.ravel(), expit(logits).ravel(), n_bins=15)
    np.testing.assert_allclose(curve.observed, observed)
    np.testing.assert_allclose(curve.predicted, predicted)
    brier = brier_score_loss(labels.ravel(), expit(logits).ravel())
    assert calibration_metrics(logits, labels)["brier_score"] == pytest.approx(brier)


def test_labels_drawn_from_the_probabilities_are_calibrated_and_sharper_logits_are_not(scored):
    logits, labels = scored
    assert calibration_metrics(logits, labels)["expected_calibration_error"] < 0.01
    assert calibration_metrics(3 * logits, labels)["expected_calibration_error"] > 0.05


def test_entropy_is_one_bit_at_probability_one_half_and_none_where_the_model_is_sure():
    labels = np.array([[1, 0]], np.uint8)
    assert calibration_metrics(np.zeros((1, 2)), labels)["prediction_entropy"] == pytest.approx(1)
    assert calibration_metrics(np.array([[900.0, -900.0]]), labels)["prediction_entropy"] == 0


def test_empty_bins_are_left_out_and_probability_1_falls_into_the_last():
    curve = reliability(np.array([[900.0, -900.0, 900.0]]), np.array([[1, 0, 0]], np.uint8))
    assert curve.predicted.tolist() == [0, 1]
    assert curve.observed.tolist() == [0, 0.5]
    assert curve.count.tolist() == [1, 2]


@few
@given(evaluations())
def test_calibration_metrics_are_numbers_from_0_to_1_and_the_bins_hold_every_bit(evaluation):
    logits, labels = evaluation
    assert all(0 <= value <= 1 for value in calibration_metrics(logits, labels).values())
    assert reliability(logits, labels).count.sum() == labels.size


def test_pseudo_label_error_of_a_hand_solved_case():
    logits = logit(np.array([[0.6, 0.1], [0.3, 0.9]]))
    labels = np.array([[1, 0], [1, 1]], np.uint8)
    error = pseudo_label_error(logits, labels, np.array([0.2, 0.5, 0.95]))
    assert error.per_bit.tolist() == [0, 1 / 4, 3 / 4]
    assert error.per_map.tolist() == [0, 1 / 2, 1]


def test_default_betas_run_from_5_to_95_percent(scored):
    error = pseudo_label_error(*scored)
    np.testing.assert_allclose(error.betas, np.arange(5, 100, 5) / 100)
    assert error.per_bit.argmin() == error.per_bit.size // 2  # calibrated probabilities are best cut at one half
    assert BETAS.shape == error.per_bit.shape == error.per_map.shape


@few
@given(evaluations())
def test_at_one_half_pseudo_labels_err_as_the_predictions_do(evaluation):
    logits, labels = np.where(np.abs(evaluation[0]) < 1e-3, -1, evaluation[0]), evaluation[1]
    error = pseudo_label_error(logits, labels, np.array([0.5]))
    values = multilabel_metrics(logits, labels, tuple(map(str, range(labels.shape[1])))).values
    assert error.per_bit[0] == pytest.approx(values["hamming_loss"])
    assert error.per_map[0] == pytest.approx(1 - values["exact_match"])


@few
@given(evaluations())
def test_a_map_is_wrong_at_least_as_often_as_a_bit(evaluation):
    error = pseudo_label_error(*evaluation)
    assert (error.per_map >= error.per_bit - 1e-12).all()


@pytest.mark.parametrize("function", [calibration_metrics, reliability, pseudo_label_error])
def test_nan_is_refused(function):
    with pytest.raises(WaferlabError, match="NaN or infinite"):
        function(np.array([[np.nan, 1.0]]), np.array([[0, 1]], np.uint8))
