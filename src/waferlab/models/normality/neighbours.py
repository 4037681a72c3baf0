"""Normal features as a memory of some of them."""

import torch
from torch import Tensor

from waferlab.models.normality.features import Features
from waferlab.models.normality.measure import Density


class Neighbours(Density):
    """The distance to the nearest of the normal vectors that are kept (PatchCore: Roth et al., CVPR 2022).

    Args:
        memory: vectors that are kept, as far apart as can be, of those that were drawn.
        drawn: vectors that are drawn evenly from all normal ones, however many these are.
        nearest: so many neighbours' distances are averaged.
    """

    kept: Tensor

    def __init__(self, features: Features, memory: int = 1000, drawn: int = 50000, nearest: int = 1) -> None:
        super().__init__(features)
        if not 1 <= nearest <= memory <= drawn:
            raise ValueError(f"nearest={nearest}, memory={memory}, drawn={drawn}: each at least 1 and at most the next")
        self.drawn, self.nearest = drawn, nearest
        self.register_buffer("kept", torch.zeros(memory, features.width))

    def begin(self, seed: int) -> None:
        """Forget what was taken in."""
        self.random = torch.Generator().manual_seed(seed)
        self.sample, self.keys = torch.empty(0, self.features.width), torch.empty(0)

    def add(self, vectors: Tensor) -> None:
        """Take in vectors (N, D) of normal wafers: each draws a number, and those of the highest stay."""
        keys = torch.rand(len(vectors), generator=self.random)
        self.keys, order = torch.cat([self.keys, keys]).sort(descending=True)
        self.keys = self.keys[: self.drawn]
        self.sample = torch.cat([self.sample, vectors.detach().float().cpu()])[order[: self.drawn]]

    def finish(self) -> None:
        """Keep the coreset; where there are fewer vectors than memory, some of them are in it twice."""
        chosen = coreset(self.sample, min(len(self.kept), len(self.sample)), self.random)
        self.kept.copy_(self.sample[chosen.repeat(-(-len(self.kept) // len(chosen)))[: len(self.kept)]])

    def distances(self, vectors: Tensor) -> Tensor:
        """(N,) of vectors (N, D)."""
        middle = self.kept.mean(0)  # far from 0, squares would cancel
        return torch.cdist(vectors - middle, self.kept - middle).topk(self.nearest, 1, largest=False).values.mean(1)


def coreset(vectors: Tensor, count: int, random: torch.Generator) -> Tensor:
    """Rows (count,) int64 of vectors (N, D) such that no vector is far from all of them.

    Greedy k-center: a random first one, then always the vector that is farthest from those chosen (Gonzalez 1985:
    within twice the smallest possible distance).
    """
    first = int(torch.randint(len(vectors), (), generator=random))
    chosen, apart = [first], torch.full((len(vectors),), torch.inf)
    vectors = vectors - vectors.mean(0)  # far from 0, squares would cancel
    squares = vectors.square().sum(1)
    while len(chosen) < count:
        last = vectors[chosen[-1]]
        apart = torch.minimum(apart, (squares - 2 * vectors @ last + last.square().sum()).clamp_min(0))
        apart[chosen[-1]] = -1
        chosen.append(int(apart.argmax()))
    return torch.tensor(chosen)
