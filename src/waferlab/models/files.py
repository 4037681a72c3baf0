"""Model files: weights and what they need to be rebuilt, in safetensors, so that reading one never runs code."""

import json
import os
from pathlib import Path
from typing import Final

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from waferlab.config import ModelConfig
from waferlab.errors import ConfigError, WaferlabError
from waferlab.models.classifier import Classifier

#: The only modules whose networks a model file may name.
TRUSTED: Final = ("waferlab.models.students", "waferlab.models.backbones")
KEY: Final = "waferlab"


def save_model(model: Classifier, path: Path) -> Path:
    """Write a model file; it appears under its name only when it is whole."""
    config = model.config.model_dump(mode="json", by_alias=True) | {"weights": "none"}
    facts = {"model": config, "classes": model.classes, "size": model.size}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.net.state_dict().items()}
    return write_whole(path, save(tensors, {KEY: json.dumps(facts, separators=(",", ":"))}))


def load_model(path: Path) -> Classifier:
    """Read a model file written by `save_model`.

    Raises:
        WaferlabError: the file is missing, damaged, names code that isn't ours, or its weights don't fit.
    """
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {})[KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        config = ModelConfig.model_validate(facts["model"])
        classes, size = tuple(map(str, facts["classes"])), (int(facts["size"][0]), int(facts["size"][1]))
    except FileNotFoundError as error:
        raise WaferlabError(f"{path}: no such model file") from error
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, IndexError, ValidationError) as error:
        raise WaferlabError(f"{path}: this is no model file of Waferlab, or it is damaged ({_brief(error)})") from error
    module = config.target.rpartition(".")[0]
    if module not in TRUSTED or getattr(config.resolve(), "__module__", None) != module:
        raise WaferlabError(f"{path}: refused, it names '{config.target}', which is no network of Waferlab")
    try:
        with torch.device("meta"):  # nothing is allocated before the weights are known to fit
            model = Classifier(config, classes, size)
        model.net.load_state_dict(tensors, strict=True, assign=True)
    except (ConfigError, RuntimeError) as error:
        raise WaferlabError(f"{path}: its weights don't fit the network it names ({_brief(error)})") from error
    return model.eval()


def is_model_file(path: Path) -> bool:
    """Whether the file says of itself that it is one of ours."""
    try:
        with safe_open(path, "pt") as file:
            return KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def write_whole(path: Path, content: bytes) -> Path:
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
