"""Model files: weights and what they need to be rebuilt, in safetensors, so that reading one never runs code.

All weights are one flat float32 tensor in the order of the network's state: names and shapes of forty small tensors
would be a large part of a 21 KB file. A digest of names and shapes beside it tells when the network's code has changed.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from waferlab.config import DetectorConfig, ModelConfig, NormalityModelConfig
from waferlab.errors import ConfigError, WaferlabError
from waferlab.models.classifier import Classifier
from waferlab.models.decision import Decision
from waferlab.models.detector import Detector, build_detector
from waferlab.models.normality import Boosting, Measure, Normality, build_normality
from waferlab.models.scoring import Scoring
from waferlab.models.trust import require_trust
from waferlab.whole_file import write_whole

AnyModel = TypeVar("AnyModel", Classifier, Detector, Normality)

#: The kinds of models, by the fact that a file of theirs has and the others don't.
KINDS: Final = {"model": "a classifier", "detector": "a detector", "normality": "a model of normality"}
KEY: Final = "waferlab"
WEIGHTS: Final = "weights"

#: What reading a damaged or foreign file raises; the last two where its facts nest too deep or hold ``Infinity``.
DAMAGE: Final = (
    *(SafetensorError, OSError, KeyError, TypeError, ValueError, IndexError, ValidationError),
    *(RecursionError, OverflowError),
)


def save_model(model: Classifier, path: Path) -> Path:
    """Write a classifier's file; it appears under its name only when it is whole."""
    config = model.config.model_dump(mode="json", by_alias=True) | {"weights": "none"}
    facts = {"model": config, "classes": model.classes, "size": model.size}
    decides = {"decision": model.decision.plain()} if model.decision else {}
    return _save(facts | decides, model.net, path)


def load_model(path: Path) -> Classifier:
    """Read a file written by `save_model`; the network is in evaluation mode.

    Raises:
        WaferlabError: the file is missing, damaged, names code that isn't trusted, or its weights don't fit.
    """
    return _classifier(path, *_read_as("model", path))


def save_detector(detector: Detector, config: DetectorConfig, classes: tuple[str, ...], path: Path) -> Path:
    """Write a detector's file, its teacher included; it appears under its name only when it is whole."""
    plain = config.model_dump(mode="json", by_alias=True)
    plain["backbone"]["weights"] = "none"
    return _save({"detector": plain, "classes": classes, "size": detector.size}, detector, path)


def load_detector(path: Path) -> Detector:
    """Read a file written by `save_detector`; the detector is in evaluation mode.

    Raises:
        WaferlabError: the file is missing, damaged, names code that isn't trusted, or its weights don't fit.
    """
    return _detector(path, *_read_as("detector", path))


def save_normality(model: Normality, config: NormalityModelConfig, classes: tuple[str, ...], path: Path) -> Path:
    """Write the file of a model of normality; it appears under its name only when it is whole.

    Args:
        classes: of the network whose features it measures by.
    """
    plain = config.model_dump(mode="json", by_alias=True)
    if plain["backbone"] is not None:
        plain["backbone"]["weights"] = "none"
    return _save({"normality": plain, "classes": classes, "size": model.size}, model, path)


def load_any(path: Path) -> Classifier | Detector | Normality:
    """Read a model file of any kind; the network is in evaluation mode.

    Raises:
        WaferlabError: the file is missing, damaged, names code that isn't trusted, or its weights don't fit.
    """
    facts, weights = _read(path)
    if "normality" in facts:
        return _normality(path, facts, weights)
    return (_detector if "detector" in facts else _classifier)(path, facts, weights)


def _read_as(kind: str, path: Path) -> tuple[dict[str, Any], Tensor]:
    """The facts and weights of a file of some kind."""
    facts, weights = _read(path)
    if others := [said for other, said in KINDS.items() if other in facts and other != kind]:
        raise WaferlabError(f"{path}: this is the model file of {others[0]}, and {KINDS[kind]}'s is needed")
    return facts, weights


def _classifier(path: Path, facts: dict[str, Any], weights: Tensor) -> Classifier:
    with _as_described(path):
        config = ModelConfig.model_validate(facts["model"])
        classes, size = _classes_and_size(facts)
        decision = Decision.of(facts["decision"], len(classes)) if "decision" in facts else None
    require_trust(path, config, nn.Module)
    model = _rebuilt(path, facts, weights, lambda: Classifier(config, classes, size), lambda model: model.net)
    model.decision = decision
    return model


def _detector(path: Path, facts: dict[str, Any], weights: Tensor) -> Detector:
    with _as_described(path):
        config = DetectorConfig.model_validate(facts["detector"])
        classes, size = _classes_and_size(facts)
    require_trust(path, config.backbone, nn.Module)
    require_trust(path, config.score, Scoring)
    if config.attention.module is not None:
        require_trust(path, config.attention.module, nn.Module)
    return _rebuilt(path, facts, weights, lambda: build_detector(config, classes, size), lambda model: model)


def _normality(path: Path, facts: dict[str, Any], weights: Tensor) -> Normality:
    with _as_described(path):
        config = NormalityModelConfig.model_validate(facts["normality"])
        classes, size = _classes_and_size(facts)
    require_trust(path, config.normality, Measure)
    require_trust(path, config.score, Scoring)
    if config.backbone is not None:
        require_trust(path, config.backbone, nn.Module)
    model = _rebuilt(path, facts, weights, lambda: build_normality(config, classes, size), lambda model: model)
    if isinstance(model.measure, Boosting):
        with _fitting(path):
            model.measure.require_whole()
    return model


def _rebuilt(
    path: Path,
    facts: dict[str, Any],
    weights: Tensor,
    build: Callable[[], AnyModel],
    saved: Callable[[AnyModel], nn.Module],
) -> AnyModel:
    """What the file describes, with its weights in the part that was saved."""
    with _fitting(path):
        with torch.device("meta"):  # nothing large is allocated before the weights are known to fit
            _check(facts, weights, saved(build()))
        model = build()
        _fill(saved(model), weights)
    return model.eval()


def _save(facts: dict[str, Any], network: nn.Module, path: Path) -> Path:
    state = network.state_dict()
    weights = torch.cat([tensor.detach().cpu().float().flatten() for tensor in state.values()])
    text = json.dumps(facts | {"layout": _layout(state)}, separators=(",", ":"))
    return write_whole(path, save({WEIGHTS: weights}, {KEY: text}))


def _read(path: Path) -> tuple[dict[str, Any], Tensor]:
    """What a file says of itself, not believed yet, and its weights."""
    try:
        with _as_described(path), safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {})[KEY])
            return {**facts, "layout": str(facts["layout"])}, file.get_tensor(WEIGHTS)
    except FileNotFoundError as error:
        raise WaferlabError(f"{path}: no such model file") from error


@contextmanager
def _as_described(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except DAMAGE as error:
        raise WaferlabError(f"{path}: this is no model file of Waferlab, or it is damaged ({_brief(error)})") from error


@contextmanager
def _fitting(path: Path) -> Iterator[None]:
    try:
        yield
    except (WaferlabError, RuntimeError, TypeError, OverflowError) as error:
        raise WaferlabError(f"{path}: its weights don't fit the network it names ({_brief(error)})") from error


def _classes_and_size(facts: dict[str, Any]) -> tuple[tuple[str, ...], tuple[int, int]]:
    return tuple(map(str, facts["classes"])), (int(facts["size"][0]), int(facts["size"][1]))


def _check(facts: dict[str, Any], weights: Tensor, outline: nn.Module) -> None:
    """Refuse weights that are not those of this network."""
    state = outline.state_dict()
    if _layout(state) != facts["layout"]:
        raise ConfigError("they were saved by other code")
    if weights.shape != (values := sum(tensor.numel() for tensor in state.values()),):
        raise ConfigError(f"it has {values:,} values, the file {weights.numel():,}")


def _layout(state: Mapping[str, Tensor]) -> str:
    """Names and shapes of a network's state, digested."""
    text = ",".join(f"{name}{tuple(tensor.shape)}" for name, tensor in state.items())
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _fill(net: nn.Module, weights: Tensor) -> None:
    state = net.state_dict()
    parts = torch.split(weights, [tensor.numel() for tensor in state.values()])
    for tensor, part in zip(state.values(), parts, strict=True):
        tensor.copy_(part.view_as(tensor))


def is_model_file(path: Path) -> bool:
    """Whether the file says of itself that it is one of ours."""
    try:
        with safe_open(path, "pt") as file:
            return KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def _brief(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
