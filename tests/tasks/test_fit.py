"""One training: which weights it keeps, what it leaves on the disk, and how it goes on after a break."""

import errno
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from lightning.pytorch.loggers.logger import DummyLogger

from waferlab.config import FitConfig
from waferlab.data.batches import Batch, Batches
from waferlab.data.dataset import Dataset
from waferlab.distillation.losses import Supervised
from waferlab.errors import ConfigError, WaferlabError
from waferlab.experiment.compose import compose_overrides, configuration
from waferlab.metrics.multilabel import multilabel_metrics
from waferlab.models.classifier import Classifier, predict_logits
from waferlab.tasks.fit import Fitted, device_of, fit
from waferlab.tasks.mixed_type import MixedType


def train(dataset: Dataset, folder: Path, *overrides: str) -> tuple[Classifier, Fitted]:
    """A net2 fitted to labels."""
    small = ("student=net2", "distillation=supervised", "trainer.batch_size=16", "optimizer.lr=0.01")
    config = configuration(compose_overrides("train", [*small, *overrides]))
    how: FitConfig = config.fit
    assert config.student is not None
    torch.manual_seed(0)
    model = Classifier(config.student, dataset.classes, dataset.wafers.size)
    learn, val = dataset.part("train"), dataset.part("val")
    labels, val_labels = (torch.from_numpy(part.labels).float() for part in (learn, val))
    task = MixedType(model, Supervised(), how, Batch(torch.from_numpy(val.maps), val_labels, None), seed=0)
    batches = Batches(learn, how.trainer.batch_size, labels=labels, shuffle=True)
    return model, fit(task, batches, Batches(val, 512), how.trainer, folder, "training", DummyLogger())


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("decay", ["null", "0.9"], ids=["as trained", "averaged"])
def test_the_weights_that_are_kept_are_those_that_were_validated(
    decay: str, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    model, fitted = train(tiny_dataset, tmp_path, "trainer.max_epochs=20", f"trainer.ema_decay={decay}")
    val = tiny_dataset.part("val")
    metrics = multilabel_metrics(predict_logits(model, val.maps).numpy(), val.labels, val.classes)
    assert metrics.values["exact_match"] == pytest.approx(fitted.best_score)
    assert fitted.best_score > 0.1


def test_averaged_weights_are_others_than_the_last_ones(tiny_dataset: Dataset, tmp_path: Path) -> None:
    train(tiny_dataset, tmp_path, "trainer.max_epochs=2", "trainer.ema_decay=0.9")
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert any(
        not torch.equal(last["state_dict"][name], last["current_model_state"][name]) for name in last["state_dict"]
    )


def test_early_stopping_still_holds_when_a_stopped_training_is_taken_up_again(
    tiny_dataset: Dataset, tmp_path: Path
) -> None:
    patient = ("trainer.max_epochs=50", "trainer.early_stopping=2", "optimizer.lr=0.0001")
    model, stopped = train(tiny_dataset, tmp_path, *patient)
    again, resumed = train(tiny_dataset, tmp_path, *patient)
    assert stopped.epochs < 50
    assert resumed == stopped
    assert all(
        torch.equal(*pair) for pair in zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    )


def test_a_store_that_was_moved_keeps_its_best_epoch(tiny_dataset: Dataset, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    model, fitted = train(tiny_dataset, here, "trainer.max_epochs=5")
    here.rename(there)
    worse = ("trainer.max_epochs=7", "optimizer.lr=1")
    kept, resumed = train(tiny_dataset, there, *worse)
    assert (resumed.epochs, resumed.best_score) == (7, fitted.best_score)
    assert same(model.state_dict(), kept.state_dict())


def test_epochs_are_saved_where_they_lie_without_a_temporary_folder(
    tiny_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "full"))
    train(tiny_dataset, tmp_path, "trainer.max_epochs=1")
    assert {path.name for path in tmp_path.iterdir()} == {"best.ckpt", "last.ckpt"}


def test_an_epoch_that_cannot_be_kept_leaves_nothing_half_done(
    tiny_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("waferlab.tasks.checkpoints.os.fsync", full)
    with pytest.raises(WaferlabError, match=rf"^{tmp_path}: an epoch can't be saved there: No space left on device$"):
        train(tiny_dataset, tmp_path, "trainer.max_epochs=1")
    assert not list(tmp_path.iterdir())


def test_a_damaged_best_epoch_is_no_traceback(tiny_dataset: Dataset, tmp_path: Path) -> None:
    train(tiny_dataset, tmp_path, "trainer.max_epochs=1")
    (tmp_path / "best.ckpt").unlink()
    (tmp_path / "best.ckpt").write_bytes(b"half a fi")
    with pytest.raises(WaferlabError, match=r"best\.ckpt: this checkpoint can't be read"):
        train(tiny_dataset, tmp_path, "trainer.max_epochs=1")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    config = configuration(compose_overrides("train", ["trainer.accelerator=gpu"]))
    with pytest.raises(ConfigError, match="torch sees no GPU"):
        device_of(config.trainer)
