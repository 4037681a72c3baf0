"""One class for each map or image: of bits that allow several, and of logits."""

from dataclasses import replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from waferlab.data.dataset import Dataset
from waferlab.data.split import LEFT_OUT
from waferlab.progress import note

Target = Literal["class", "defect"]
#: Name of the class without a defect, and of all others together.
NORMAL: Final = "Normal"
DEFECT: Final = "Defect"


def single_label(dataset: Dataset, target: Target) -> Dataset:
    """The same maps with labels of which exactly one bit is set.

    Args:
        target: ``class``: normal, or the one defect there is; maps with several defects are left out. ``defect``:
            whether there is any.

    Returns:
        Labels (N, K); class 0 is `NORMAL`, where any map is normal. Facts: ``several_defects``, so many maps left out.
    """
    bits = dataset.wafers.labels
    count = bits.sum(1)
    if target == "defect":
        both = np.stack([count == 0, count > 0], 1).astype(np.uint8)
        return replace(dataset, wafers=replace(dataset.wafers, labels=both, classes=(NORMAL, DEFECT)))
    classes: tuple[str, ...] = (NORMAL, *dataset.classes)
    labels = np.concatenate([count[:, None] == 0, bits > 0], 1)
    if not labels[:, 0].any():
        classes, labels = classes[1:], labels[:, 1:]
    several = count > 1
    if several.any():
        note(f"{several.sum():,} of {len(bits):,} maps have several defects, and are left out")
    return replace(
        dataset,
        wafers=replace(dataset.wafers, labels=labels.astype(np.uint8), classes=classes),
        split=np.where(several, np.int8(LEFT_OUT), dataset.split),
        facts=dataset.facts | ({"several_defects": int(several.sum())} if several.any() else {}),
    )


def defect_scores(logits: NDArray[np.floating], normal: int) -> NDArray[np.float64]:
    """(N,) log odds that a map has any defect, from logits (N, K): probabilities near 1 would round to ties."""
    values = logits.astype(np.float64)
    defects = np.delete(values, normal, 1)
    highest = defects.max(1, keepdims=True)
    odds: NDArray[np.float64] = highest[:, 0] + np.log(np.exp(defects - highest).sum(1)) - values[:, normal]
    return odds


def vote(logits: NDArray[np.floating], rule: str) -> NDArray[np.float64]:
    """One answer of several views: logits (N, K) of logits (V, N, K).

    Args:
        rule: ``mean`` of the views' probabilities, or ``majority`` of their answers; a tie goes to the higher mean.
    """
    each: NDArray[np.float64] = softmax(logits.astype(np.float64), -1)
    mean: NDArray[np.float64] = each.mean(0)
    if rule == "mean":
        return np.asarray(np.log(np.maximum(mean, np.finfo(np.float64).tiny)))
    votes = (each.argmax(-1)[..., None] == np.arange(each.shape[-1])).sum(0)
    return np.asarray(np.log((votes + mean) / (len(each) + 1)))
