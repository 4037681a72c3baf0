"""A teacher is trained once, whoever asks and how ever often; its outputs belong to the very view that is shown."""

import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from waferlab.config import ModelConfig
from waferlab.data.dataset import Dataset, Wafers
from waferlab.distillation.teacher_store import TeacherStore
from waferlab.models.classifier import Classifier, predict_logits
from waferlab.wafer import DEFECTS

RECIPE = {"backbone": "small", "seed": 0}
CPU = torch.device("cpu")


def network(encoding: str = "signed", seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    config = ModelConfig.model_validate({"_target_": "waferlab.models.students.Net2", "encoding": encoding})
    return Classifier(config, DEFECTS, (52, 52)).eval()


class Training:
    """A stand-in for training that leaves a file for every time it was called."""

    def __init__(self, folder: Path, seconds: float = 0) -> None:
        self.folder, self.seconds = folder, seconds

    def __call__(self, checkpoints: Path) -> tuple[Classifier, str]:
        import time

        self.folder.mkdir(exist_ok=True)
        (self.folder / str(time.monotonic_ns())).touch()
        checkpoints.mkdir(parents=True)
        time.sleep(self.seconds)
        return network(), "the run"

    @property
    def calls(self) -> int:
        return len(list(self.folder.iterdir()))


def want_teacher(folder: Path, training: Training) -> None:
    TeacherStore(folder).get(RECIPE, training)


@pytest.fixture
def store(tmp_path: Path) -> TeacherStore:
    return TeacherStore(tmp_path / "teachers")


@pytest.fixture
def few(tiny_dataset: Dataset) -> Wafers:
    return tiny_dataset.wafers[np.arange(20)]


def test_one_recipe_is_trained_once(store: TeacherStore, tmp_path: Path) -> None:
    training = Training(tmp_path / "calls")
    first, second = store.get(RECIPE, training), store.get(dict(reversed(RECIPE.items())), training)
    assert training.calls == 1
    assert (first.file, first.run_id) == (second.file, second.run_id)
    assert first.run_id == "the run"
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True))


def test_another_recipe_is_another_teacher(store: TeacherStore, tmp_path: Path) -> None:
    training = Training(tmp_path / "calls")
    assert store.get(RECIPE, training).file != store.get(RECIPE | {"seed": 1}, training).file
    assert training.calls == 2


def test_two_processes_that_want_one_teacher_at_once_train_it_once(tmp_path: Path) -> None:
    training = Training(tmp_path / "calls", seconds=2)
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=want_teacher, args=(tmp_path / "teachers", training)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert training.calls == 1


def test_a_failed_training_is_not_taken_for_a_teacher_and_frees_the_lock(store: TeacherStore) -> None:
    def fail(checkpoints: Path) -> tuple[Classifier, str]:
        checkpoints.mkdir(parents=True)
        (checkpoints / "last.ckpt").touch()
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        store.get(RECIPE, fail)
    (lock,) = store.folder.rglob(".lock")
    with FileLock(lock, timeout=0):
        assert list(store.folder.rglob("last.ckpt")), "its checkpoints survive, for going on"
        assert not list(store.folder.rglob("*.safetensors"))

    def go_on(checkpoints: Path) -> tuple[Classifier, str]:
        assert (checkpoints / "last.ckpt").exists()
        return network(), "the run"

    assert store.get(RECIPE, go_on).run_id == "the run"
    assert not list(store.folder.rglob("last.ckpt")), "and are removed once the teacher is whole"


def test_outputs_are_the_models_own_on_each_of_the_eight_turned_maps(store: TeacherStore, few: Wafers) -> None:
    model, maps = network(), few.maps
    logits = store.logits(model, few, "32-true", CPU, every_view=True)
    sides = (maps, maps[:, :, ::-1])
    turned = [np.rot90(side, quarter, (1, 2)) for side in sides for quarter in range(4)]
    assert logits.shape == (8, 20, 8)
    assert logits.dtype == torch.float32
    for view, shown in enumerate(turned):
        torch.testing.assert_close(logits[view], predict_logits(model, np.ascontiguousarray(shown)))


def test_without_augmentation_only_the_maps_as_they_are(store: TeacherStore, few: Wafers) -> None:
    logits = store.logits(network(), few, "32-true", CPU, every_view=False)
    assert logits.shape == (1, 20, 8)
    torch.testing.assert_close(logits[0], predict_logits(network(), few.maps))


def test_an_average_over_views_is_one_answer_a_map(store: TeacherStore, few: Wafers) -> None:
    every = store.logits(network(), few, "32-true", CPU, every_view=True)
    for every_view in (False, True):
        average = store.logits(network(), few, "32-true", CPU, every_view=every_view, average_views=True)
        torch.testing.assert_close(average, every.mean(0, keepdim=True))
    assert len(list((store.folder / "outputs").glob("*.safetensors"))) == 1, "both are read from the same outputs"


def test_outputs_are_computed_once_and_then_read(store: TeacherStore, few: Wafers) -> None:
    first = store.logits(network(), few, "32-true", CPU, every_view=True)
    (file,) = (store.folder / "outputs").glob("*.safetensors")
    written = file.stat().st_mtime_ns
    assert torch.equal(first, store.logits(network(), few, "32-true", CPU, every_view=True))
    assert file.stat().st_mtime_ns == written


def test_other_maps_weights_encoding_precision_or_views_are_other_outputs(store: TeacherStore, few: Wafers) -> None:
    other_maps = few.maps.copy()
    other_maps[0, 26, 26] = 3 - other_maps[0, 26, 26]
    for model, wafers, augment, precision in (
        (network(), few, False, "32-true"),
        (network(), replace(few, maps=other_maps), False, "32-true"),
        (network(seed=1), few, False, "32-true"),
        (network("ordinal"), few, False, "32-true"),
        (network(), few, False, "bf16-mixed"),
        (network(), few, True, "32-true"),
    ):
        store.logits(model, wafers, precision, CPU, every_view=augment)
    assert len(list((store.folder / "outputs").glob("*.safetensors"))) == 6


def test_labels_do_not_name_outputs(store: TeacherStore, few: Wafers) -> None:
    for labels in (few.labels, 1 - few.labels):
        store.logits(network(), replace(few, labels=labels), "32-true", CPU, every_view=False)
    assert len(list((store.folder / "outputs").glob("*.safetensors"))) == 1
