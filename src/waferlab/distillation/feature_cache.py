"""The features of a frozen teacher, computed once for all epochs."""

import math
from typing import Final

import torch
from torch import Tensor

from waferlab.data.batches import Batches
from waferlab.models.detector import Detector
from waferlab.progress import progress

_BYTES: Final = {"32-true": 4, "bf16-mixed": 2}


@torch.inference_mode()
def cached_features(detector: Detector, batches: Batches, precision: str, most_gb: float) -> Tensor | None:
    """What `Detector.features` knows of every view of every map, or None.

    Args:
        batches: of the training; kept is what each of its maps may come to be.
        precision: of the training, in which the teacher's features are kept as well.
        most_gb: no more than this is kept, in 10^9 bytes.

    Returns:
        (V, N, all values of all levels) where the batches are; None where that takes more memory, or epochs differ.
    """
    values = sum(math.prod(shape) for shape in detector.shapes)
    views = len(batches.views) if batches.augment else 1
    if batches.die_noise or views * len(batches.maps) * values * _BYTES[precision] > most_gb * 1e9:
        return None
    made: Tensor | None = None
    detector.eval()
    with progress("the teacher's features", views * len(batches.maps)) as bar:
        for view in range(views):
            for rows in torch.split(torch.arange(len(batches.maps), device=batches.device), 256):
                maps = batches.shown(rows, torch.full_like(rows, view))
                with torch.autocast(maps.device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
                    found = torch.cat([level.flatten(1) for level in detector.features(maps)], 1)
                if made is None:
                    made = torch.empty(views, len(batches.maps), values, dtype=found.dtype, device=found.device)
                made[view, rows] = found
                bar.advance(len(rows))
    return made
