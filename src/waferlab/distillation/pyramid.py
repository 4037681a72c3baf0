"""What a student's feature pyramid is asked for: to agree with the teacher's, level by level."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor


class PyramidDistillation:
    """Sum over levels of the mean disagreement.

    Source: student-teacher feature pyramid matching (Wang et al., BMVC 2021), as Hasan, Yu and Khan Mirani (IEEE TSM
    37(3), 2024) use it.

    Args:
        weights: of each level, or None for 1 each.
        reduction: over a batch's maps: ``mean``, or ``sum`` as in the paper's released code.

    Raises:
        ValueError: a weight is negative, or none is above 0.
    """

    task = "anomaly"

    def __init__(self, weights: Sequence[float] | None = None, reduction: Literal["mean", "sum"] = "mean") -> None:
        if weights is not None and (min(weights, default=0) < 0 or not any(weights)):
            raise ValueError(f"weights={list(weights)}: none may be negative, and one must be above 0")
        self.weights, self.reduction = weights, reduction

    def __call__(self, disagreements: Sequence[Tensor]) -> Tensor:
        """Scalar loss of disagreements (B, h, w) of student and targets, one a level."""
        levels = torch.stack([level.mean((1, 2)) for level in disagreements])  # (levels, B)
        weights = levels.new_tensor(self.weights or [1.0] * len(levels))
        per_map = weights @ levels
        return per_map.mean() if self.reduction == "mean" else per_map.sum()
