"""Metrics of anomaly detection, collected batch by batch: images by one score each, pixels by a map of scores."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import label
from torch import Tensor
from torchmetrics import Metric

from waferlab.metrics.ranking import Ranked

#: Neighbours of a die: its eight, on the same map.
NEIGHBOURS = np.zeros((3, 3, 3), bool)
NEIGHBOURS[1] = True
AUPRO_LIMIT = 0.3
_METRICS: Final = ("auroc", "aupr", "best_f1", "best_f1_threshold")
#: What `AnomalyMetrics` computes without thresholds.
METRICS: Final = (*(f"{what}/{name}" for what in ("image", "pixel") for name in _METRICS), "pixel/aupro")


class Thresholds(NamedTuple):
    """Scores from which on a wafer, and a die, count as abnormal."""

    wafer: float
    die: float


class AnomalyMetrics(Metric):
    """Exact metrics of anomaly scores; torchmetrics gathers the states where several processes share the maps.

    Args:
        aupro_limit: false positive rate up to which the per-region overlap is integrated, in (0, 1].
        thresholds: chosen on other wafers; with them, ``image/f1`` and ``pixel/f1`` are measured too, each undefined
            where its threshold is infinite.
    """

    is_differentiable, higher_is_better, full_state_update = False, None, False
    image_scores: list[Tensor]
    image_truth: list[Tensor]
    positives: list[Tensor]
    overlap: list[Tensor]
    negatives: list[Tensor]

    def __init__(
        self, aupro_limit: float = AUPRO_LIMIT, thresholds: Thresholds | None = None, **torchmetrics: Any
    ) -> None:
        super().__init__(**torchmetrics)
        if not 0 < aupro_limit <= 1:
            raise ValueError(f"aupro_limit={aupro_limit} is a false positive rate: above 0, at most 1")
        self.aupro_limit, self.thresholds = aupro_limit, thresholds
        for state in ("image_scores", "image_truth", "positives", "overlap", "negatives"):
            self.add_state(state, [], dist_reduce_fx="cat")

    def update(self, scores: Tensor, maps: Tensor, truth: Tensor, masks: Tensor, domain: Tensor) -> None:
        """Add a batch.

        Args:
            scores: (B,) one a wafer, higher for abnormal.
            maps: (B, H, W) one a die, higher for abnormal.
            truth: (B,) bool, abnormal wafers.
            masks: (B, H, W) bool, abnormal dies.
            domain: (B, H, W) bool, dies that count.
        """
        masks = masks & domain
        regions, sizes = regions_of(masks.cpu().numpy())
        self.image_scores.append(scores)
        self.image_truth.append(truth)
        self.positives.append(maps[masks])
        self.negatives.append(maps[domain & ~masks])
        self.overlap.append(torch.from_numpy(1 / sizes[regions]).to(maps.device))

    def compute(self) -> dict[str, float]:
        """All metrics by name in [0, 1], but thresholds, which are scores; NaN for undefined ones (0 / 0).

        ``image/`` and ``pixel/``: ``auroc``, ``aupr`` (average precision), ``best_f1`` and ``best_f1_threshold``.
        ``pixel/aupro``: the mean over abnormal regions (dies that touch, also at corners) of the share of the region
        that is found, integrated over the false positive rate up to the limit (Bergmann et al., CVPR 2020).
        """
        scores, truth = _joined(self.image_scores), _joined(self.image_truth).astype(bool)
        found, missed = _joined(self.positives), _joined(self.negatives)
        images, pixels = Ranked.of(scores[truth], scores[~truth]), Ranked.of(found, missed)
        regions = Ranked.of(found, missed, weights=_joined(self.overlap).astype(np.float64))
        values = {f"image/{name}": value for name, value in _metrics(images).items()}
        values |= {f"pixel/{name}": value for name, value in _metrics(pixels).items()}
        values["pixel/aupro"] = regions.auroc(self.aupro_limit) if regions.is_defined else np.nan
        if self.thresholds is not None:
            for name, ranked, threshold in zip(("image", "pixel"), (images, pixels), self.thresholds, strict=True):
                is_defined = ranked.is_defined and np.isfinite(threshold)
                values[f"{name}/f1"] = ranked.f1_at(threshold) if is_defined else np.nan
        return values


def auroc_by_defect(
    scores: NDArray[np.floating], labels: NDArray[np.uint8], classes: Sequence[str]
) -> dict[str, float]:
    """Image AUROC of the wafers without a defect against those with one alone, for each that occurs alone.

    Args:
        scores: (N,) one a wafer, higher for abnormal.
        labels: (N, C) bits.
        classes: names of the C columns.
    """
    normal = scores[labels.max(1, initial=0) == 0]
    alone = {name: scores[(labels[:, bit] > 0) & (labels.sum(1) == 1)] for bit, name in enumerate(classes)}
    ranked = {name: Ranked.of(found, normal) for name, found in alone.items()}
    return {name: both.auroc() for name, both in ranked.items() if both.is_defined}


def regions_of(masks: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each set die of (B, H, W) masks, in their order, the region it is in; and the number of dies of each."""
    labelled, _ = label(masks, NEIGHBOURS)
    regions = labelled[masks] - 1
    return regions, np.bincount(regions)


def _metrics(ranked: Ranked) -> dict[str, float]:
    if not ranked.is_defined:
        return dict.fromkeys(_METRICS, np.nan)
    best, threshold = ranked.best_f1()
    return {
        "auroc": ranked.auroc(),
        "aupr": ranked.average_precision(),
        "best_f1": best,
        "best_f1_threshold": threshold,
    }


def _joined(parts: Tensor | list[Tensor]) -> NDArray[np.float32]:
    """A state as one array: a list of batches, or what torchmetrics has already joined."""
    whole = parts if isinstance(parts, Tensor) else torch.cat(parts) if parts else torch.empty(0)
    joined: NDArray[np.float32] = whole.cpu().numpy()
    return joined
