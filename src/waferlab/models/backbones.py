"""Large networks by their timm name, fitted to wafer maps."""

from pickle import UnpicklingError
from typing import Final, Literal

import timm
import torch
from safetensors import SafetensorError
from torch import nn

from waferlab.errors import ConfigError, WaferlabError

#: What timm's networks raise where maps are of a size that they weren't made for.
MISFIT: Final = (RuntimeError, AssertionError, ValueError, TypeError, IndexError)


def timm_model(
    name: str,
    in_channels: int,
    num_classes: int,
    size: tuple[int, int],
    stem: Literal["original", "stride2"] = "original",
    pretrained: str | None = None,
) -> nn.Module:
    """Any timm classifier: input (B, in_channels, H, W) float, output (B, num_classes) logits.

    Args:
        name: as in ``timm.list_models()``.
        size: (H, W) of the maps, given to models that need a fixed input size.
        stem: ``original``, or ``stride2`` for ResNets: a 3x3 convolution of stride 2 and no max-pooling, so that maps
            of 52x52 keep twice the resolution in every stage, at about four times the cost.
        pretrained: ``imagenet`` for the weights of timm's model hub, or a file of such weights.

    Raises:
        ConfigError: no such model, a stem that it doesn't have, or maps of a size that it can't read.
        WaferlabError: the weights can't be fetched or read.
    """
    if not timm.is_model(name):
        near = timm.list_models(f"*{name}*")[:5]
        raise ConfigError(f"timm has no model '{name}'" + (f"; near it: {', '.join(near)}" if near else ""))
    options: dict[str, object] = {"in_chans": in_channels, "num_classes": num_classes}
    if timm.models.get_pretrained_cfg_value(name, "fixed_input_size"):
        options["img_size"] = size
    if pretrained is not None:
        options["pretrained"] = True
        if pretrained != "imagenet":
            options["pretrained_cfg_overlay"] = {"file": pretrained}
    try:
        model = timm.create_model(name, **options)
    except (OSError, RuntimeError, UnpicklingError, SafetensorError) as error:
        if pretrained is None:
            raise _misfit(name, size, error) from error
        if pretrained != "imagenet":
            raise WaferlabError(f"{pretrained}: these are no weights of {name}: {error}") from error
        raise WaferlabError(
            f"the ImageNet weights of {name} can't be fetched ({type(error).__name__}). Without internet, either "
            f"train from scratch (weights=none) or download timm's file elsewhere and pass weights=FILE"
        ) from error
    except MISFIT as error:
        raise _misfit(name, size, error) from error
    if stem == "stride2":
        if pretrained is not None:
            raise ConfigError(
                "stem=stride2 is a new layer, and what follows it expects the pretrained one: keep stem=original"
            )
        if not isinstance(model, timm.models.ResNet):
            raise ConfigError(f"stem=stride2 is for ResNets; {name} keeps stem=original")
        model.conv1 = nn.Conv2d(in_channels, model.conv1.out_channels, 3, stride=2, padding=1, bias=False)
        model.maxpool = nn.Identity()
    try:
        _try_out(model, in_channels, size)
    except MISFIT as error:
        raise _misfit(name, size, error) from error
    return model  # type: ignore[no-any-return]


def _try_out(model: nn.Module, in_channels: int, size: tuple[int, int]) -> None:
    """Show a new network one empty map; one on the meta device is an outline, and is left alone."""
    weight = next(model.parameters())
    if weight.is_meta:
        return
    with torch.no_grad(), torch.random.fork_rng([]):
        model.eval()(weight.new_zeros(1, in_channels, *size))
    model.train()


def _misfit(name: str, size: tuple[int, int], error: Exception) -> ConfigError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return ConfigError(f"{name} doesn't read maps of {size[0]}x{size[1]} dies: {reason}")
