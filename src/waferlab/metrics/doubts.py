"""Labels that several models contradict with one voice: they may be wrong, or not to be seen on the maps."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Doubts:
    """What M models say of the labels of N wafers.

    Attributes:
        right: (M, N) whether a model gives all bits of a wafer as its label has them.
        rows: (K,) wafers of which all models give the same answer, and not the label's; the surest first.
        certainty: (K,) how probable the least sure model finds what the label denies, from 0.5 to 1 where bits are
            independent.
    """

    right: NDArray[np.bool_]
    rows: NDArray[np.int64]
    certainty: NDArray[np.float64]

    @classmethod
    def of(cls, bits: NDArray[np.uint8], probabilities: NDArray[np.floating], labels: NDArray[np.uint8]) -> "Doubts":
        """From the answers of models.

        Args:
            bits: (M, N, C) of each model.
            probabilities: (M, N, C) that a bit is 1.
            labels: (N, C) bits.
        """
        is_wrong = bits != labels
        right = ~is_wrong.any(2)
        is_one_voice = (bits == bits[0]).all((0, 2)) & ~right[0]
        of_answer = np.where(bits > 0, probabilities, 1 - probabilities).astype(np.float64)
        sure = np.where(is_wrong, of_answer, 0).max(2).min(0)
        rows = np.flatnonzero(is_one_voice)
        rows = rows[np.argsort(-sure[rows], kind="stable")]
        return cls(right, rows, sure[rows])
