"""What a classifier of one class makes of its logits."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from scipy.special import softmax

from waferlab.data.single_label import defect_scores, vote


@dataclass(frozen=True)
class Decision:
    """How one class follows from the logits of a map's views; it travels with the model.

    Attributes:
        temperature: that logits are divided by, above 0.
        all_views: whether a map is shown in all its dihedral views.
        vote: ``mean`` of the views' probabilities, or ``majority`` of their answers.
        normal: the class without a defect, or None.
        threshold: log odds of any defect from which on a map has one; None for the most probable class.
    """

    temperature: float = 1.0
    all_views: bool = False
    vote: Literal["mean", "majority"] = "mean"
    normal: int | None = None
    threshold: float | None = None

    def logits(self, views: NDArray[np.floating]) -> NDArray[np.float64]:
        """Calibrated log probabilities (N, K), up to a constant, of the logits (V, N, K) of every view."""
        return vote(views / self.temperature, self.vote)

    def classes(self, logits: NDArray[np.floating]) -> NDArray[np.int64]:
        """The class (N,) of what `logits` gave; of a map with a defect, the most probable defect."""
        if self.threshold is None or self.normal is None:
            return np.asarray(logits.argmax(1))
        defects = np.where(np.arange(logits.shape[1]) == self.normal, -np.inf, logits).argmax(1)
        is_defect = defect_scores(logits, self.normal) >= self.threshold
        return np.where(is_defect, defects, self.normal).astype(np.int64)

    def probabilities(self, logits: NDArray[np.floating]) -> NDArray[np.float32]:
        """(N, K) of what `logits` gave."""
        return softmax(logits, 1).astype(np.float32)  # type: ignore[no-any-return]

    @classmethod
    def of(cls, plain: dict[str, Any], classes: int) -> "Decision":
        """Of what a file says, for so many classes.

        Raises:
            ValueError: it is none.
        """
        checked = _CHECKED.validate_python(plain)
        is_class = checked.normal is None or 0 <= checked.normal < classes
        is_nan = checked.threshold is not None and np.isnan(checked.threshold)
        if set(plain) - set(asdict(checked)) or not is_class or is_nan or not 0 < checked.temperature < np.inf:
            raise ValueError(f"{plain} is no decision between {classes} classes")
        return checked

    def plain(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)


_CHECKED = TypeAdapter(Decision)
