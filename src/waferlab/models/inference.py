"""Faster answers of a finished network, where its last digits don't matter."""

import os
import shutil
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from waferlab.errors import ConfigError

Precision = Literal["32-true", "bf16-mixed"]


def hasten(network: nn.Module, precision: Precision, compiled: bool) -> None:
    """Have a network of maps (B, H, W) answer in lower precision, or by compiled code, from now on.

    Compilation takes place at the first answer, which takes long, and takes the weights as they are then: they must
    not change any more. A batch smaller than the largest one so far is filled up, so that it needs no code of its own.

    Raises:
        ConfigError: there is no C++ compiler, and CPUs need one.
    """
    device, plain = next(network.parameters()).device.type, network.forward
    if compiled and device == "cpu" and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
        raise ConfigError("compile=true: this needs a C++ compiler, such as g++; install one, or leave it out")
    answer = _in_one_size(torch.compile(plain, options={"freezing": True})) if compiled else plain

    def forward(maps: Tensor) -> Tensor | list[Tensor]:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16-mixed"):
            found: Tensor | list[Tensor] = answer(maps)
        return found

    network.forward = forward


def _in_one_size(answer: Callable[[Tensor], Tensor | list[Tensor]]) -> Callable[[Tensor], Tensor | list[Tensor]]:
    most = 0

    def filled(maps: Tensor) -> Tensor | list[Tensor]:
        nonlocal most
        count, most = len(maps), max(most, len(maps))
        with torch.no_grad():
            found = answer(torch.cat([maps, maps[:1].expand(most - count, *maps.shape[1:])]))
        return found[:count] if isinstance(found, Tensor) else [each[:count] for each in found]

    return filled
