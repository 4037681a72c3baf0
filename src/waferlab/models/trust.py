"""Which code a model file may name: our own networks, and classes whose module the user's program has imported."""

import inspect
import sys
from pathlib import Path
from typing import Final

from torch import nn

from waferlab.config import DetectorConfig, ModelConfig, NormalityModelConfig
from waferlab.errors import ConfigError, WaferlabError
from waferlab.models.normality import Measure
from waferlab.models.scoring import Scoring
from waferlab.schema import Component

#: The only functions that a model file may name; everything else must be a class.
FUNCTIONS: Final = ("waferlab.models.backbones.timm_model", "waferlab.models.attention.timm_attention")


def require_trust(path: Path, component: Component, kind: type) -> None:
    """Refuse what isn't trusted, and a network that asks for other weights than the file's."""
    if getattr(component, "weights", "none") != "none" or not is_trusted(component, kind):
        raise WaferlabError(
            f"{path}: refused, it names '{component.target}', which is no {kind.__name__} of Waferlab; "
            f"if it is yours, import its module first"
        )


def is_trusted(component: Component, kind: type) -> bool:
    """One of our functions, or a class of a kind that its own module defines and somebody has imported."""
    module, _, name = component.target.rpartition(".")
    target = getattr(sys.modules.get(module), name, None)
    is_known = inspect.isclass(target) and issubclass(target, kind) and target.__module__ == module
    return is_known or component.target in FUNCTIONS


def require_saveable(config: ModelConfig, path: str) -> None:
    """Refuse, before it is trained, a network whose file nobody could read.

    Raises:
        ConfigError: its target is no network class by the name of the module that defines it.
    """
    config.resolve()
    if not is_trusted(config, nn.Module):
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
    _require_classes(("score", config.score, Scoring), ("attention.module", config.attention.module, nn.Module))


def require_normality_saveable(config: NormalityModelConfig) -> None:
    """Refuse, before it is fitted, a model of normality whose file nobody could read.

    Raises:
        ConfigError: a part is no class of its kind by the name of the module that defines it.
    """
    if config.backbone is not None:
        require_saveable(config.backbone, "backbone")
    _require_classes(("normality", config.normality, Measure), ("score", config.score, Scoring))


def _require_classes(*parts: tuple[str, Component | None, type]) -> None:
    for path, part, kind in parts:
        if part is None:
            continue
        part.resolve()
        if not is_trusted(part, kind):
            raise ConfigError(
                f"{path}._target_={part.target}: give a subclass of {kind.__name__}, as the module that defines it "
                f"names it; model files name no other code"
            )
