"""Torchvision's transforms, or one's own, of maps and images in training batches."""

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from waferlab.errors import ConfigError, WaferlabError
from waferlab.wafer import FAIL, NO_DIE

Transform = Callable[[Tensor], Tensor]
#: How often a transform is tried, as it may draw.
_TRIES: Final = 32


def transformed(maps: Tensor, transform: Transform) -> Tensor:
    """Each map (B, H, W), or image (B, H, W, C), transformed by itself, as one of channels (C, H, W); all uint8.

    Raises:
        WaferlabError: what a transform yields are neither bytes nor fractions of white.
    """
    channels = maps.unsqueeze(-1) if maps.ndim == 3 else maps
    made = torch.stack([_bytes(transform(each)) for each in channels.permute(0, 3, 1, 2)]).permute(0, 2, 3, 1)
    return made.view_as(maps) if maps.ndim == 3 else made


def _bytes(image: Tensor) -> Tensor:
    if image.dtype == torch.uint8:
        return image
    if not image.is_floating_point() or not bool(((image >= 0) & (image <= 1)).all()):
        low, high = image.aminmax()
        raise WaferlabError(
            f"transforms yield {image.dtype} from {low:.3g} to {high:.3g}, and images are uint8, or fractions from 0 "
            f"to 1; leave out what standardises, as the encoding does it"
        )
    return (image * 255).round().to(torch.uint8)


def require_moves(transform: Transform, path: str, size: tuple[int, int]) -> None:
    """Refuse, for wafer maps of a size (H, W), a transform that does more than move dies.

    Args:
        path: where it stands in the configuration.

    Raises:
        ConfigError: it makes dies of another kind, or takes no maps at all.
    """
    kinds = torch.tensor([NO_DIE, FAIL], dtype=torch.uint8)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        maps = kinds[torch.randint(2, (_TRIES, *size))]
        maps[::2] = FAIL
        try:
            made = transformed(maps, transform)
        except Exception as error:  # whatever somebody's transform raises
            raise ConfigError(f"{path}: it can't be applied to wafer maps of die states: {error}") from error
    if not bool(torch.isin(made, kinds).all()) or not bool((made == FAIL).flatten(1).any(1).all()):
        raise ConfigError(
            f"{path}: on wafer maps a transform may move dies, and this one makes others of them; leave out what is "
            f"about colour, and interpolation between dies"
        )
