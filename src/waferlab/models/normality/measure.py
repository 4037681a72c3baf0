"""What models of normality differ by: how far a wafer, or a place on it, is from normal ones."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from waferlab.models.normality.features import Features


class Measure(nn.Module, ABC):
    """How far wafers, or places on them, are from normal ones.

    Attributes:
        is_supervised: whether it learns from abnormal wafers too, a rival to models of normality.
    """

    is_supervised: ClassVar[bool] = False

    @property
    @abstractmethod
    def knows_dies(self) -> bool:
        """Whether its distances are those of places."""

    @abstractmethod
    def forward(self, maps: Tensor) -> Tensor:
        """Distances, higher for abnormal, of wafers (B,) or of places on them (B, h, w), of maps (B, H, W) uint8."""


class Gathering(Measure, ABC):
    """A measure that learns in one pass over wafers, however many there are."""

    @abstractmethod
    def begin(self, seed: int) -> None:
        """Forget what was taken in; what is random from now on follows from the seed."""

    @abstractmethod
    def update(self, maps: Tensor, is_abnormal: Tensor) -> None:
        """Take in maps (B, H, W) uint8; unless it is supervised, none of them is abnormal (B,) bool."""

    @abstractmethod
    def finish(self) -> None:
        """Learn from all that was taken in."""


class Density(Gathering):
    """A distance between feature vectors, of whole wafers or of their places alike."""

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.features = features

    @property
    def knows_dies(self) -> bool:
        """Whether the features are those of places."""
        return self.features.of == "place"

    @abstractmethod
    def add(self, vectors: Tensor) -> None:
        """Take in vectors (N, D) of normal wafers."""

    @abstractmethod
    def distances(self, vectors: Tensor) -> Tensor:
        """(N,) of vectors (N, D)."""

    def update(self, maps: Tensor, is_abnormal: Tensor) -> None:
        """Take in normal maps (B, H, W) uint8."""
        self.add(self.features(maps).flatten(0, -2))

    def forward(self, maps: Tensor) -> Tensor:
        """Distances (B,), or (B, h, w), as the features are those of wafers or of places, of maps (B, H, W) uint8."""
        vectors = self.features(maps)
        return self.distances(vectors.flatten(0, -2)).view(vectors.shape[:-1])
