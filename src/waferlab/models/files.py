"""Model files: weights and what they need to be rebuilt, in safetensors, so that reading one never runs code.

All weights are one flat float32 tensor in the order of the network's state: names and shapes of forty small tensors
would be a large part of a 21 KB file. A digest of names and shapes beside it tells when the network's code has changed.
"""

import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from waferlab.config import DetectorConfig, ModelConfig
from waferlab.errors import ConfigError, WaferlabError
from waferlab.models.classifier import Classifier
from waferlab.models.decision import Decision
from waferlab.models.detector import Detector, build_detector
from waferlab.models.scoring import Scoring
from waferlab.schema import Component
from waferlab.whole_file import write_whole

AnyModel = TypeVar("AnyModel", Classifier, Detector)

#: The only functions that a model file may name; everything else must be a class.
FUNCTIONS: Final = ("waferlab.models.backbones.timm_model", "waferlab.models.attention.timm_attention")
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
    return _classifier(path, *_read_but(path, "detector", "a detector", "a classifier"))


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
    return _detector(path, *_read_but(path, "model", "a classifier", "a detector"))


def load_any(path: Path) -> Classifier | Detector:
    """Read a model file of either kind; the network is in evaluation mode.

    Raises:
        WaferlabError: the file is missing, damaged, names code that isn't trusted, or its weights don't fit.
    """
    facts, weights = _read(path)
    return (_detector if "detector" in facts else _classifier)(path, facts, weights)


def _read_but(path: Path, other: str, is_a: str, wanted: str) -> tuple[dict[str, Any], Tensor]:
    """The facts and weights of a file that isn't of the other kind, which its facts name by this key."""
    facts, weights = _read(path)
    if other in facts:
        raise WaferlabError(f"{path}: this is the model file of {is_a}, and {wanted}'s is needed")
    return facts, weights


def _classifier(path: Path, facts: dict[str, Any], weights: Tensor) -> Classifier:
    with _as_described(path):
        config = ModelConfig.model_validate(facts["model"])
        classes, size = _classes_and_size(facts)
        decision = Decision.of(facts["decision"], len(classes)) if "decision" in facts else None
    _require_trust(path, config, nn.Module)
    model = _rebuilt(path, facts, weights, lambda: Classifier(config, classes, size), lambda model: model.net)
    model.decision = decision
    return model


def _detector(path: Path, facts: dict[str, Any], weights: Tensor) -> Detector:
    with _as_described(path):
        config = DetectorConfig.model_validate(facts["detector"])
        classes, size = _classes_and_size(facts)
    _require_trust(path, config.backbone, nn.Module)
    _require_trust(path, config.score, Scoring)
    if config.attention.module is not None:
        _require_trust(path, config.attention.module, nn.Module)
    return _rebuilt(path, facts, weights, lambda: build_detector(config, classes, size), lambda model: model)


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


def _require_trust(path: Path, component: Component, kind: type) -> None:
    """Refuse what isn't trusted, and a network that asks for other weights than the file's."""
    if getattr(component, "weights", "none") != "none" or not _is_trusted(component, kind):
        raise WaferlabError(
            f"{path}: refused, it names '{component.target}', which is no {kind.__name__} of Waferlab; "
            f"if it is yours, import its module first"
        )


def _is_trusted(component: Component, kind: type) -> bool:
    """One of our functions, or a class of a kind that its own module defines and somebody has imported."""
    module, _, name = component.target.rpartition(".")
    target = getattr(sys.modules.get(module), name, None)
    is_known = inspect.isclass(target) and issubclass(target, kind) and target.__module__ == module
    return is_known or component.target in FUNCTIONS


def _check(facts: dict[str, Any], weights: Tensor, outline: nn.Module) -> None:
    """Refuse weights that are not those of this network."""
    state = outline.state_dict()
    if _layout(state) != facts["layout"]:
        raise ConfigError("they were saved by other code")
    if weights.shape != (values := sum(tensor.numel() for tensor in state.values()),):
        raise ConfigError(f"it has {values:,} values, the file {weights.numel():,}")


def require_saveable(config: ModelConfig, path: str) -> None:
    """Refuse, before it is trained, a network whose file nobody could read.

    Raises:
        ConfigError: its target is no network class by the name of the module that defines it.
    """
    config.resolve()
    if not _is_trusted(config, nn.Module):
        raise ConfigError(
            f"{path}._target_={config.target}: give a network class, as the module that defines it names it; model "
            f"files name no other code"
        )


def require_detector_saveable(config: DetectorConfig) -> None:
    """Refuse, before it is trained, a detector whose file nobody could read.

    Raises:
        ConfigError: a part is no class of its kind by the name of the module that defines it.
    """
    require_saveable(config.backbone, "backbone")
    parts = ("score", config.score, Scoring), ("attention.module", config.attention.module, nn.Module)
    for path, part, kind in parts:
        if part is None:
            continue
        part.resolve()
        if not _is_trusted(part, kind):
            raise ConfigError(
                f"{path}._target_={part.target}: give a subclass of {kind.__name__}, as the module that defines it "
                f"names it; model files name no other code"
            )


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
