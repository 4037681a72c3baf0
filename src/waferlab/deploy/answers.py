"""What models answer, whatever runs them: outputs by name."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from waferlab.data.batches import at_most
from waferlab.models.anomaly_model import AnomalyModel
from waferlab.models.classifier import Classifier, predict_logits

Outputs = dict[str, NDArray[Any]]
#: Outputs, with a row for each, of a batch of maps (N, H, W) uint8, or images.
Answer = Callable[[NDArray[np.uint8]], Outputs]

#: Maps of a batch: of more, what small networks compute leaves the caches of a processor's core.
AT_ONCE: Final = 64


def own_answer(model: Classifier | AnomalyModel) -> Answer:
    """What a model answers itself, under the names that an exported file's outputs have."""

    def answer(maps: NDArray[np.uint8]) -> Outputs:
        if isinstance(model, AnomalyModel):
            die_map, score = model.predict(maps)
            return {"score": score} if die_map is None else {"score": score, "die_map": die_map}
        if model.decision is None:
            return {"logits": predict_logits(model, maps).numpy()}
        return dict(zip(("bits", "probabilities"), model.answer(maps), strict=True))

    return answer


def if_turned(answer: Answer) -> Answer:
    """What is answered of the same maps turned by a quarter, or by half where they are no squares."""

    def turned(maps: NDArray[np.uint8]) -> Outputs:
        return answer(np.rot90(maps, 1 if maps.shape[1] == maps.shape[2] else 2, (1, 2)).copy())

    return turned


def in_batches(answer: Answer, maps: NDArray[np.uint8]) -> Outputs:
    """The outputs for any number of maps (N, H, W) uint8, or images, but none."""
    step = at_most(AT_ONCE, (maps.shape[1], maps.shape[2]))
    parts = [answer(np.asarray(maps[start : start + step])) for start in range(0, len(maps), step)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
