"""Models of normality: each knows normal wafers by a distance of its own, and scores others by it."""

from waferlab.models.normality.autoencoders import Drawing, Gan, Vae
from waferlab.models.normality.boosting import Boosting
from waferlab.models.normality.gaussian import Gaussian, Prototype
from waferlab.models.normality.measure import Density, Gathering, Measure
from waferlab.models.normality.model import Normality, build_normality
from waferlab.models.normality.neighbours import Neighbours

__all__ = [
    "Boosting",
    "Density",
    "Drawing",
    "Gan",
    "Gathering",
    "Gaussian",
    "Measure",
    "Neighbours",
    "Normality",
    "Prototype",
    "Vae",
    "build_normality",
]
