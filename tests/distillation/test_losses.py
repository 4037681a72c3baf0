"""Each loss against its formula, written out with the logarithm's definition."""

import math

import pytest
import torch
from torch import Tensor

from waferlab.data.batches import Batch
from waferlab.distillation.losses import Distillation, Hinton, LogitDistillation, Supervised

STUDENT = torch.tensor([[0.3, -1.2], [2.0, 0.0]])
TEACHER = torch.tensor([[1.5, -0.4], [-0.2, 3.0]])
LABELS = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
MAPS = torch.zeros(2, 4, 4, dtype=torch.uint8)


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def cross_entropy(logits: Tensor, targets: Tensor) -> float:
    """Mean of -t log p - (1 - t) log (1 - p), one bit after the other."""
    pairs = zip(map(sigmoid, logits.flatten().tolist()), targets.flatten().tolist(), strict=True)
    return sum(-t * math.log(p) - (1 - t) * math.log(1 - p) for p, t in pairs) / logits.numel()


def squared_error() -> float:
    pairs = zip(STUDENT.flatten().tolist(), TEACHER.flatten().tolist(), strict=True)
    return sum((s - t) ** 2 for s, t in pairs) / STUDENT.numel()


def batch(labels: Tensor | None = None, teacher: Tensor | None = None) -> Batch:
    return Batch(MAPS, labels, teacher)


def test_supervised_is_the_cross_entropy_with_the_labels() -> None:
    assert Supervised()(STUDENT, batch(LABELS)).item() == pytest.approx(cross_entropy(STUDENT, LABELS))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_logit_distillation_weighs_squared_error_and_the_teachers_decisions(alpha: float) -> None:
    decided = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    expected = alpha * squared_error() + (1 - alpha) * cross_entropy(STUDENT, decided)
    assert LogitDistillation(alpha)(STUDENT, batch(teacher=TEACHER)).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("beta", "decided"),
    [
        (0.3, [[1, 1], [1, 1]]),  # the teacher's probabilities are 0.82, 0.40, 0.45, 0.95
        (0.42, [[1, 0], [1, 1]]),
        (0.9, [[0, 0], [0, 1]]),
    ],
)
def test_beta_is_the_probability_above_which_a_defect_counts(beta: float, decided: list[list[int]]) -> None:
    loss = LogitDistillation(alpha=0, beta=beta)(STUDENT, batch(teacher=TEACHER))
    assert loss.item() == pytest.approx(cross_entropy(STUDENT, torch.tensor(decided).float()))


def test_a_probability_of_exactly_beta_does_not_count() -> None:
    loss = LogitDistillation(alpha=0, beta=0.5)(torch.ones(1, 1), batch(teacher=torch.zeros(1, 1)))
    assert loss.item() == pytest.approx(-math.log(1 - sigmoid(1)))


@pytest.mark.parametrize("beta", [0.1, 0.9])
def test_soft_targets_are_the_teachers_probabilities_whatever_beta_is(beta: float) -> None:
    loss = LogitDistillation(0.5, beta, "soft")(STUDENT, batch(teacher=TEACHER))
    expected = 0.5 * squared_error() + 0.5 * cross_entropy(STUDENT, TEACHER.sigmoid())
    assert loss.item() == pytest.approx(expected)


def test_logit_distillation_does_not_look_at_labels() -> None:
    loss = LogitDistillation()
    assert (loss.uses_labels, loss.uses_teacher) == (False, True)
    without = loss(STUDENT, batch(None, TEACHER))
    assert torch.equal(without, loss(STUDENT, batch(1 - LABELS, TEACHER)))


def test_hinton_at_temperature_one_mixes_teacher_and_labels() -> None:
    expected = 0.7 * cross_entropy(STUDENT, TEACHER.sigmoid()) + 0.3 * cross_entropy(STUDENT, LABELS)
    assert Hinton(0.7, 1)(STUDENT, batch(LABELS, TEACHER)).item() == pytest.approx(expected)


@pytest.mark.parametrize("temperature", [0.5, 4.0])
def test_hinton_softens_both_sides_and_scales_by_the_temperature_squared(temperature: float) -> None:
    softened = cross_entropy(STUDENT / temperature, (TEACHER / temperature).sigmoid())
    expected = 0.9 * temperature**2 * softened + 0.1 * cross_entropy(STUDENT, LABELS)
    assert Hinton(0.9, temperature)(STUDENT, batch(LABELS, TEACHER)).item() == pytest.approx(expected)


@pytest.mark.parametrize(("known", "weight"), [(1, 0.3), (0, 0.0)], ids=["of one map", "of no map"])
def test_hinton_compares_with_the_labels_that_are_known(known: int, weight: float) -> None:
    labels = LABELS.clone()
    labels[known:] = torch.nan
    soft, hard = cross_entropy(STUDENT, TEACHER.sigmoid()), cross_entropy(STUDENT[:1], LABELS[:1])
    assert Hinton(0.7, 1)(STUDENT, batch(labels, TEACHER)).item() == pytest.approx(0.7 * soft + weight * hard)


def test_hinton_at_a_high_temperature_matches_logits() -> None:
    student = STUDENT.clone().requires_grad_()
    Hinton(1, 1000)(student, batch(LABELS, TEACHER)).backward()
    assert student.grad is not None
    torch.testing.assert_close(student.grad, (STUDENT - TEACHER) / 4 / STUDENT.numel(), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    ("loss", "given"),
    [
        (Supervised(), batch(teacher=TEACHER)),
        (LogitDistillation(), batch(LABELS)),
        (Hinton(), batch(LABELS)),
        (Hinton(), batch(teacher=TEACHER)),
    ],
    ids=["labels", "teacher", "hinton's teacher", "hinton's labels"],
)
def test_a_missing_target_is_an_error_not_a_silent_zero(loss: Distillation, given: Batch) -> None:
    with pytest.raises(TypeError, match="target"):
        loss(STUDENT, given)


@pytest.mark.parametrize("alpha", [-0.1, 1.1])
def test_weights_outside_0_to_1_are_refused(alpha: float) -> None:
    for loss in (LogitDistillation, Hinton):
        with pytest.raises(ValueError, match=f"alpha={alpha}"):
            loss(alpha)


@pytest.mark.parametrize("beta", [0.0, 1.0, -1.0, 2.0])
def test_a_beta_that_decides_nothing_is_refused(beta: float) -> None:
    with pytest.raises(ValueError, match=f"beta={beta}"):
        LogitDistillation(beta=beta)


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_without_meaning_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match=f"temperature={temperature}"):
        Hinton(temperature=temperature)
