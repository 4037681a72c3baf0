import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk

from waferlab.errors import WaferlabError
from waferlab.metrics.multilabel import accuracy_by_pattern, multilabel_metrics, pattern_confusion
from waferlab.wafer import DEFECTS, PATTERNS, pattern_labels, pattern_name

AB = ("A", "B")
few = settings(max_examples=30, deadline=None)


@pytest.fixture
def scored():
    """600 maps of the 38 patterns and logits that are right most of the time."""
    rng = np.random.default_rng(0)
    labels = pattern_labels()[rng.integers(0, 38, 600)]
    return (4 * labels - 2 + 1.5 * rng.normal(size=labels.shape)).astype(np.float32), labels


@st.composite
def evaluations(draw):
    """Any labels with distinct logits, some of the shapes with a single class or a single map."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 4)))
    labels = draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, 1)))
    logits = draw(hnp.arrays(np.float64, shape, elements=st.integers(-20, 20)))
    return logits + 0.5, labels, tuple("ABCD"[: shape[1]])


def test_a_hand_solved_case():
    logits = np.array([[3.0, -1.0], [-1.0, -2.0], [1.0, 2.0], [2.0, 1.0]])
    labels = np.array([[1, 0], [1, 0], [0, 1], [1, 1]], np.uint8)
    values = multilabel_metrics(logits, labels, AB).values
    assert values["exact_match"] == 2 / 4
    assert values["exact_match_macro"] == pytest.approx((1 / 2 + 0 + 1) / 3)  # A: one of two; B: none; A+B: one of one
    assert values["hamming_loss"] == 2 / 8
    assert values["precision/A"] == pytest.approx(2 / 3)
    assert values["recall/A"] == pytest.approx(2 / 3)
    assert values["f1/B"] == 1
    assert values["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)
    assert values["micro_f1"] == pytest.approx(8 / 10)  # 4 true positives, 1 false positive, 1 false negative
    assert values["auroc/A"] == pytest.approx(2 / 3)  # of the pairs (3, 1), (-1, 1), (2, 1) two are in order
    assert values["average_precision/A"] == pytest.approx((1 / 1 + 2 / 2 + 3 / 4) / 3)
    assert values["exact_match/defects_1"] == pytest.approx(1 / 3)
    assert values["exact_match/defects_2"] == 1
    assert "exact_match/defects_0" not in values


def test_the_figures_are_scikit_learns(scored):
    logits, labels = scored
    predicted = (logits > 0).astype(int)
    result = multilabel_metrics(logits, labels, DEFECTS)
    expected = {
        "exact_match": sk.accuracy_score(labels, predicted),
        "hamming_loss": sk.hamming_loss(labels, predicted),
        "micro_f1": sk.f1_score(labels, predicted, average="micro"),
        "macro_f1": sk.f1_score(labels, predicted, average="macro"),
        "macro_auroc": sk.roc_auc_score(labels, logits, average="macro"),
        "mean_average_precision": sk.average_precision_score(labels, logits, average="macro"),
        "precision/Scratch": sk.precision_score(labels[:, 6], predicted[:, 6]),
        "recall/Scratch": sk.recall_score(labels[:, 6], predicted[:, 6]),
        "auroc/Random": sk.roc_auc_score(labels[:, 7], logits[:, 7]),
    }
    assert {name: result.values[name] for name in expected} == pytest.approx(expected)
    assert result.undefined == ()


def test_ranking_tells_apart_logits_that_a_sigmoid_would_round_to_one():
    logits = np.array([[60.0], [80.0], [70.0], [90.0]], np.float32)
    labels = np.array([[0], [1], [0], [1]], np.uint8)
    assert multilabel_metrics(logits, labels, ("A",)).values["auroc/A"] == 1


def test_undefined_metrics_are_listed_and_left_out_of_the_means():
    logits = np.array([[1.0, -1.0, 2.0], [-1.0, -2.0, 1.0]])
    labels = np.array([[1, 0, 1], [0, 0, 1]], np.uint8)  # B never occurs and is never predicted, C always occurs
    result = multilabel_metrics(logits, labels, ("A", "B", "C"))
    assert set(result.undefined) == {
        "precision/B", "recall/B", "f1/B", "auroc/B", "average_precision/B", "auroc/C",
    }  # fmt: skip
    assert not set(result.undefined) & set(result.values)
    assert result.values["macro_f1"] == 1
    assert result.values["macro_auroc"] == 1


def test_a_defect_that_is_missed_or_invented_altogether_scores_zero():
    logits, labels = np.array([[-1.0, 1.0], [-1.0, 1.0]]), np.array([[1, 0], [0, 0]], np.uint8)
    result = multilabel_metrics(logits, labels, AB)
    assert (result.values["f1/A"], result.values["f1/B"]) == (0, 0)
    assert (result.values["recall/A"], result.values["precision/B"]) == (0, 0)
    assert {"precision/A", "recall/B"} <= set(result.undefined)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused(scored, bad):
    logits, labels = scored
    logits[[7, 30], 2] = bad
    with pytest.raises(WaferlabError, match=r"2 of 600 maps, first for map 7"):
        multilabel_metrics(logits, labels, DEFECTS)


@pytest.mark.parametrize("shape", [(600, 7), (599, 8), (600,)])
def test_logits_of_another_shape_are_refused(scored, shape):
    with pytest.raises(WaferlabError, match="same classes"):
        multilabel_metrics(np.zeros(shape), scored[1], DEFECTS)


def test_an_empty_evaluation_is_refused():
    with pytest.raises(WaferlabError, match="not empty"):
        multilabel_metrics(np.zeros((0, 2)), np.zeros((0, 2), np.uint8), AB)


@few
@given(evaluations())
def test_every_metric_is_either_a_number_from_0_to_1_or_undefined(evaluation):
    logits, labels, classes = evaluation
    result = multilabel_metrics(logits, labels, classes)
    assert all(type(value) is float and 0 <= value <= 1 for value in result.values.values())
    per_class = {f"{metric}/{name}" for metric in ("precision", "recall", "f1", "auroc") for name in classes}
    assert per_class <= set(result.values) | set(result.undefined)


@few
@given(evaluations())
def test_a_perfect_predictor_is_perfect(evaluation):
    _, labels, classes = evaluation
    values = multilabel_metrics(labels - 0.5, labels, classes).values
    assert values.pop("hamming_loss") == 0
    assert set(values.values()) == {1.0}


@few
@given(evaluations(), st.randoms(use_true_random=False))
def test_the_order_of_the_maps_does_not_matter(evaluation, random):
    logits, labels, classes = evaluation
    order = np.array(random.sample(range(len(labels)), len(labels)))
    shuffled = multilabel_metrics(logits[order], labels[order], classes)
    assert shuffled.values == pytest.approx(multilabel_metrics(logits, labels, classes).values)


@few
@given(evaluations())
def test_the_order_of_the_classes_does_not_matter(evaluation):
    logits, labels, classes = evaluation
    mirrored = multilabel_metrics(logits[:, ::-1], labels[:, ::-1], classes[::-1])
    assert mirrored.values == pytest.approx(multilabel_metrics(logits, labels, classes).values)


@few
@given(evaluations())
def test_an_increasing_transform_that_keeps_0_changes_nothing(evaluation):
    logits, labels, classes = evaluation
    cubed = multilabel_metrics(logits**3, labels, classes)
    assert cubed == multilabel_metrics(logits, labels, classes)


@few
@given(evaluations(), st.integers(1, 50))
def test_a_shift_leaves_the_ranking_metrics_alone(evaluation, shift):
    logits, labels, classes = evaluation
    before, after = (multilabel_metrics(scores, labels, classes).values for scores in (logits, logits + shift))
    ranking = [name for name in before if name.startswith(("auroc", "average_precision", "macro_auroc", "mean_"))]
    assert [after[name] for name in ranking] == [before[name] for name in ranking]


def test_accuracy_by_pattern_names_and_counts_the_true_patterns(scored):
    logits, labels = scored
    by_pattern = accuracy_by_pattern(logits, labels, DEFECTS)
    assert set(by_pattern) == {"+".join(pattern) or "Normal" for pattern in PATTERNS}
    names = np.array([pattern_name(row) for row in labels])
    right = ((logits > 0) == labels).all(1)
    for name, (accuracy, count) in by_pattern.items():
        assert count == (names == name).sum()
        assert accuracy == pytest.approx(right[names == name].mean())


def test_patterns_come_with_the_fewest_defects_first_and_then_in_class_order():
    labels = np.array([[1, 1], [0, 1], [0, 0], [1, 0]], np.uint8)
    assert pattern_confusion(labels - 0.5, labels, AB).names == ("Normal", "A", "B", "A+B")


def test_confusion_puts_unknown_combinations_into_the_last_column():
    labels = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], np.uint8)
    logits = np.array([[1, -1], [-1, 1], [1, 1], [-1, -1]], np.float32)  # A, B, A+B, Normal
    confusion = pattern_confusion(logits, labels, AB)
    assert confusion.names == AB
    assert confusion.counts.tolist() == [[1, 1, 1], [0, 0, 1]]


@few
@given(evaluations())
def test_confusion_counts_each_map_once_and_its_diagonal_is_the_accuracy(evaluation):
    logits, labels, classes = evaluation
    counts = pattern_confusion(logits, labels, classes).counts
    assert counts.sum() == len(labels)
    exact_match = multilabel_metrics(logits, labels, classes).values["exact_match"]
    assert np.trace(counts[:, :-1]) / len(labels) == pytest.approx(exact_match)
