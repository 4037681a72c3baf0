"""What normal wafers show, and the scores of other wafers against it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from waferlab.models.scoring import Scoring
from waferlab.wafer import FAIL, NO_DIE

#: Of the mean deviation of normal wafers: none is expected to deviate less.
_LEAST_DEVIATION = 0.3


class Reference(nn.Module):
    """A scoring, and what it has learnt of normal wafers.

    Attributes:
        levels: (L,) the mean disagreement of each level; 1 where the scoring isn't calibrated.
        usual: what wafer scores are usual.
    """

    levels: Tensor

    def __init__(self, scoring: Scoring, levels: int) -> None:
        super().__init__()
        self.scoring = scoring
        self.register_buffer("levels", torch.ones(levels))
        self.usual = Usual()

    def learn(self, levels: Sequence[Tensor], maps: Tensor) -> "Reference":
        """Learn from the disagreements of normal wafers, as `forward` takes them, and their maps (N, H, W) uint8."""
        if self.scoring.calibration == "level":
            means = torch.stack([level.mean() for level in levels])
            self.levels.copy_(means.clamp_min(torch.finfo(torch.float32).tiny))
        if self.scoring.conditional:
            self.usual.learn(self._scored(levels, maps)[1], maps)
        return self

    def forward(self, levels: Sequence[Tensor], maps: Tensor) -> tuple[Tensor | None, Tensor]:
        """Die maps (B, H, W) and wafer scores (B,), float32 and higher for abnormal.

        Args:
            levels: disagreements (B, h, w), one a level; or (B,) of whole wafers alone: then there is no die map.
            maps: (B, H, W) uint8.
        """
        die_maps, scores = self._scored(levels, maps)
        scores = self.usual(scores, maps) if self.scoring.conditional else scores
        return None if die_maps is None else self.scoring.judged(die_maps, scores, maps), scores

    def _scored(self, levels: Sequence[Tensor], maps: Tensor) -> tuple[Tensor | None, Tensor]:
        dies = maps != NO_DIE
        if levels[0].ndim == 1:
            return None, levels[0] / self.levels[0]
        calibrated = [level / usual for level, usual in zip(levels, self.levels, strict=True)]
        die_maps = self.scoring.die_maps(calibrated, dies)
        return die_maps, self.scoring.wafer_scores(die_maps, dies)


class Usual(nn.Module):
    """The score that is usual for normal wafers with as many dies and as large a share of fails.

    Score and absolute deviation are each a quadratic function of the logarithm of the number of dies and of the share,
    fitted by least squares. Wafers beyond what the normal ones covered are compared with the nearest ones covered.

    Attributes:
        lowest, highest: (2,) logarithm of the number of dies, and share of fails, among normal wafers.
        coefficients: (6, 2) of the usual score and the usual deviation.
        least: the smallest deviation that counts as usual.
    """

    lowest: Tensor
    highest: Tensor
    coefficients: Tensor
    least: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("lowest", torch.zeros(2))
        self.register_buffer("highest", torch.ones(2))
        self.register_buffer("coefficients", torch.zeros(6, 2))
        self.register_buffer("least", torch.ones(()))

    def learn(self, scores: Tensor, maps: Tensor) -> None:
        """Learn from the scores (N,) of normal wafers and their maps (N, H, W) uint8."""
        facts = _facts(maps)
        self.lowest.copy_(facts.amin(0))
        self.highest.copy_(facts.amax(0))
        terms = self._terms(facts)
        usual = _least_squares(terms, scores)
        deviations = (scores - terms @ usual).abs()
        self.coefficients.copy_(torch.stack([usual, _least_squares(terms, deviations)], 1))
        self.least.copy_((_LEAST_DEVIATION * deviations.mean()).clamp_min(torch.finfo(torch.float32).eps))

    def forward(self, scores: Tensor, maps: Tensor) -> Tensor:
        """Scores (B,) of maps (B, H, W) uint8, in deviations from the usual one."""
        usual, deviation = (self._terms(_facts(maps)) @ self.coefficients).unbind(1)
        return (scores - usual) / torch.maximum(deviation, self.least)

    def _terms(self, facts: Tensor) -> Tensor:
        """(B, 6) terms of the quadratic functions, each in [-1, 1]."""
        width = (self.highest - self.lowest).clamp_min(1e-6)
        dies, share = (2 * (facts.clamp(self.lowest, self.highest) - self.lowest) / width - 1).unbind(1)
        return torch.stack([torch.ones_like(dies), dies, dies**2, share, share**2, dies * share], 1)


def _facts(maps: Tensor) -> Tensor:
    """(B, 2) logarithm of the number of dies, and share of fails, of maps (B, H, W) uint8."""
    dies = (maps != NO_DIE).flatten(1).sum(1).clamp_min(1)
    return torch.stack([dies.log(), (maps == FAIL).flatten(1).sum(1) / dies], 1)


def _least_squares(terms: Tensor, values: Tensor) -> Tensor:
    """(6,) coefficients, the smallest ones where several do; wafers of one size leave some of them open."""
    found: Tensor = torch.linalg.pinv(terms.double(), rtol=1e-6) @ values.double()
    return found.float()
