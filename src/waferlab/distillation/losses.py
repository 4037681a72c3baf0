"""What a student is asked to match: the teacher's logits, the labels, or both."""

from typing import Literal, Protocol

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from waferlab.data.batches import Batch


class Distillation(Protocol):
    """A loss, and what it may see: the program hands over nothing else.

    Attributes:
        task: the task that it is for.
        uses_labels: the loss reads ``batch.labels``; otherwise they are None, and the best epoch is not chosen by any.
        uses_teacher: the loss reads ``batch.teacher``; otherwise no teacher is made.
        threshold: teacher probability above which it takes a defect for present, in (0, 1).
    """

    task: str
    uses_labels: bool
    uses_teacher: bool
    threshold: float

    def __call__(self, logits: Tensor, batch: Batch) -> Tensor:
        """Scalar loss of student logits (B, C), averaged over maps and classes."""
        ...


class Supervised:
    """Binary cross-entropy with the labels; no teacher."""

    task, uses_labels, uses_teacher, threshold = "mixed_type", True, False, 0.5

    def __call__(self, logits: Tensor, batch: Batch) -> Tensor:
        """Scalar loss of logits (B, C)."""
        return binary_cross_entropy_with_logits(logits, _given(batch.labels))


class LogitDistillation:
    """``alpha * MSE(logits) + (1 - alpha) * BCE(student, what the teacher decides)``, without labels.

    Source: Shukla et al., arXiv 2303.13974. That the second weight is 1 - alpha, and that the targets are hard, is our
    reading of the paper.

    Args:
        alpha: weight of the squared error between logits, in [0, 1].
        beta: sensitivity: for hard targets, the teacher probability above which a defect counts as present, in (0, 1).
        targets: ``hard``, the teacher's decisions, or ``soft``, its probabilities.

    Raises:
        ValueError: alpha or beta is out of range.
    """

    task, uses_labels, uses_teacher = "mixed_type", False, True

    def __init__(self, alpha: float = 0.5, beta: float = 0.5, targets: Literal["hard", "soft"] = "hard") -> None:
        _check_share("alpha", alpha)
        if not 0 < beta < 1:
            raise ValueError(f"beta={beta} is a probability threshold and lies between 0 and 1, without the ends")
        self.alpha, self.beta, self.targets = alpha, beta, targets
        self.threshold = beta if targets == "hard" else 0.5

    def __call__(self, logits: Tensor, batch: Batch) -> Tensor:
        """Scalar loss of student logits (B, C)."""
        teacher = _given(batch.teacher)
        probability = teacher.sigmoid()
        target = probability if self.targets == "soft" else (probability > self.beta).to(logits.dtype)
        classification = binary_cross_entropy_with_logits(logits, target)
        return self.alpha * mse_loss(logits, teacher) + (1 - self.alpha) * classification


class Hinton:
    """``alpha * T^2 * BCE(student / T, teacher / T) + (1 - alpha) * BCE(student, labels)``.

    The second term is of the maps whose labels are known.

    Source: Hinton, Vinyals, Dean, arXiv 1503.02531, written for independent bits: each bit is softened by itself, and
    the softened term is scaled by T squared so that its gradient keeps its size.

    Args:
        alpha: weight of the softened teacher, in [0, 1].
        temperature: T, above 0.

    Raises:
        ValueError: alpha or the temperature is out of range.
    """

    task, uses_labels, uses_teacher, threshold = "mixed_type", True, True, 0.5

    def __init__(self, alpha: float = 0.9, temperature: float = 4.0) -> None:
        _check_share("alpha", alpha)
        if temperature <= 0:
            raise ValueError(f"temperature={temperature} must be above 0")
        self.alpha, self.temperature = alpha, temperature

    def __call__(self, logits: Tensor, batch: Batch) -> Tensor:
        """Scalar loss of student logits (B, C)."""
        softened = (_given(batch.teacher) / self.temperature).sigmoid()
        soft = binary_cross_entropy_with_logits(logits / self.temperature, softened) * self.temperature**2
        labels = _given(batch.labels)
        known = labels.isfinite().all(1)
        hard = binary_cross_entropy_with_logits(logits[known], labels[known]) if known.any() else 0
        return self.alpha * soft + (1 - self.alpha) * hard


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name}={value} is a weight between 0 and 1")


def _given(target: Tensor | None) -> Tensor:
    if target is None:
        raise TypeError("this loss needs a target that the batch doesn't carry")
    return target
