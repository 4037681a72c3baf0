"""A network's layers in groups from input to output: what is frozen together, and learns at one rate."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

from timm.models import group_parameters
from torch import nn


def layer_groups(net: nn.Module) -> list[list[str]]:
    """Names of a network's parameters, by group; the last group is its head, the layer that gives the logits.

    timm's networks say themselves what their stages are; of others, each child that has parameters is a group, and so
    is each of the layers of a `torch.nn.Sequential`.
    """
    head = set(_head(net))
    if hasattr(net, "group_matcher"):
        grouped = group_parameters(net, _matcher(net))
        groups = [list(grouped[place]) for place in sorted(grouped)]
    else:
        groups = [[f"{prefix}{name}" for name, _ in layer.named_parameters()] for prefix, layer in _layers(net)]
    body = [[name for name in group if name not in head] for group in groups]
    named = {name for group in groups for name in group} | head
    body[0] += [name for name, _ in net.named_parameters() if name not in named]  # positions, say, beside all layers
    return [*filter(None, body), [name for name, _ in net.named_parameters() if name in head]]


def body_modules(net: nn.Module) -> Iterator[nn.Module]:
    """The modules that have parameters or states of their own, but those of the head."""
    head = set(_head(net))
    for name, module in net.named_modules():
        own = [f"{name}.{key}".lstrip(".") for key, _ in module.named_parameters(recurse=False)]
        if not head.intersection(own):
            yield module


def spaced(lowest: float, highest: float, count: int) -> Sequence[float]:
    """Rates that grow by the same factor from group to group; the last one is the highest."""
    return [highest * (lowest / highest) ** (place / max(count - 1, 1)) for place in range(count)][::-1]


def _head(net: nn.Module) -> list[str]:
    """Names of the parameters of the last layer."""
    if hasattr(net, "get_classifier"):
        found = cast("Any", net).get_classifier()
        heads = found if isinstance(found, tuple | list) else [found]  # several where a network was distilled
        places = {module: name for name, module in net.named_modules()}
        return [f"{places[head]}.{name}" for head in heads for name, _ in head.named_parameters()]
    prefix, last = list(_layers(net))[-1]
    return [f"{prefix}{name}" for name, _ in last.named_parameters()]


def _matcher(net: Any) -> Any:
    try:
        return net.group_matcher(coarse=True)
    except AssertionError:  # some know their finer layers alone
        return net.group_matcher(coarse=False)


def _layers(net: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    for name, child in net.named_children():
        if isinstance(child, nn.Sequential) and type(child) is nn.Sequential:
            yield from _layers(child, f"{prefix}{name}.")
        elif any(True for _ in child.parameters()):
            yield f"{prefix}{name}.", child
