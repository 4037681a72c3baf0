"""One training with Lightning: callbacks, checkpoints, resumption; the best epoch's weights at the end."""

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, WeightAveraging
from lightning.pytorch.loggers import Logger
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from waferlab.config import TrainerConfig
from waferlab.data.batches import Batches
from waferlab.errors import WaferlabError
from waferlab.progress import Bar, progress
from waferlab.tasks.mixed_type import MixedType

LAST, BEST = "last", "best"


@dataclass(frozen=True)
class Fitted:
    """How a training went.

    Attributes:
        epochs: epochs trained, also those before a resumption.
        best_score: the monitored validation metric of the weights that were kept.
    """

    epochs: int
    best_score: float


def device_of(trainer: TrainerConfig) -> torch.device:
    """Where a training keeps its maps and its model."""
    use_gpu = trainer.accelerator == "gpu" or (trainer.accelerator == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if use_gpu else "cpu")


def fit(
    task: MixedType, train: Batches, val: Batches, config: TrainerConfig, folder: Path, title: str, logger: Logger
) -> Fitted:
    """Fit a task; afterwards its model has the weights of the best epoch.

    Args:
        folder: for checkpoints; a last checkpoint found there is continued, to the same result as without the break.
        title: what the progress bar calls it.

    Raises:
        WaferlabError: the loss is not finite, or the checkpoint can't be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    every = config.validate_every
    saving: dict[str, Any] = {"dirpath": folder, "enable_version_counter": False, "save_on_train_epoch_end": True}
    best = ModelCheckpoint(
        **saving, filename=BEST, monitor=task.monitor, mode="max", every_n_epochs=every, save_weights_only=True
    )
    last = ModelCheckpoint(**saving, filename=LAST)
    callbacks: list[Callback] = [best, last]
    if config.ema_decay is not None:
        callbacks.append(WeightAveraging(multi_avg_fn=_warmed_average(config.ema_decay)))
    if config.early_stopping is not None:
        patience = -(-config.early_stopping // every)
        callbacks.append(EarlyStopping(task.monitor, mode="max", patience=patience))
    checkpoint = folder / f"{LAST}.ckpt"
    done = _epochs_in(checkpoint)
    _quiet()
    with progress(title, config.max_epochs, done) as bar:
        trainer = pl.Trainer(
            max_epochs=config.max_epochs,
            accelerator=config.accelerator,
            devices=1,
            precision=config.precision,
            gradient_clip_val=config.gradient_clip,
            check_val_every_n_epoch=every,
            callbacks=[*callbacks, _Show(bar, task.monitor)],
            logger=logger,
            default_root_dir=folder,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(task, train, val, ckpt_path=checkpoint if done else None, weights_only=True)
    kept = torch.load(folder / f"{BEST}.ckpt", map_location="cpu", weights_only=True)["state_dict"]
    task.load_state_dict(kept)
    score = best.best_model_score
    return Fitted(trainer.current_epoch, float(score) if score is not None else float("nan"))


def _warmed_average(decay: float) -> Callable[[list[Tensor], list[Tensor], Tensor | int], None]:
    """An exponential average that forgets the initial weights quickly: early steps use a smaller decay."""

    def average(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        done = int(count)
        update = get_ema_multi_avg_fn(min(decay, (1 + done) / (10 + done)))  # type: ignore[no-untyped-call]
        update(averaged, current, count)

    return average


class _Show(Callback):
    """Moves the bar after every epoch."""

    def __init__(self, bar: Bar, monitor: str) -> None:
        self.bar, self.monitor = bar, monitor

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        shown = {name: trainer.callback_metrics.get(name) for name in ("train/loss", self.monitor)}
        self.bar.advance(1, "  ".join(f"{name} {value:.4f}" for name, value in shown.items() if value is not None))


def _epochs_in(checkpoint: Path) -> int:
    """Epochs that a last checkpoint holds; 0 where there is none."""
    if not checkpoint.exists():
        return 0
    try:
        return int(torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["epoch"]) + 1
    except (UnpicklingError, RuntimeError, KeyError, EOFError, ValueError) as error:
        raise WaferlabError(
            f"{checkpoint}: this checkpoint can't be read or is damaged; delete it to start this training anew"
        ) from error


def _quiet() -> None:
    """Keep Lightning's advice for its authors away from people who can't act on it."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
