"""The claim of label-free distillation, end to end: labels of training and validation change nothing in the student."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from waferlab.config import ModelConfig
from waferlab.data.batches import Batch
from waferlab.data.dataset import Dataset, Part
from waferlab.data.split import hide_labels
from waferlab.distillation.losses import Distillation, Hinton, LogitDistillation, Supervised
from waferlab.experiment.compose import compose_overrides, configuration
from waferlab.experiment.networks import Place, fit_classifier, make_model
from waferlab.experiment.teachers import Teachers
from waferlab.models.classifier import Classifier
from waferlab.models.files import save_model
from waferlab.tasks.mixed_type import MixedType
from waferlab.tracking.tracker import Tracker
from waferlab.wafer import DEFECTS


def scrambled(dataset: Dataset, *parts: Part) -> Dataset:
    """The same maps on the same sides; every label bit of these parts drawn anew."""
    labels = dataset.wafers.labels.copy()
    rows = dataset.within(*parts)
    labels[rows] = np.random.default_rng(1).integers(0, 2, labels[rows].shape, np.uint8)
    return replace(dataset, wafers=replace(dataset.wafers, labels=labels))


def trained_student(dataset: Dataset, store: Path, *overrides: str) -> dict[str, torch.Tensor]:
    """Weights of a net2 after two epochs with a fixed teacher."""
    torch.manual_seed(0)
    given = {"_target_": "waferlab.models.students.Compact", "width": 4, "depths": [1, 1, 1], "encoding": "die_fail"}
    teacher_file = store / "teacher.safetensors"
    save_model(Classifier(ModelConfig.model_validate(given), dataset.classes, dataset.wafers.size), teacher_file)
    small = ("student=net2", "trainer.max_epochs=2", "trainer.batch_size=32", "trainer.accelerator=cpu")
    model_and_store = (f"teacher.model={teacher_file}", f"store={store}", "teacher.trainer.precision=32-true")
    config = configuration(compose_overrides("train", [*small, *model_and_store, *overrides]))
    loss = config.distillation.build("distillation")
    tracker = Tracker(config.tracking, config.store)
    teachers = Teachers(config, dataset, tracker)
    assert config.student is not None
    student = make_model(config.student, dataset, tracker, "student", config.seed)
    with tracker.run("test", {}) as run:
        place = Place(run, store / "training", "student")
        answers = teachers.answers(teachers.get(), every_view=True)
        fit_classifier(student, loss, config.fit, config.seed, dataset, answers, place)
    return student.state_dict()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize(
    ("distillation", "label_free"), [("logits", True), ("hinton", False)], ids=["logits", "hinton, for contrast"]
)
def test_scrambled_labels_leave_the_student_bit_identical(
    tiny_dataset: Dataset, tmp_path: Path, distillation: str, label_free: bool
) -> None:
    loss = f"distillation={distillation}"
    right = trained_student(tiny_dataset, tmp_path / "right", loss)
    wrong = trained_student(scrambled(tiny_dataset, "train", "val"), tmp_path / "wrong", loss)
    assert same(right, wrong) is label_free


def test_hidden_labels_leave_a_student_of_hintons_loss_bit_identical_and_known_ones_do_not(
    tiny_dataset: Dataset, tmp_path: Path
) -> None:
    partly = hide_labels(tiny_dataset, 0.5)
    right, hidden, known = (
        trained_student(dataset, tmp_path / name, "distillation=hinton")
        for name, dataset in {
            "right": partly, "hidden": scrambled(partly, "unlabelled"), "known": scrambled(partly, "train"),
        }.items()
    )  # fmt: skip
    assert same(right, hidden)
    assert not same(right, known)


@pytest.mark.parametrize(
    ("loss", "monitor"),
    [
        (LogitDistillation(), "val/teacher_agreement"),
        (Hinton(), "val/exact_match"),
        (Supervised(), "val/exact_match"),
    ],
    ids=["logits", "hinton", "supervised"],
)
def test_the_best_epoch_is_chosen_by_labels_only_where_the_loss_sees_them(loss: Distillation, monitor: str) -> None:
    config = configuration(compose_overrides("train", ["student=net2"]))
    assert config.student is not None
    model = Classifier(config.student, DEFECTS, (52, 52))
    validation = Batch(torch.zeros(1, 52, 52, dtype=torch.uint8), torch.zeros(1, 8), torch.zeros(1, 8))
    assert MixedType(model, loss, config.fit, validation, seed=0).monitor == monitor


@pytest.mark.parametrize(("targets", "agreement"), [("hard", 1.0), ("soft", 0.0)])
def test_agreement_is_with_what_the_teacher_decides_at_the_losss_own_beta(targets: str, agreement: float) -> None:
    """A teacher that gives a defect 0.43 calls it present at a beta of 0.4; soft targets know no beta."""
    overrides = ["distillation.beta=0.4", f"distillation.targets={targets}"]
    config = configuration(compose_overrides("train", ["student=net2", *overrides]))
    assert config.student is not None
    model = Classifier(config.student, DEFECTS, (52, 52))
    teacher = torch.full((1, 8), -0.3)
    validation = Batch(torch.zeros(1, 52, 52, dtype=torch.uint8), None, teacher)
    task = MixedType(model, config.distillation.build("distillation"), config.fit, validation, seed=0)
    logged: dict[str, torch.Tensor] = {}
    task.log = lambda name, value, **_: logged.update({name: value})  # type: ignore[method-assign]
    task.outputs = [torch.ones(1, 8)]
    task.on_validation_epoch_end()
    assert logged["val/teacher_agreement"] == agreement
