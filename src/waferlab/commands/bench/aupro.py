"""The area under the per-region overlap, three times: the project's, anomalib's, and by its definition."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, label

from waferlab.data.masks import exact
from waferlab.data.simulator import simulate
from waferlab.errors import WaferlabError
from waferlab.metrics.anomaly import AUPRO_LIMIT, AnomalyMetrics, regions_of
from waferlab.metrics.ranking import Ranked
from waferlab.wafer import DEFECTS, pattern_labels


@dataclass(frozen=True)
class Scored:
    """Die maps with their truth; all dies of the grid count, as anomalib knows of no others.

    Attributes:
        die_maps: (N, H, W) float32, higher for abnormal.
        masks: (N, H, W) bool, abnormal dies.
    """

    die_maps: NDArray[np.float32]
    masks: NDArray[np.bool_]

    def rounded(self) -> "Scored":
        """The same with two decimals left, so that many dies are tied."""
        return Scored(self.die_maps.round(2), self.masks)


def simulated_scores(maps: int) -> Scored:
    """Blurred masks of simulated wafers, half of them normal, under noise."""
    labels = np.zeros((maps, len(DEFECTS)), np.uint8)
    labels[::2] = np.resize(pattern_labels()[1:], labels[::2].shape)
    masks = exact(simulate(labels))
    noise = np.random.default_rng(0).normal(0, 0.2, masks.shape)
    return Scored((gaussian_filter(masks.astype(float), (0, 1, 1)) + noise).astype(np.float32), masks)


def closed_form_aupro(scored: Scored) -> float:
    """As `AnomalyMetrics` computes it, alone."""
    masks = scored.masks
    regions, sizes = regions_of(masks)
    return Ranked.of(scored.die_maps[masks], scored.die_maps[~masks], (1 / sizes)[regions]).auroc(AUPRO_LIMIT)


def all_metrics(scored: Scored) -> dict[str, float]:
    """All of `AnomalyMetrics`; a wafer's score is its highest die's."""
    die_maps, masks = torch.from_numpy(scored.die_maps), torch.from_numpy(scored.masks)
    metrics = AnomalyMetrics()
    metrics.update(die_maps.amax((1, 2)), die_maps, masks.any(2).any(1), masks, torch.ones_like(masks))
    found: dict[str, float] = metrics.compute()
    return found


def anomalibs_aupro(scored: Scored) -> float:
    """Anomalib's, over all thresholds; versions before 2.7 computed a curve for each region, a thousand times slower.

    Raises:
        WaferlabError: it isn't installed.
    """
    try:
        from anomalib.metrics import AUPRO
    except ImportError as error:
        raise WaferlabError(
            "anomalib, which suite=aupro compares with, is missing; in the project's folder, "
            "`uv pip install --group bench` installs it"
        ) from error
    metric = AUPRO(fields=["anomaly_map", "gt_mask"], fpr_limit=AUPRO_LIMIT)
    batch = {"anomaly_map": torch.from_numpy(scored.die_maps), "gt_mask": torch.from_numpy(scored.masks)}
    metric.update(SimpleNamespace(**batch))
    return float(metric.compute())


def aupro_by_definition(scored: Scored) -> float:
    """At each score in turn as the threshold, the false positive rate and each region's share that is found."""
    numbers, count = np.zeros(scored.masks.shape, int), 0
    for wafer, mask in enumerate(scored.masks):
        found, here = label(mask, np.ones((3, 3)))
        numbers[wafer] = np.where(mask, found + count, 0)
        count += here
    sizes = np.bincount(numbers.ravel())
    rates, overlaps = [0.0], [0.0]
    for threshold in np.unique(scored.die_maps)[::-1]:
        shares = np.bincount(numbers[scored.die_maps >= threshold], minlength=count + 1) / sizes
        if shares[0] >= AUPRO_LIMIT:
            share = (AUPRO_LIMIT - rates[-1]) / (shares[0] - rates[-1])
            overlaps.append(overlaps[-1] + share * (shares[1:].mean() - overlaps[-1]))
            rates.append(AUPRO_LIMIT)
            break
        rates.append(shares[0])
        overlaps.append(shares[1:].mean())
    return float(np.trapezoid(overlaps, rates) / AUPRO_LIMIT)
