"""What a training leaves on the disk: its last epoch, to go on from, and its best one."""

import os
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping
from lightning.pytorch.plugins import TorchCheckpointIO
from torch import Tensor

from waferlab.errors import WaferlabError
from waferlab.progress import Bar
from waferlab.tasks.task import Task
from waferlab.whole_file import write_whole

LAST, BEST = "last.ckpt", "best.ckpt"


class InPlace(TorchCheckpointIO):
    """Writes a checkpoint where it shall lie; Lightning goes by way of the system's temporary folder."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a file that is on the disk afterwards."""
        content = BytesIO()
        torch.save(checkpoint, content)
        write_whole(Path(path), content.getbuffer())


class Epochs(Checkpoint):
    """After each epoch: saves it, keeps it as the best one if it is, and moves the bar.

    Both files are whole checkpoints, since Lightning puts averaged weights into nothing less. A file appears under its
    name only when it is whole; the best one first, so that a training that is cut between the two repeats an epoch and
    comes to the same.

    Args:
        folder: for both files.
        monitor: the validation metric to choose by, higher is better.
        every: epochs between two validations.
        bar: of epochs.
    """

    def __init__(self, folder: Path, monitor: str, every: int, bar: Bar) -> None:
        self.last, self.best = folder / LAST, folder / BEST
        self.monitor, self.every, self.bar = monitor, every, bar
        self.best_score, self.best_metrics = float("-inf"), dict[str, float]()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Choose how checkpoints are written."""
        trainer.strategy.checkpoint_io = InPlace()

    def state_dict(self) -> dict[str, Any]:
        """The best epoch so far."""
        return {"best_score": self.best_score, "best_metrics": self.best_metrics}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the best epoch so far."""
        self.best_score, self.best_metrics = state_dict["best_score"], state_dict["best_metrics"]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar within the epoch; its last step is the end of the epoch."""
        self.bar.reach(trainer.current_epoch + batch_idx / trainer.num_training_batches)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Called by Lightning after validation and after the module's own end of the epoch.

        Raises:
            WaferlabError: the epoch can't be saved, as on a full disk.
        """
        metrics = trainer.callback_metrics
        is_validated = (trainer.current_epoch + 1) % self.every == 0
        assert isinstance(pl_module, Task)
        is_best = is_validated and pl_module.may_be_best and float(metrics[self.monitor]) > self.best_score
        if is_best:
            self.best_score = float(metrics[self.monitor])
            self.best_metrics = {name: float(metrics[name]) for name in metrics if name.startswith("val/")}
        saved = self.last.with_name("saving.ckpt")
        try:
            trainer.save_checkpoint(saved, weights_only=False)  # of all processes, by the first one
            if not trainer.is_global_zero:
                return
            if is_best:
                link = self.best.with_name("linking.ckpt")
                link.unlink(missing_ok=True)
                os.link(saved, link)
                link.replace(self.best)
            saved.replace(self.last)
        except OSError as error:
            raise WaferlabError(f"{saved.parent}: an epoch can't be saved there: {error.strerror or error}") from error
        finally:
            if trainer.is_global_zero:
                saved.unlink(missing_ok=True)
        shown = {name: metrics[name] for name in ("train/loss", self.monitor) if name in metrics}
        self.bar.reach(trainer.current_epoch + 1, "  ".join(f"{name} {value:.4f}" for name, value in shown.items()))


class Patience(EarlyStopping):
    """Lightning's early stopping, of epochs that may be the best.

    After a resumption it remembers that it had already stopped the training.
    """

    def _should_skip_check(self, trainer: pl.Trainer) -> bool:
        assert isinstance(trainer.lightning_module, Task)
        return super()._should_skip_check(trainer) or not trainer.lightning_module.may_be_best

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop before another epoch where patience was at its end."""
        super().on_train_start(trainer, pl_module)
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience


def epochs_in(checkpoint: Path) -> int:
    """Epochs that a checkpoint holds; 0 where there is none.

    Raises:
        WaferlabError: it can't be read.
    """
    return int(_read(checkpoint)["epoch"]) + 1 if checkpoint.exists() else 0


def weights_in(checkpoint: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint, averaged where the training averages.

    Raises:
        WaferlabError: it can't be read.
    """
    weights: dict[str, Tensor] = _read(checkpoint)["state_dict"]
    return weights


def _read(checkpoint: Path) -> dict[str, Any]:
    try:
        read: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        return read | {"epoch": int(read["epoch"]), "state_dict": dict(read["state_dict"])}
    except (UnpicklingError, OSError, RuntimeError, KeyError, TypeError, EOFError, ValueError) as error:
        raise WaferlabError(
            f"{checkpoint}: this checkpoint can't be read or is damaged; delete its folder to start the training anew"
        ) from error
