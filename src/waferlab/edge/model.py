"""Exported models, run by ONNX Runtime."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from waferlab.edge.card import KEY, Card
from waferlab.errors import WaferlabError
from waferlab.wafer import STATES

#: Views of maps that are run together, at most, and places of maps: what more of them need leaves a processor's caches.
_MAPS_AT_ONCE: Final = 8
_PLACES_AT_ONCE: Final = 1 << 20


class Patterns(NamedTuple):
    """Which classes N maps have: bits (N, C) uint8 and probabilities (N, C) float32."""

    bits: NDArray[np.uint8]
    probabilities: NDArray[np.float32]


class Anomalies(NamedTuple):
    """How abnormal N maps are: scores (N,) float32, and of a model that knows dies, die maps (N, H, W) float32."""

    scores: NDArray[np.float32]
    die_maps: NDArray[np.float32] | None


class Predictor(Protocol):
    """What predicts, whatever runs it.

    Attributes:
        card: what the model is for.
    """

    card: Card

    def answer(self, maps: NDArray[np.uint8]) -> Patterns | Anomalies:
        """Of maps of the model's size, (N, H, W) uint8, or images (N, H, W, 1 or 3)."""


class OnnxModel:
    """A model that `waferlab export` has written, in the main thread or in several.

    Attributes:
        card: what it is for.
        knows_dies: whether it gives die maps.

    Args:
        path: of the file.
        threads: that one batch is computed by.

    Raises:
        WaferlabError: the file is missing, damaged, or another program's.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        if not path.is_file():
            fault = "is no file" if path.exists() else "doesn't exist"
            raise WaferlabError(f"{path} {fault}; give a file that `waferlab export` has made, or zoo/NAME")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(path.read_bytes(), options, ["CPUExecutionProvider"])
            said = self._session.get_modelmeta().custom_metadata_map.get(KEY)
        except Exception as error:  # its errors share no base class
            raise WaferlabError(f"{path} is no ONNX model, or a damaged one; export or copy it again") from error
        self._path, self.card = path, Card.of(said, str(path))
        self._outputs = [each.name for each in self._session.get_outputs()]
        self.knows_dies = "die_map" in self._outputs
        wanted = {"patterns": {"logits"}, "class": {"bits", "probabilities"}, "anomaly": {"score"}}[self.card.kind]
        if not wanted <= set(self._outputs):
            raise WaferlabError(f"{path} says that it is for '{self.card.kind}', but gives {', '.join(self._outputs)}")
        given = {each.name: each.shape[-1] for each in self._session.get_outputs()}
        answers, classes = given.get("logits", given.get("bits")), len(self.card.classes)
        if isinstance(answers, int) and answers != classes:
            raise WaferlabError(f"{path} says that it has {classes} classes, but answers for {answers}; it is damaged")

    def predict(self, maps: NDArray[np.uint8]) -> Any:
        """Bits (N, C) uint8 of maps (N, H, W) uint8; of an anomaly model die maps (N, H, W), or None, and scores (N,).

        Raises:
            WaferlabError: maps of another size or type, or with other states.
        """
        answer = self.answer(maps)
        return answer.bits if isinstance(answer, Patterns) else (answer.die_maps, answer.scores)

    def answer(self, maps: NDArray[np.uint8]) -> Patterns | Anomalies:
        """What the model says of maps (N, H, W) uint8, or of images (N, H, W, 1 or 3).

        Raises:
            WaferlabError: maps of another size or type, or with other states.
        """
        require_maps(maps, self.card)
        at_once = min(_MAPS_AT_ONCE, _PLACES_AT_ONCE // (self.card.size[0] * self.card.size[1]))
        step = max(1, at_once // self.card.views)
        parts = [self._run(maps[start : start + step]) for start in range(0, max(1, len(maps)), step)]
        found = {name: np.concatenate([part[name] for part in parts]) for name in self._outputs}
        return self._meant(found)

    def _run(self, maps: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        try:
            found = dict(zip(self._outputs, self._session.run(self._outputs, {"maps": maps}), strict=True))
        except Exception as error:  # its errors share no base class
            raise WaferlabError(f"{self._path} can't be run, so it is damaged, or not what it says: {error}") from error
        if not all(np.isfinite(values).all() for values in found.values()):
            raise WaferlabError(f"{self._path} gives something that is no finite number; it is damaged")
        return found

    def _meant(self, found: dict[str, NDArray[Any]]) -> Patterns | Anomalies:
        if self.card.kind == "anomaly":
            return Anomalies(found["score"], found.get("die_map"))
        if self.card.kind == "patterns":
            logits = found["logits"]
            return Patterns((logits > 0).astype(np.uint8), 1 / (1 + np.exp(-np.clip(logits, -80, 80))))
        return Patterns(found["bits"], found["probabilities"])


class Moved:
    """A model that names one class, with another threshold between normal and defect.

    Args:
        model: whose card says which class is normal.
        threshold: log odds of any defect from which on a map has one.
    """

    def __init__(self, model: Predictor, threshold: float) -> None:
        if model.card.normal is None:
            raise WaferlabError("threshold: none of this model's classes is the normal one, so it has no threshold")
        self._model, self.card = model, replace(model.card, threshold=threshold)

    def answer(self, maps: NDArray[np.uint8]) -> Patterns | Anomalies:
        """As the model's, with other bits."""
        found, normal, threshold = self._model.answer(maps), self.card.normal, self.card.threshold
        assert isinstance(found, Patterns)
        probabilities = found.probabilities
        assert normal is not None
        assert threshold is not None
        defects = probabilities.copy()
        defects[:, normal] = 0
        with np.errstate(divide="ignore"):
            odds = np.log(defects.sum(1)) - np.log(probabilities[:, normal])
        classes = np.where(odds >= threshold, defects.argmax(1), normal)
        return Patterns(np.eye(probabilities.shape[1], dtype=np.uint8)[classes], probabilities)


def require_maps(maps: NDArray[np.uint8], card: Card) -> None:
    """Refuse what a model can't read.

    Raises:
        WaferlabError: maps of another size or type, or with states that it doesn't know.
    """
    (height, width), images = card.size, card.states > STATES
    shapes = [(height, width), *([(height, width, 1), (height, width, 3)] if images else [])]
    is_read = maps.dtype == np.uint8 and maps.shape[1:] in shapes
    highest = int(maps.max(initial=0)) if is_read else 0
    if not is_read or highest >= card.states:
        raise WaferlabError(
            f"this model reads {'images' if images else 'maps'} (N, {height}, {width}) uint8"
            f"{'' if images else ' of 0 no die, 1 pass, 2 fail'}, not {maps.shape} {maps.dtype}"
            + (f" up to {highest}" if highest else "")
            + ("" if images else "; waferlab.predict reads files of maps of any size")
        )
