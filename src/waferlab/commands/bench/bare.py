"""The training loop that a person would write in plain PyTorch: what the project's own training is measured against."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from waferlab.commands.bench.timing import Epoch
from waferlab.config import FitConfig
from waferlab.data.dataset import Dataset
from waferlab.tasks.fit import device_of
from waferlab.wafer import FAIL, NO_DIE, PASS, dihedral_indices

#: An epoch to warm up, and the one that is timed.
EPOCHS = 2


def bare_loop(
    how: FitConfig,
    model: nn.Module,
    maps: Tensor,
    val_maps: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    answer: Callable[[Tensor], Tensor],
) -> Epoch:
    """The second epoch, with the configured optimizer, clipping, rate and views.

    Args:
        how: of it, the batch size, augmentation, noise, precision and clipping count.
        model: what is trained: all that wants a gradient; where the maps are.
        maps: (N, H, W) uint8.
        val_maps: (M, H, W) uint8.
        loss: scalar, of dies (B, H, W) uint8 and their rows (B,) among the maps.
        answer: (B, …) of dies (B, H, W) uint8; of the validation maps, all are collected on the CPU.
    """
    trainer, device = how.trainer, maps.device
    turns = torch.from_numpy(dihedral_indices(maps.shape[1], maps.shape[2])).to(device)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer, schedule = how.optimizer.build("optimizer", params=trained), how.schedule.build("schedule")
    rate, noise = how.optimizer.arguments["lr"], trainer.die_noise
    lower = torch.autocast(device.type, torch.bfloat16, enabled=trainer.precision == "bf16-mixed")
    steps, step, epoch = EPOCHS * math.ceil(len(maps) / trainer.batch_size), 0, Epoch(0, 0)
    for _ in range(EPOCHS):
        started = time.perf_counter()
        model.train()
        for rows in torch.split(torch.randperm(len(maps), device=device), trainer.batch_size):
            dies = maps[rows]
            if trainer.augment:
                turn = turns[torch.randint(len(turns), (len(rows),), device=device)]
                dies = dies.flatten(1).gather(1, turn).view_as(dies)
            if noise:
                swapped = torch.rand(dies.shape, device=device) < torch.rand(len(rows), 1, 1, device=device) * noise
                dies = torch.where(swapped & (dies != NO_DIE), PASS + FAIL - dies, dies)
            for group in optimizer.param_groups:
                group["lr"] = rate * schedule(step / steps)
            with lower:
                found = loss(dies, rows)
            optimizer.zero_grad()
            found.backward()  # type: ignore[no-untyped-call]
            if trainer.gradient_clip is not None:
                clip_grad_norm_(trained, trainer.gradient_clip)
            optimizer.step()
            found.item()
            step += 1
        trained_for = time.perf_counter() - started
        model.eval()
        with torch.no_grad(), lower:
            torch.cat([answer(some).float().cpu() for some in torch.split(val_maps, 512)])
        epoch = Epoch(trained_for, time.perf_counter() - started)
    return epoch


def placed(how: FitConfig, dataset: Dataset) -> tuple[Tensor, Tensor]:
    """Training and validation maps (N, H, W) uint8 where the training keeps them."""
    train, val = (torch.from_numpy(dataset.part(part).maps).to(device_of(how.trainer)) for part in ("train", "val"))
    return train, val


def pixels(table: Tensor, dies: Tensor) -> Tensor:
    """Channels (B, C, H, W) of dies (B, H, W) by the encoding's table (states, C)."""
    return table.index_select(0, dies.flatten().int()).view(*dies.shape, -1).permute(0, 3, 1, 2)
