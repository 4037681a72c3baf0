"""One training with Lightning: callbacks, checkpoints, resumption; the best epoch's weights at the end."""

import logging
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, WeightAveraging
from lightning.pytorch.loggers import Logger
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from waferlab import processes
from waferlab.config import TrainerConfig
from waferlab.data.batches import Batches
from waferlab.errors import ConfigError
from waferlab.progress import progress
from waferlab.tasks.checkpoints import LAST, Epochs, Patience, epochs_in, weights_in
from waferlab.tasks.task import Task

#: What is kept of a validation metric's name when the best epoch's value is logged: ``val/…`` becomes ``best/…``.
BEST: Final = "best/"


@dataclass(frozen=True)
class Fitted:
    """How a training went.

    Attributes:
        epochs: epochs trained, also those before a resumption.
        best_score: the monitored validation metric of the weights that were kept.
        best_metrics: all validation metrics of these, each under ``val/…``.
    """

    epochs: int
    best_score: float
    best_metrics: Mapping[str, float]

    @property
    def metrics(self) -> dict[str, float]:
        """What a run keeps of it: ``best/…`` are the validation metrics of the weights that were kept."""
        best = {f"{BEST}{name.removeprefix('val/')}": value for name, value in self.best_metrics.items()}
        return {"best_validation": self.best_score, "epochs": self.epochs} | best


class Watched(Callback):
    """Shows each validated epoch's number and metrics to a function, which may end the training by raising."""

    def __init__(self, watch: Callable[[int, Mapping[str, float]], None]) -> None:
        self.watch = watch

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Called by Lightning when an epoch's metrics are known."""
        if isinstance(pl_module, Task) and pl_module.may_be_best:
            self.watch(trainer.current_epoch, {name: float(value) for name, value in trainer.callback_metrics.items()})


class OwnSignals(Callback):
    """Keeps the program's answer to SIGTERM: Lightning's has processes talk, some of which may have ended."""

    def __init__(self) -> None:
        self.answer = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Called by Lightning after it has put its own answer."""
        signal.signal(signal.SIGTERM, self.answer)


def device_of(trainer: TrainerConfig) -> torch.device:
    """Where a training keeps its maps and its model.

    Raises:
        ConfigError: a GPU is asked for, and there is none, or fewer than processes.
    """
    found = torch.cuda.is_available()
    if trainer.accelerator == "gpu" and not found:
        raise ConfigError("accelerator=gpu, but torch sees no GPU here; leave it at auto, or install another torch")
    if not found or trainer.accelerator == "cpu":
        return torch.device("cpu")
    if (wanted := processes.count_here()) > (gpus := torch.cuda.device_count()):
        raise ConfigError(f"torchrun started {wanted} processes here, where torch sees {gpus} GPUs: one process a GPU")
    return torch.device("cuda")


def fit(
    task: Task,
    train: Batches,
    val: Batches,
    config: TrainerConfig,
    folder: Path,
    title: str,
    logger: Logger,
    watch: Callable[[int, Mapping[str, float]], None] | None = None,
) -> Fitted:
    """Fit a task; afterwards its model has the weights of the best epoch.

    Args:
        folder: for checkpoints; a last checkpoint found there is continued, to the same result as without the break.
        title: what the progress bar calls it.
        watch: is shown each validated epoch's number and metrics.

    Raises:
        WaferlabError: the loss is not finite, or the checkpoint can't be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = epochs_in(folder / LAST)
    with processes.everywhere(_fit, task, train, val, config, folder, title, done):
        epochs, trained = _fit(task, train, val, config, folder, title, done, logger, watch)
    task.load_state_dict(weights_in(epochs.best))
    return Fitted(trained, epochs.best_score, epochs.best_metrics)


def _fit(
    task: Task,
    train: Batches,
    val: Batches,
    config: TrainerConfig,
    folder: Path,
    title: str,
    done: int,
    logger: Logger | None = None,
    watch: Callable[[int, Mapping[str, float]], None] | None = None,
) -> tuple[Epochs, int]:
    """What every process does of a training: its epochs, and how many there are now; only the first one logs."""
    quiet()
    every = config.validate_every
    with progress(title, config.max_epochs, done) as bar:
        epochs = Epochs(folder, task.monitor, every, bar)
        callbacks: list[Callback] = [epochs, *([Watched(watch)] if watch else [])]
        if config.ema_decay is not None:
            callbacks.append(WeightAveraging(multi_avg_fn=_warmed_average(config.ema_decay)))
        if config.early_stopping is not None:
            callbacks.append(Patience(task.monitor, mode="max", patience=-(-config.early_stopping // every)))
        if processes.count() > 1:
            callbacks.append(OwnSignals())
        trainer = pl.Trainer(
            max_epochs=config.max_epochs,
            accelerator=config.accelerator,
            deterministic="warn" if device_of(config).type == "cuda" else None,
            devices=processes.count_here(),
            num_nodes=processes.count() // processes.count_here(),
            strategy="auto" if processes.count() == 1 else "ddp_find_unused_parameters_true",  # of pretraining epochs
            use_distributed_sampler=False,
            precision=config.precision,
            gradient_clip_val=config.gradient_clip,
            check_val_every_n_epoch=every,
            callbacks=callbacks,
            logger=logger or False,
            default_root_dir=folder,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        with _ctrl_c_as_python_has_it():
            trainer.fit(task, train, val, ckpt_path=epochs.last if done else None, weights_only=True)
    return epochs, trainer.current_epoch


@contextmanager
def _ctrl_c_as_python_has_it() -> Iterator[None]:
    """Lightning ends the whole program at a KeyboardInterrupt, and keeps later ones away; a caller wants to see it."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as end:
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from end


def _warmed_average(decay: float) -> Callable[[list[Tensor], list[Tensor], Tensor | int], None]:
    """An exponential average that forgets the initial weights quickly: early steps use a smaller decay."""

    def average(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        done = int(count)
        update = get_ema_multi_avg_fn(min(decay, (1 + done) / (10 + done)))  # type: ignore[no-untyped-call]
        update(averaged, current, count)

    return average


def quiet() -> None:
    """Keep Lightning's advice for its authors away from people who can't act on it."""
    for name in (
        "utilities.rank_zero",
        "accelerators.cuda",
        "trainer.connectors.signal_connector",
        "trainer.connectors.checkpoint_connector",
    ):
        logging.getLogger(f"lightning.pytorch.{name}").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message="Grad strides do not match")  # DDP, on 1x1 convolutions
