"""Metrics of one class a map, against scikit-learn, and what several views come to."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss, roc_auc_score

from waferlab.data.single_label import defect_scores, vote
from waferlab.errors import WaferlabError
from waferlab.metrics.single_label import confusion, single_label_metrics, temperature

CLASSES = ("Normal", "Center", "Scratch")


@pytest.fixture(scope="module")
def logits() -> NDArray[np.float64]:
    return np.random.default_rng(0).normal(size=(200, 3)) * 2


@pytest.fixture(scope="module")
def labels(logits: NDArray[np.float64]) -> NDArray[np.uint8]:
    noisy = logits + np.random.default_rng(1).normal(size=logits.shape) * 2
    return np.eye(3, dtype=np.uint8)[noisy.argmax(1)]


def test_are_those_of_scikit_learn(logits: NDArray[np.float64], labels: NDArray[np.uint8]) -> None:
    found = single_label_metrics(logits, labels, CLASSES, 0)
    true, answer, probabilities = labels.argmax(1), logits.argmax(1), softmax(logits, 1)
    assert found.values["accuracy"] == pytest.approx(accuracy_score(true, answer))
    assert found.values["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(true, answer))
    assert found.values["macro_f1"] == pytest.approx(f1_score(true, answer, average="macro"))
    assert found.values["f1/Scratch"] == pytest.approx(f1_score(true, answer, average=None)[2])
    assert found.values["log_loss"] == pytest.approx(log_loss(true, probabilities))
    assert found.values["auroc"] == pytest.approx(roc_auc_score(true > 0, 1 - probabilities[:, 0]))
    assert found.undefined == ()


def test_a_class_that_nobody_has_or_names_is_undefined_and_left_out_of_the_mean() -> None:
    logits, labels = np.eye(3)[[0, 1, 1]], np.eye(3, dtype=np.uint8)[[0, 1, 0]]
    found = single_label_metrics(logits, labels, CLASSES, 0)
    assert {"precision/Scratch", "recall/Scratch", "f1/Scratch"} == set(found.undefined)
    assert found.values["macro_f1"] == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert confusion(logits.argmax(1), labels.argmax(1), 3).tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_scores_of_sure_defects_are_no_ties() -> None:
    scores = defect_scores(np.array([[0.0, 60, 0], [0, 0, 61], [0, 900, 900]]), 0)
    assert scores[0] < scores[1] < scores[2]
    one = np.array([[0.3, -1.2, 0.5]])
    assert scores.shape == (3,)
    assert defect_scores(one, 0)[0] == pytest.approx(np.log((1 - softmax(one)[0, 0]) / softmax(one)[0, 0]))


def test_labels_of_several_defects_are_refused(logits: NDArray[np.float64]) -> None:
    with pytest.raises(WaferlabError, match="task=mixed_type"):
        single_label_metrics(logits, np.ones((200, 3), np.uint8), CLASSES, 0)


@pytest.mark.parametrize("overconfident", [0.3, 1.0, 4.0])
def test_temperature_finds_how_overconfident_logits_are(overconfident: float) -> None:
    random = np.random.default_rng(0)
    true = random.normal(size=(20_000, 3))
    labels = np.eye(3, dtype=np.uint8)[[random.choice(3, p=each) for each in softmax(true, 1)]]
    assert temperature(true[None] * overconfident, labels) == pytest.approx(overconfident, rel=0.1)


@pytest.mark.parametrize("rule", ["mean", "majority"])
@pytest.mark.parametrize("maps", [20, 2000])
def test_temperature_makes_nothing_surer_than_so_many_maps_allow(maps: int, rule: str) -> None:
    labels = np.eye(2, dtype=np.uint8)[np.arange(maps) % 2]
    views = np.stack([(labels * 2.0 - 1) * margin for margin in (1, 2, 3, 4)])  # all right, and by far
    found = vote(views / temperature(views, labels, rule), rule)
    assert softmax(found, 1).max(1) == pytest.approx((maps + 1) / (maps + 2), abs=2e-3)


class TestVote:
    views = np.log([[[0.9, 0.1]], [[0.45, 0.55]], [[0.45, 0.55]]])  # two of three views say class 1, but faintly

    def test_mean_of_probabilities(self) -> None:
        assert softmax(vote(self.views, "mean"), 1)[0] == pytest.approx([0.6, 0.4])

    def test_majority_of_answers(self) -> None:
        assert vote(self.views, "majority").argmax() == 1

    def test_a_tie_goes_to_the_higher_mean(self) -> None:
        assert vote(self.views[:2], "majority").argmax() == 0

    @pytest.mark.parametrize("rule", ["mean", "majority"])
    def test_of_one_view_is_its_answer(self, rule: str, logits: NDArray[np.float64]) -> None:
        assert (vote(logits[None], rule).argmax(1) == logits.argmax(1)).all()
