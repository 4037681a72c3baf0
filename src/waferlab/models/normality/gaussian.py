"""Normal features as one Gaussian, and as one point."""

from typing import Final, Literal

import torch
from torch import Tensor

from waferlab.models.normality.features import Features
from waferlab.models.normality.measure import Density

#: Of the mean variance: no direction is taken for one in which normal wafers vary less.
_LEAST_VARIANCE: Final = 1e-6
#: The same where they don't vary at all.
_LEAST: Final = 1e-12


class Moments:
    """Mean (D,) and covariance (D, D) of vectors, in one pass over any number of them, in float64.

    Batches are put together by the deviations from their own means (Chan, Golub, LeVeque 1979): plain sums of squares
    would cancel where a mean is large against its spread.
    """

    def __init__(self, width: int) -> None:
        self.count = 0
        self.mean = torch.zeros(width, dtype=torch.float64)
        self.scatter = torch.zeros(width, width, dtype=torch.float64)

    def add(self, vectors: Tensor) -> None:
        """Take in vectors (N, D)."""
        if not len(vectors):
            return
        values = vectors.detach().double().cpu()
        mean, count = values.mean(0), len(values)
        total, apart = self.count + count, mean - self.mean
        self.scatter += (values - mean).T @ (values - mean) + torch.outer(apart, apart) * self.count * count / total
        self.mean += apart * count / total
        self.count = total

    @property
    def covariance(self) -> Tensor:
        """(D, D) float64, the maximum of likelihood."""
        return self.scatter / self.count


class Gaussian(Density):
    """The Mahalanobis distance to normal wafers.

    Args:
        shrinkage: how far the covariance is moved towards a multiple of the identity, from 0 to 1; ``oas``: as far as
            its estimate from so many vectors asks for (Chen, Wiesel, Eldar, Hero 2010).
    """

    mean: Tensor
    whitening: Tensor

    def __init__(self, features: Features, shrinkage: float | Literal["oas"] = "oas") -> None:
        super().__init__(features)
        if shrinkage != "oas" and not 0 <= shrinkage <= 1:
            raise ValueError(f"shrinkage={shrinkage} is a share: from 0 to 1, or oas")
        self.shrinkage = shrinkage
        self.register_buffer("mean", torch.zeros(features.width))
        self.register_buffer("whitening", torch.eye(features.width))

    def begin(self, seed: int) -> None:
        """Forget what was taken in."""
        self.moments = Moments(self.features.width)

    def add(self, vectors: Tensor) -> None:
        """Take in vectors (N, D) of normal wafers."""
        self.moments.add(vectors)

    def finish(self) -> None:
        """Mean, and the matrix that makes normal vectors white."""
        found = self.moments
        share = oas(found.covariance, found.count) if self.shrinkage == "oas" else float(self.shrinkage)
        scale = found.covariance.diagonal().mean()
        floor, unit = max(float(scale) * _LEAST_VARIANCE, _LEAST), torch.eye(len(found.mean), dtype=torch.float64)
        factor = torch.linalg.cholesky((1 - share) * found.covariance + (share * scale + floor) * unit)
        self.mean.copy_(found.mean)
        self.whitening.copy_(torch.linalg.solve_triangular(factor, unit, upper=False))

    def distances(self, vectors: Tensor) -> Tensor:
        """(N,) of vectors (N, D)."""
        white = (vectors - self.mean) @ self.whitening.T
        return white.square().sum(1).sqrt()


class Prototype(Density):
    """The Euclidean distance to the mean of normal wafers."""

    mean: Tensor

    def __init__(self, features: Features) -> None:
        super().__init__(features)
        self.register_buffer("mean", torch.zeros(features.width))

    def begin(self, seed: int) -> None:
        """Forget what was taken in."""
        self.count, self.sum = 0, torch.zeros(self.features.width, dtype=torch.float64)

    def add(self, vectors: Tensor) -> None:
        """Take in vectors (N, D) of normal wafers."""
        self.count += len(vectors)
        self.sum += vectors.detach().double().sum(0).cpu()

    def finish(self) -> None:
        """The mean of all vectors."""
        self.mean.copy_(self.sum / self.count)

    def distances(self, vectors: Tensor) -> Tensor:
        """(N,) of vectors (N, D)."""
        return (vectors - self.mean).square().sum(1).sqrt()


def oas(covariance: Tensor, count: int) -> float:
    """Share of the identity that brings a covariance (D, D), estimated from so many vectors, nearest to the true one.

    The oracle approximating shrinkage of Gaussians, in scikit-learn's form: it needs the covariance alone.
    """
    mean_square, mean = float(covariance.square().mean()), float(covariance.diagonal().mean())
    apart = (count + 1) * (mean_square - mean**2 / len(covariance))
    return min((mean_square + mean**2) / apart, 1.0) if apart > 0 else 1.0
