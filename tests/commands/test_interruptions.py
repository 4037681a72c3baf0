"""Whatever ends a run: its status is right, no half-written file is taken for a whole one, and it can be resumed."""

import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run

import waferlab
from waferlab.cli import main
from waferlab.config import ModelConfig
from waferlab.data.simulator import load
from waferlab.errors import Interrupted, WaferlabError
from waferlab.models.classifier import Classifier
from waferlab.models.files import save_model
from waferlab.tasks.checkpoints import Epochs
from waferlab.tasks.mixed_type import MixedType
from waferlab.tracking.tracker import default_uri
from waferlab.wafer import DEFECTS

TINY = ("dataset.maps=240", "student=net2", "backbone=timm", "backbone.name=test_resnet", "test=false")
LONG_STUDENT = ("teacher.trainer.max_epochs=1", "trainer.max_epochs=40", "trainer.ema_decay=0.9")
LONG_TEACHER = ("teacher.trainer.max_epochs=40", "trainer.max_epochs=1")


class Started:
    """``waferlab train`` in a process of its own."""

    def __init__(self, store: Path, *overrides: str) -> None:
        command = [sys.executable, "-m", "waferlab.cli", "train", *overrides, f"store={store}"]
        self.store = store
        self.process = subprocess.Popen(
            [*command, f"hydra.run.dir={store}"],
            env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def until(self, pattern: str) -> "Started":
        """Wait until a file of this name is in the store."""
        deadline = time.monotonic() + 120
        while not list(self.store.glob(pattern)):
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return self

    def end(self, number: signal.Signals | None = None) -> tuple[int, str]:
        """Send a signal, if any, and wait for the end: exit code, and what was said on standard error."""
        if number is not None:
            self.process.send_signal(number)
        error = self.process.communicate(timeout=300)[1]
        return self.process.returncode, error


def the_run(store: Path, role: str) -> Run:
    """The only run of a role."""
    client = MlflowClient(default_uri(store))
    runs = client.search_runs([client.get_experiment_by_name("waferlab").experiment_id])
    (found,) = [run for run in runs if run.data.tags.get("role") == role]
    return found


def interrupted_after_an_epoch(store: Path) -> str:
    """A run of three epochs that ended when the first one had just been saved."""
    save = Epochs.on_train_epoch_end

    def saves_and_ends(*of: Any) -> None:
        save(*of)
        raise Interrupted(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Epochs, "on_train_epoch_end", saves_and_ends)
        with pytest.raises(Interrupted):
            waferlab.train(*TINY, "distillation=supervised", "trainer.max_epochs=3", f"store={store}")
    return str(the_run(store, "experiment").info.run_id)


def teacher_file(file: Path, seed: int) -> Path:
    """A classifier that nobody has trained."""
    torch.manual_seed(seed)
    config = ModelConfig.model_validate({"_target_": "waferlab.models.students.Net2", "encoding": "die_fail"})
    save_model(Classifier(config, DEFECTS, (52, 52)), file)
    return file


class TestStudent:
    @pytest.mark.parametrize(
        ("number", "status", "how"),
        [
            (signal.SIGINT, "KILLED", "trainer.precision=32-true"),
            (signal.SIGTERM, "KILLED", "trainer.precision=bf16-mixed"),
            (signal.SIGKILL, "RUNNING", "trainer.die_noise=0.05"),
        ],
        ids=["Ctrl-C", "kill, bf16", "kill -9, noise"],
    )
    def test_resumes_to_the_same_weights(self, number: signal.Signals, status: str, how: str, tmp_path: Path) -> None:
        overrides = (*TINY, *LONG_STUDENT, how)
        code, error = Started(tmp_path, *overrides).until("runs/*/training/last.ckpt").end(number)
        assert code == (-number if number == signal.SIGKILL else 128 + number), error
        assert "Traceback" not in error
        run = the_run(tmp_path, "experiment")
        assert run.info.status == status, "after kill -9 nobody is left to say that it ended"
        assert not list(tmp_path.glob("runs/*/model.safetensors"))
        if number != signal.SIGKILL:
            assert f"train resume={run.info.run_id}" in error.splitlines()[-1]

        resumed = waferlab.train(f"resume={run.info.run_id}", f"store={tmp_path}")
        assert resumed.run_id == run.info.run_id
        run = the_run(tmp_path, "experiment")
        assert run.info.status == "FINISHED"
        assert "resume=" not in run.data.tags["command"], "the command that began it is the one that repeats it"
        undisturbed = waferlab.train(*overrides, f"store={tmp_path}")
        assert resumed.model_file.read_bytes() == undisturbed.model_file.read_bytes()

    def test_interrupted_after_its_last_epoch_still_knows_its_best_score(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(*_: object) -> None:
            raise WaferlabError("the disk is full")

        with monkeypatch.context() as patched:
            patched.setattr("waferlab.experiment.mixed_type.save_model", fails)
            with pytest.raises(WaferlabError, match="the disk is full"):
                waferlab.train(*TINY, "teacher.trainer.max_epochs=1", "trainer.max_epochs=2", f"store={tmp_path}")
        run = the_run(tmp_path, "experiment")
        assert run.info.status == "FAILED"
        waferlab.train(f"resume={run.info.run_id}", f"store={tmp_path}")
        metrics = the_run(tmp_path, "experiment").data.metrics
        assert metrics["best_validation"] >= metrics["val/teacher_agreement"]
        assert metrics["epochs"] == 2

    def test_interrupted_when_an_epoch_is_just_saved_has_that_epochs_values(self, tmp_path: Path) -> None:
        run = interrupted_after_an_epoch(tmp_path)
        waferlab.train(f"resume={run}", f"store={tmp_path}")
        for metric in ("train/loss", "train/learning_rate", "val/exact_match"):
            history = MlflowClient(default_uri(tmp_path)).get_metric_history(run, metric)
            assert [value.step for value in history] == [0, 1, 2], metric

    def test_goes_on_with_the_same_teachers_and_extra_wafers_or_not_at_all(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stops(task: MixedType) -> None:
            validated(task)
            if task.current_epoch == 1:
                raise KeyboardInterrupt

        def writes(seed: int) -> None:
            wafers = load(maps=60, seed=seed).wafers
            np.savez(extra, maps=wafers.maps, labels=wafers.labels)

        validated, extra = MixedType.on_validation_epoch_end, tmp_path / "extra.npz"
        files = [teacher_file(tmp_path / f"{seed}.safetensors", seed) for seed in (0, 1)]
        given = (f"teacher.model=[{','.join(map(str, files))}]", "dataset@extra=arrays", f"extra.path={extra}")
        mine = ("dataset.maps=240", "student=net2", "test=false", *given, "trainer.max_epochs=2", f"store={tmp_path}")
        writes(1)
        with monkeypatch.context() as patched:
            patched.setattr(MixedType, "on_validation_epoch_end", stops)
            with pytest.raises(KeyboardInterrupt):
                waferlab.train(*mine)
        run = the_run(tmp_path, "experiment").info.run_id
        writes(2)
        with pytest.raises(WaferlabError, match=r"was trained on other maps.* than arrays now has"):
            waferlab.train(f"resume={run}", f"store={tmp_path}")
        writes(1)
        resumed = waferlab.train(f"resume={run}", f"store={tmp_path}")
        undisturbed = waferlab.train(*mine)
        assert resumed.model_file.read_bytes() == undisturbed.model_file.read_bytes()

    def test_a_checkpoint_that_would_run_code_is_refused(self, tmp_path: Path) -> None:
        run = interrupted_after_an_epoch(tmp_path)
        (checkpoint,) = tmp_path.glob("runs/*/training/last.ckpt")
        checkpoint.write_bytes(pickle.dumps(Planted(tmp_path / "ran")))
        with pytest.raises(WaferlabError, match="can't be read or is damaged; delete it"):
            waferlab.train(f"resume={run}", f"store={tmp_path}")
        assert not (tmp_path / "ran").exists()


class Planted:
    """A pickle that touches a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.path), "w")


class TestTeacher:
    def test_goes_on_when_the_same_experiment_is_asked_for_again(self, tmp_path: Path) -> None:
        overrides = (*TINY, *LONG_TEACHER)
        code, error = Started(tmp_path, *overrides).until("teachers/*/training/last.ckpt").end(signal.SIGTERM)
        assert code == 128 + signal.SIGTERM, error
        begun = the_run(tmp_path, "teacher")
        assert begun.info.status == the_run(tmp_path, "experiment").info.status == "KILLED"
        assert not list(tmp_path.glob("teachers/*/model.safetensors"))
        with pytest.raises(WaferlabError, match="a teacher goes on when an experiment that wants it is run again"):
            waferlab.train(f"resume={begun.info.run_id}", f"store={tmp_path}")

        waferlab.train(*overrides, f"store={tmp_path}")
        finished = the_run(tmp_path, "teacher")
        history = MlflowClient(default_uri(tmp_path)).get_metric_history(finished.info.run_id, "train/loss")
        assert [value.step for value in history].count(0) == 1, "what was trained before is not trained again"
        assert (finished.info.run_id, finished.info.status) == (begun.info.run_id, "FINISHED")

        undisturbed = tmp_path / "undisturbed"
        waferlab.train(*overrides, f"store={undisturbed}")
        (resumed,) = tmp_path.glob("teachers/*/model.safetensors")
        (other,) = undisturbed.glob("teachers/*/model.safetensors")
        assert resumed.read_bytes() == other.read_bytes()


def test_a_checkpoint_that_does_not_fit_on_the_disk_ends_the_run_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large = ("distillation=supervised", "student=timm", "student.name=resnet18", "dataset.maps=120")
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, most))
    try:
        code = main(["train", *large, "trainer.max_epochs=1", f"store={tmp_path}", f"hydra.run.dir={tmp_path}"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))
    error = capsys.readouterr().err
    assert code == 1, error
    run = the_run(tmp_path, "experiment")
    folder = tmp_path / "runs" / run.info.run_id / "training"
    assert error.splitlines()[-1] == f"waferlab: {folder}: an epoch can't be saved there: File too large"
    assert "Traceback" not in error
    assert run.info.status == "FAILED"
    assert not list(tmp_path.glob("runs/*/training/*.ckpt"))
