"""Networks that draw normal wafers: what they can't draw isn't normal."""

from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate, softplus

from waferlab.models.normality.measure import Measure
from waferlab.models.smoothing import smoothed
from waferlab.wafer import FAIL, NO_DIE

_STAGES: Final = 3  # each halves the side and doubles the channels


class Drawing(Measure, ABC):
    """A network that learns by gradients to draw normal wafers; the distance is that of a wafer from its drawing.

    Which places have a die is given; drawn is with which probability each of them fails. A die's distance is what the
    drawing leaves over of its neighbourhood: by how much the share of dies that fail there departs from the drawn one.
    The likelihood of the dies' states, one by one, doesn't serve: scattered fails, which are normal, can't be drawn and
    surprise more than as many in a pattern.

    Args:
        size: (H, W) of the maps.
        latent: values that a drawing is made from.
        width: channels of the first of three stages.
        sigma: of a neighbourhood's Gaussian weights, in dies; 0: each die by itself.
    """

    def __init__(self, size: tuple[int, int], latent: int, width: int, sigma: float) -> None:
        super().__init__()
        if latent < 1 or width < 1:
            raise ValueError(f"latent={latent}, width={width}: at least 1 each")
        if not 0 <= 3 * sigma <= min(size) - 1:
            raise ValueError(f"sigma={sigma} dies: 0 or more, and at most a third of a map of {size[0]}x{size[1]}")
        if min(size) <= 2**_STAGES:
            raise ValueError(f"maps of {size[0]}x{size[1]} dies are too small to be drawn; give more than {2**_STAGES}")
        self.latent, self.sigma = latent, sigma
        self.decoder = Decoder(size, latent, width)

    @property
    def knows_dies(self) -> bool:
        """It does."""
        return True

    @abstractmethod
    def code(self, pixels: Tensor) -> Tensor:
        """What a drawing of pixels (B, 2, H, W) is made from: (B, latent)."""

    @abstractmethod
    def loss(self, maps: Tensor) -> Tensor:
        """Loss of a batch of normal maps (B, H, W) uint8."""

    def forward(self, maps: Tensor) -> Tensor:
        """What is left over (B, H, W) of maps (B, H, W) uint8, in [0, 1], 0 where there is no die."""
        pixels = as_pixels(maps)
        return left_over(self.decoder(self.code(pixels)), pixels, self.sigma)


class Vae(Drawing):
    """A variational autoencoder (Kingma, Welling 2014): the drawing is that of the most likely code.

    Args:
        beta: weight of the codes' distance from a standard normal distribution.
    """

    def __init__(
        self, size: tuple[int, int], latent: int = 32, width: int = 16, sigma: float = 1.0, beta: float = 1.0
    ) -> None:
        super().__init__(size, latent, width, sigma)
        if beta < 0:
            raise ValueError(f"beta={beta} is a weight: 0 or more")
        self.beta = beta
        self.encoder = encoder(size, 2 * latent, width)

    def code(self, pixels: Tensor) -> Tensor:
        """The codes' means (B, latent) of pixels (B, 2, H, W)."""
        found: Tensor = self.encoder(pixels)
        return found[:, : self.latent]

    def loss(self, maps: Tensor) -> Tensor:
        """Negative evidence lower bound in nats a die; with ``beta`` other than 1, of another weight."""
        pixels = as_pixels(maps)
        mean, log_variance = self.encoder(pixels).float().chunk(2, 1)
        drawn = self.decoder(mean + torch.randn_like(mean) * (log_variance / 2).exp())
        apart = (mean.square() + log_variance.exp() - 1 - log_variance).sum() / 2
        bound: Tensor = surprise(drawn, pixels).sum() + self.beta * apart
        return bound / pixels[:, 0].sum().clamp_min(1)


class Gan(Drawing):
    """A generator with an encoder, against a discriminator that tells wafers from drawings.

    The generator draws wafers from random codes that the discriminator should take for real ones (Goodfellow et al.
    2014, its non-saturating form), and the wafers themselves from the encoder's codes (after f-AnoGAN: Schlegl et al.
    2019). Drawn dies are sampled, with straight-through gradients: soft ones would give drawings away.

    Args:
        score: ``reconstruction``: what drawings leave over; ``discriminator``: how sure it is that a wafer is drawn.
        adversarial: weight of the discriminator's opinion for the generator.
    """

    def __init__(
        self,
        size: tuple[int, int],
        latent: int = 32,
        width: int = 16,
        sigma: float = 1.0,
        score: Literal["reconstruction", "discriminator"] = "reconstruction",
        adversarial: float = 0.1,
    ) -> None:
        super().__init__(size, latent, width, sigma)
        if adversarial < 0:
            raise ValueError(f"adversarial={adversarial} is a weight: 0 or more")
        self.score, self.adversarial = score, adversarial
        self.encoder, self.discriminator = encoder(size, latent, width), encoder(size, 1, width, norm=False)

    @property
    def knows_dies(self) -> bool:
        """Whether it is by its drawings that it scores."""
        return self.score == "reconstruction"

    def code(self, pixels: Tensor) -> Tensor:
        """The encoder's codes (B, latent) of pixels (B, 2, H, W)."""
        found: Tensor = self.encoder(pixels)
        return found

    def forward(self, maps: Tensor) -> Tensor:
        """What is left over (B, H, W), or the discriminator's doubts (B,), of maps (B, H, W) uint8."""
        if self.score == "reconstruction":
            return super().forward(maps)
        doubts: Tensor = -self.discriminator(as_pixels(maps)).squeeze(1)
        return softplus(doubts.float())

    def loss(self, maps: Tensor) -> Tensor:
        """Of generator, encoder and discriminator together: each learns from its own part alone."""
        pixels = as_pixels(maps)
        reconstruction = surprise(self.decoder(self.code(pixels)), pixels).sum() / pixels[:, 0].sum().clamp_min(1)
        fails = self.decoder(torch.randn(len(maps), self.latent, device=maps.device)).float().sigmoid()
        sampled = (torch.rand_like(fails) < fails).float() + fails - fails.detach()
        drawn = torch.stack([pixels[:, 0], sampled * pixels[:, 0]], 1)
        opinions = self.discriminator(torch.cat([pixels, drawn.detach()])).float()
        is_real = (torch.arange(len(opinions), device=maps.device) < len(pixels)).float()[:, None]
        frozen = {name: weights.detach() for name, weights in self.discriminator.named_parameters()}
        doubts = softplus(-functional_call(self.discriminator, frozen, (drawn,)).float()).mean()
        return reconstruction + self.adversarial * doubts + binary_cross_entropy_with_logits(opinions, is_real)


class Decoder(nn.Module):
    """Codes (B, latent) to logits (B, H, W) of each die's failing."""

    def __init__(self, size: tuple[int, int], latent: int, width: int) -> None:
        super().__init__()
        self.sizes = _sizes(size)
        channels = [width * 2**stage for stage in range(_STAGES)]
        self.start = nn.Linear(latent, channels[-1] * self.sizes[-1][0] * self.sizes[-1][1])
        backwards = [*channels[::-1], width]
        self.stages = nn.ModuleList(_stage(wide, narrow, stride=1) for wide, narrow in pairwise(backwards))
        self.end = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, codes: Tensor) -> Tensor:
        """(B, H, W) of codes (B, latent)."""
        places = self.start(codes).unflatten(1, (-1, *self.sizes[-1]))
        for stage, size in zip(self.stages, self.sizes[-2::-1], strict=True):
            places = stage(interpolate(places, size, mode="nearest"))
        logits: Tensor = self.end(places).squeeze(1)
        return logits


def encoder(size: tuple[int, int], values: int, width: int, *, norm: bool = True) -> nn.Sequential:
    """Pixels (B, 2, H, W) to values (B, values)."""
    channels = [2, *(width * 2**stage for stage in range(_STAGES))]
    stages = [_stage(narrow, wide, 2, norm) for narrow, wide in pairwise(channels)]
    height, wide = _sizes(size)[-1]
    return nn.Sequential(*stages, nn.Flatten(), nn.Linear(channels[-1] * height * wide, values))


def as_pixels(maps: Tensor) -> Tensor:
    """Whether there is a die and whether it fails, (B, 2, H, W) float of 0 and 1, of maps (B, H, W) uint8."""
    return torch.stack([maps != NO_DIE, maps == FAIL], 1).float()


def surprise(logits: Tensor, pixels: Tensor) -> Tensor:
    """-log of the probability of each die's state (B, H, W), 0 where there is no die.

    Args:
        logits: (B, H, W) of failing.
        pixels: (B, 2, H, W) as `as_pixels` makes them.
    """
    dies, fails = pixels.unbind(1)
    return dies * binary_cross_entropy_with_logits(logits.float(), fails, reduction="none")


def left_over(logits: Tensor, pixels: Tensor, sigma: float) -> Tensor:
    """By how much the share of failing dies around each die departs from the drawn one: (B, H, W) in [0, 1].

    Args:
        logits, pixels: as of `surprise`.
        sigma: of the neighbourhood's Gaussian weights, in dies; 0: each die by itself.
    """
    dies, fails = pixels.unbind(1)
    return smoothed(dies * (fails - logits.float().sigmoid()), dies > 0, sigma).abs()


def _stage(inward: int, outward: int, stride: int, norm: bool = True) -> nn.Sequential:
    normed = [nn.BatchNorm2d(outward)] if norm else []
    return nn.Sequential(nn.Conv2d(inward, outward, 3, stride, padding=1, bias=not norm), *normed, nn.LeakyReLU(0.2))


def _sizes(size: tuple[int, int]) -> list[tuple[int, int]]:
    """(H, W) of a map, and behind each stage."""
    sizes = [size]
    for _ in range(_STAGES):
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes
