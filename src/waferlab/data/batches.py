"""Batches from memory: direct indexing, no worker processes, whole-batch dihedral views."""

import math
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from waferlab.data.dataset import Wafers
from waferlab.data.oversampling import Oversampling
from waferlab.data.rows import Rows
from waferlab.data.transforms import transformed
from waferlab.wafer import FAIL, NO_DIE, PASS, dihedral_indices

#: Most places (H x W) that a batch without gradients holds: that many bytes, and the activations that they come to.
_PLACES: Final = 2**21


class Batch(NamedTuple):
    """What one step sees.

    Attributes:
        maps: (B, H, W) uint8.
        labels: (B, C) float of 0 and 1, NaN for a map whose labels nobody knows; None where the loss must not see any.
        teacher: (B, …) float, what the teacher says of these maps before noise, or None: its logits, or features; for
            exactly these views, or their mean over all views where the teacher answers with that.
    """

    maps: Tensor
    labels: Tensor | None
    teacher: Tensor | None


class Batches:
    """An epoch of batches, again and again; every random choice follows from the seed and the epoch's number.

    Args:
        wafers: the maps.
        batch_size: maps per batch; the last one is smaller.
        labels: (N, C) float, as batches bring them, or None.
        teacher: (V, N, …) what the teacher says of every view of every map, or None; V is 1 without augmentation, and
            where the teacher answers the same to every view.
        shuffle: a new order each epoch; otherwise the maps' own.
        augment: each map in one random dihedral view, another one each epoch; otherwise as it is.
        die_noise: each map draws a share from 0 to this; so many of its dies swap pass and fail, others each epoch.
        oversampling: which maps an epoch shows, in random order, or None for each map once.
        transform: of each image (C, H, W) uint8, drawing from torch's global random numbers, or None.
        seed: with the epoch, determines order, views and noise.
        device: where maps and targets are kept.
    """

    def __init__(
        self,
        wafers: Wafers,
        batch_size: int,
        *,
        labels: Tensor | None = None,
        teacher: Tensor | None = None,
        shuffle: bool = False,
        augment: bool = False,
        die_noise: float = 0.0,
        oversampling: Oversampling | None = None,
        transform: Callable[[Tensor], Tensor] | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.batch_size, self.shuffle, self.augment, self.seed = batch_size, shuffle, augment, seed
        self.die_noise, self.oversampling, self.transform = die_noise, oversampling, transform
        maps: Any = wafers.maps
        self.maps: Tensor | Rows = maps if isinstance(maps, Rows) else torch.from_numpy(maps).to(device)
        self.device = torch.device(device)
        self.labels = None if labels is None else labels.to(device)
        self.views = torch.from_numpy(dihedral_indices(*wafers.size)).to(device)
        self.teacher: Tensor | None = None
        if teacher is not None:
            self.teach(teacher)
        self.epoch = 0
        self.sampler, self.batch_sampler = self, None  # where Lightning looks for `set_epoch`

    def teach(self, teacher: Tensor) -> None:
        """Bring what the teacher says (V, N, …) with the batches from now on."""
        self.teacher = teacher.to(self.device).expand(len(self.views), -1, -1)

    def shown(self, index: Tensor, view: Tensor) -> Tensor:
        """Some maps, by their numbers (B,), each in one of its views (B,): (B, H, W) uint8."""
        if isinstance(self.maps, Rows):
            maps = torch.from_numpy(self.maps[index.cpu().numpy()]).to(self.device)
        else:
            maps = self.maps.index_select(0, index)  # much faster than self.maps[index]
        return turned(maps, self.views.index_select(0, view)) if self.augment else maps

    def set_epoch(self, epoch: int) -> None:
        """Choose which epoch the next iteration is."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(len(self.oversampling or self.maps) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        random = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        count, device = len(self.maps), self.device
        order = torch.randperm(count, generator=random) if self.shuffle else torch.arange(count)
        if self.oversampling is not None:
            order = self.oversampling.order(random)
            count = len(order)
        view = torch.zeros(count, dtype=torch.int64)
        if self.augment:
            view = torch.randint(len(self.views), (count,), generator=random)
        order, view = order.to(device), view.to(device)
        for index, shown in zip(torch.split(order, self.batch_size), torch.split(view, self.batch_size), strict=True):
            maps = self.shown(index, shown)
            if self.transform is not None:
                maps = transformed(maps, self.transform)
            yield Batch(
                maps=noisy(maps, self.die_noise, random) if self.die_noise else maps,
                labels=None if self.labels is None else self.labels[index],
                teacher=None if self.teacher is None else self.teacher[shown, index],
            )


def at_most(count: int, size: tuple[int, int]) -> int:
    """So many maps, or images, of a size (H, W), or fewer where these are large: what a network is shown at once."""
    return max(min(count, _PLACES // (size[0] * size[1])), 1)


def turned(maps: Tensor, view: Tensor) -> Tensor:
    """Each map or image in its own dihedral view.

    Args:
        maps: (B, H, W) or (B, H, W, C), any dtype.
        view: (B, H*W) int64, for each map the row of `waferlab.wafer.dihedral_indices` that it is shown in.
    """
    if maps.ndim == 3:
        return maps.flatten(1).gather(1, view).view_as(maps)
    flat = maps.flatten(1, 2)
    if maps.device.type == "cpu":  # by numpy: torch's threads take longer to meet than to copy, where others work
        pairs = zip(flat.numpy(), view.numpy(), strict=True)
        return torch.from_numpy(np.stack([image.take(places, 0) for image, places in pairs])).view_as(maps)
    return flat.gather(1, view[..., None].expand_as(flat)).view_as(maps)


def noisy(maps: Tensor, most: float, random: torch.Generator) -> Tensor:
    """Maps in which some dies swap pass and fail; where there is no die, there is none.

    Args:
        maps: (B, H, W) uint8.
        most: largest share of swapped dies; each map draws its own, uniformly from 0 to this.
        random: of the CPU, whichever device the maps are on.
    """
    share = torch.rand(len(maps), 1, 1, generator=random) * most
    swapped = (torch.rand(maps.shape, generator=random) < share).to(maps.device)
    return torch.where(swapped & (maps != NO_DIE), PASS + FAIL - maps, maps)
