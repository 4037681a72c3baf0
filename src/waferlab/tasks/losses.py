"""Losses of classifiers that name one class: for classes of very different sizes, and for mixed maps."""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import log_softmax


class Classification(Protocol):
    """A loss of logits (B, K) and targets (B, K), probabilities that add up to 1.

    Attributes:
        task: the task that it is for.
        class_weights: the power of a class's size that its weight is inversely proportional to: 0 weighs all maps
            alike, 1 all classes.
    """

    task: str
    class_weights: float

    def __call__(self, logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Scalar mean over maps, each of which counts for its classes' weights (K,)."""
        ...


class CrossEntropy:
    """Cross-entropy with weighted classes.

    Args:
        label_smoothing: probability that is taken from the targets and spread over all classes, in [0, 1).
        class_weights: as in `Classification`, in [0, 1].

    Raises:
        ValueError: a value is out of range.
    """

    task = "transfer"

    def __init__(self, label_smoothing: float = 0.0, class_weights: float = 0.0) -> None:
        _check(label_smoothing=label_smoothing, class_weights=class_weights)
        self.label_smoothing, self.class_weights = label_smoothing, class_weights

    def __call__(self, logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Scalar loss."""
        smooth = targets.lerp(torch.full_like(targets, 1 / targets.shape[1]), self.label_smoothing)
        return -(smooth * log_softmax(logits, 1) * weights).sum(1).mean()


class Focal:
    """Cross-entropy in which a class counts less the surer the network is of it (Lin et al. 2017).

    Args:
        gamma: power of the probability that is missing, at least 0; 0 is the plain cross-entropy.
        class_weights: as in `Classification`, in [0, 1].

    Raises:
        ValueError: a value is out of range.
    """

    task = "transfer"

    def __init__(self, gamma: float = 2.0, class_weights: float = 0.0) -> None:
        _check(class_weights=class_weights)
        if gamma < 0:
            raise ValueError(f"gamma={gamma:g} is a power of at least 0")
        self.gamma, self.class_weights = gamma, class_weights

    def __call__(self, logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Scalar loss."""
        logs = log_softmax(logits, 1)
        missing = (1 - logs.exp()).clamp_min(torch.finfo(logs.dtype).tiny)  # its power has no gradient at 0
        return -(targets * missing**self.gamma * logs * weights).sum(1).mean()


def class_weights(counts: Tensor, power: float) -> Tensor:
    """Weights (K,) of classes with so many maps (K,): inversely proportional to a power; of all maps, their mean is 1.

    A class without a map has the weight of one with a single map.
    """
    weights = counts.clamp_min(1).double() ** -power
    return (weights * counts.sum() / (weights * counts).sum()).float()


def _check(**shares: float) -> None:
    for name, share in shares.items():
        if not 0 <= share <= 1 or (name == "label_smoothing" and share == 1):
            raise ValueError(f"{name}={share:g} is a share between 0 and 1")
