"""Several teachers answer with the mean of their logits; a student is asked about wafers that nobody has labels of."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from waferlab.config import MixedTypeConfig, ModelConfig
from waferlab.data.batches import Batches
from waferlab.data.dataset import Dataset, Wafers, maps_alone
from waferlab.data.simulator import load
from waferlab.data.split import hide_labels
from waferlab.distillation.teacher_store import Teacher, TeacherStore
from waferlab.experiment import networks
from waferlab.experiment.compose import compose_overrides, configuration
from waferlab.experiment.networks import Answers, Place, fit_classifier
from waferlab.experiment.teachers import Teachers
from waferlab.models.classifier import Classifier, predict_logits, view_logits
from waferlab.models.ensemble import Ensemble
from waferlab.models.files import save_model
from waferlab.tracking.tracker import Tracker
from waferlab.wafer import DEFECTS


def network(name: str, seed: int) -> Classifier:
    torch.manual_seed(seed)
    config = {"_target_": f"waferlab.models.students.{name}", "encoding": "die_fail"}
    return Classifier(ModelConfig.model_validate(config), DEFECTS, (52, 52)).eval()


def teachers(dataset: Dataset, store: Path, *overrides: str) -> Teachers:
    where = (f"store={store}", "teacher.trainer.precision=32-true", "trainer.accelerator=cpu")
    config = configuration(compose_overrides("train", [*where, *overrides]))
    assert isinstance(config, MixedTypeConfig)
    return Teachers(config, dataset, Tracker(config.tracking, config.store))


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two finished classifiers."""
    made = [tmp_path / f"{name}.safetensors" for name in ("Net1", "Net2")]
    for seed, file in enumerate(made):
        save_model(network(file.stem, seed), file)
    return made


@pytest.fixture
def extra() -> Wafers:
    return maps_alone(load(maps=40, seed=1).wafers)


def listed(files: Sequence[Path]) -> str:
    return f"teacher.model=[{','.join(map(str, files))}]"


class TestSeveral:
    @pytest.mark.parametrize("average", [True, False])
    def test_teach_the_mean_of_their_logits(
        self, tiny_dataset: Dataset, tmp_path: Path, files: list[Path], average: bool
    ) -> None:
        of_both = teachers(tiny_dataset, tmp_path, listed(files), f"teacher.average_views={average}")
        answers = of_both.answers(of_both.get(), every_view=True)
        maps = tiny_dataset.part("train").maps
        views = (view_logits(network("Net1", 0), maps) + view_logits(network("Net2", 1), maps)) / 2
        torch.testing.assert_close(answers.train, views.mean(0, keepdim=True) if average else views)
        assert answers.val.shape == (len(tiny_dataset.part("val")), 8)

    def test_are_asked_one_by_one_so_that_each_ones_answers_are_found_again(
        self, tiny_dataset: Dataset, tmp_path: Path, files: list[Path]
    ) -> None:
        outputs = tmp_path / "teachers" / "outputs"
        for name, count in ((f"teacher.model={files[0]}", 1), (listed(files), 2), (listed(files[::-1]), 2)):
            asked = teachers(tiny_dataset, tmp_path, name)
            asked.logits(asked.get(), tiny_dataset.part("val"), "32-true")
            assert len(list(outputs.glob("*.safetensors"))) == count

    def test_are_named_by_their_files_and_are_as_large_as_all_of_them(
        self, tiny_dataset: Dataset, tmp_path: Path, files: list[Path]
    ) -> None:
        both = teachers(tiny_dataset, tmp_path, listed(files)).get()
        assert both.tags == {"teacher.file": ", ".join(map(str, files))}
        assert both.bytes == sum(file.stat().st_size for file in files)
        one, other = network("Net1", 0), network("Net2", 1)
        assert both.network.parameters_count == one.parameters_count + other.parameters_count
        maps = tiny_dataset.wafers.maps[:5]
        mean = (predict_logits(one, maps) + predict_logits(other, maps)) / 2
        torch.testing.assert_close(predict_logits(both.network, maps), mean)

    def test_of_one_are_that_one(self, tiny_dataset: Dataset, tmp_path: Path, files: list[Path]) -> None:
        alone, named = (
            teachers(tiny_dataset, tmp_path, given).get() for given in (listed(files[:1]), f"teacher.model={files[0]}")
        )
        assert alone.tags == named.tags
        assert isinstance(alone.network, Classifier)

    def test_have_one_run_only_where_they_are_one(self) -> None:
        member = Teacher(network("Net2", 0), Path("a"), "its run")
        assert member.tags == {"teacher.file": "a", "teacher.run_id": "its run"}
        assert Teacher(member.model, Path("b"), "another", (member,)).tags == {"teacher.file": "b, a"}


def test_an_ensemble_is_where_its_first_member_is() -> None:
    members = [network("Net2", seed).to(device) for seed, device in enumerate(["meta", "cpu"])]
    assert {parameter.device.type for parameter in Ensemble(members).parameters()} == {"meta"}


class TestExtraWafers:
    def test_are_asked_about_after_the_data_sets_own(
        self, tiny_dataset: Dataset, tmp_path: Path, files: list[Path], extra: Wafers
    ) -> None:
        asked = teachers(tiny_dataset, tmp_path, f"teacher.model={files[1]}", "teacher.average_views=false")
        plain, more = (asked.answers(asked.get(), True, wafers) for wafers in (None, extra))
        count = len(plain.wafers)
        assert more.train.shape == (8, count + 40, 8)
        assert torch.equal(more.train[:, :count], plain.train)
        torch.testing.assert_close(more.train[:, count:], view_logits(network("Net2", 1), extra.maps))
        assert (more.wafers.maps[count:] == extra.maps).all()
        assert (more.wafers.maps[:count] == plain.wafers.maps).all()
        assert torch.equal(more.val, plain.val)

    def test_say_nothing_of_the_teacher_that_a_configuration_determines(
        self, tiny_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        recipes: list[dict[str, Any]] = []
        monkeypatch.setattr(TeacherStore, "get", lambda _, recipe, train: recipes.append(recipe))
        for given in ([], ["dataset@extra=simulated", "extra.seed=1"]):
            teachers(tiny_dataset, tmp_path, *given).get()
        assert recipes[0] == recipes[1]
        assert set(recipes[0]) == {"optimizer", "schedule", "trainer", "seed", "version", "backbone", "dataset"}

    @pytest.mark.parametrize("distillation", ["logits", "hinton"])
    def test_come_without_labels(
        self, tiny_dataset: Dataset, tmp_path: Path, extra: Wafers, distillation: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        labels = list[Tensor | None]()

        def kept(*args: Any, **given: Any) -> Batches:
            labels.append(given.get("labels"))
            return Batches(*args, **given)

        monkeypatch.setattr(networks, "Batches", kept)
        how = (f"distillation={distillation}", "trainer.max_epochs=1", "trainer.precision=32-true")
        partly = hide_labels(tiny_dataset, 0.5)
        asked = teachers(partly, tmp_path, *how)
        config = asked.config
        assert isinstance(config, MixedTypeConfig)
        wafers = maps_alone(partly.part("train", "unlabelled"), extra)
        answers = Answers(wafers, torch.zeros(1, len(wafers), 8), torch.zeros(len(partly.part("val")), 8))
        loss = config.distillation.build("distillation")
        with asked.tracker.run("test", {}) as run:
            place = Place(run, tmp_path / "training", "student")
            fitted = fit_classifier(network("Net2", 0), loss, config.fit, 0, partly, answers, place)
        assert fitted.epochs == 1
        if distillation == "logits":
            assert labels[0] is None
        else:
            assert labels[0] is not None
            known = labels[0].isfinite().all(1)
            assert known.sum() == partly.within("train").sum()
            assert not known[-len(extra) :].any()
