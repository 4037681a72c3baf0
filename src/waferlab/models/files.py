"""Model files: weights and what they need to be rebuilt, in safetensors, so that reading one never runs code.

All weights are one flat float32 tensor in the order of the network's state: names and shapes of forty small tensors
would be a large part of a 21 KB file. A digest of names and shapes beside it tells when the network's code has changed.
"""

import hashlib
import inspect
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from waferlab.config import ModelConfig
from waferlab.errors import ConfigError, WaferlabError
from waferlab.models.classifier import Classifier

#: The only function that a model file may name; everything else must be a network class.
BACKBONE: Final = "waferlab.models.backbones.timm_model"
KEY: Final = "waferlab"
WEIGHTS: Final = "weights"

#: What reading a damaged or foreign file raises; the last two where its facts nest too deep or hold ``Infinity``.
DAMAGE: Final = (
    *(SafetensorError, OSError, KeyError, TypeError, ValueError, IndexError, ValidationError),
    *(RecursionError, OverflowError),
)


def save_model(model: Classifier, path: Path) -> Path:
    """Write a model file; it appears under its name only when it is whole."""
    config = model.config.model_dump(mode="json", by_alias=True) | {"weights": "none"}
    facts = {"model": config, "classes": model.classes, "size": model.size, "layout": _layout(model.net.state_dict())}
    weights = torch.cat([tensor.detach().cpu().float().flatten() for tensor in model.net.state_dict().values()])
    return write_whole(path, save({WEIGHTS: weights}, {KEY: json.dumps(facts, separators=(",", ":"))}))


def load_model(path: Path) -> Classifier:
    """Read a model file written by `save_model`; the network is in evaluation mode.

    Raises:
        WaferlabError: the file is missing, damaged, names code that isn't trusted, or its weights don't fit.
    """
    try:
        with safe_open(path, "pt") as file:
            facts, weights = json.loads((file.metadata() or {})[KEY]), file.get_tensor(WEIGHTS)
        config = ModelConfig.model_validate(facts["model"])
        classes, size = tuple(map(str, facts["classes"])), (int(facts["size"][0]), int(facts["size"][1]))
        layout = str(facts["layout"])
    except FileNotFoundError as error:
        raise WaferlabError(f"{path}: no such model file") from error
    except DAMAGE as error:
        raise WaferlabError(f"{path}: this is no model file of Waferlab, or it is damaged ({_brief(error)})") from error
    if not _trusted(config):
        raise WaferlabError(
            f"{path}: refused, it names '{config.target}', which is no network of Waferlab; "
            f"if it is yours, import its module first"
        )
    try:
        with torch.device("meta"):  # nothing large is allocated before the weights are known to fit
            outline = Classifier(config, classes, size).net.state_dict()
        if _layout(outline) != layout:
            raise ConfigError("they were saved by other code")
        if weights.shape != (values := sum(tensor.numel() for tensor in outline.values()),):
            raise ConfigError(f"it has {values:,} values, the file {weights.numel():,}")
        model = Classifier(config, classes, size)
        _fill(model.net, weights)
    except (WaferlabError, RuntimeError, TypeError, OverflowError) as error:
        raise WaferlabError(f"{path}: its weights don't fit the network it names ({_brief(error)})") from error
    return model.eval()


def _trusted(config: ModelConfig) -> bool:
    """Our backbones, or a network class that its own module defines: our students', or one that the user imported."""
    if config.weights != "none":
        return False
    module, _, name = config.target.rpartition(".")
    target = getattr(sys.modules.get(module), name, None)
    is_network = inspect.isclass(target) and issubclass(target, nn.Module) and target.__module__ == module
    return is_network or config.target == BACKBONE


def require_saveable(config: ModelConfig, path: str) -> None:
    """Refuse, before it is trained, a network whose file nobody could read.

    Raises:
        ConfigError: its target is no network class by the name of the module that defines it.
    """
    config.resolve()
    if not _trusted(config.model_copy(update={"weights": "none"})):
        raise ConfigError(
            f"{path}._target_={config.target}: give a network class, as the module that defines it names it; model "
            f"files name no other code"
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


def write_whole(path: Path, content: bytes | memoryview) -> Path:
    """Write a file that appears under its name only when it is whole and on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _brief(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
