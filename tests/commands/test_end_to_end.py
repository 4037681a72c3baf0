"""One whole experiment: what a person gets, and what is left behind."""

import shlex
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

import waferlab
from waferlab.cli import main
from waferlab.data.simulator import load
from waferlab.errors import ConfigError, WaferlabError
from waferlab.experiment.outcome import Outcome
from waferlab.tracking.tracker import default_uri

TINY = (
    "dataset.maps=240",
    "student=net2",
    "backbone=timm",
    "backbone.name=test_resnet",
    "teacher.trainer.max_epochs=1",
    "teacher.trainer.precision=32-true",
    "trainer.max_epochs=2",
)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    """A finished experiment and its store."""
    store = tmp_path_factory.mktemp("store")
    return waferlab.train(*TINY, f"store={store}"), store


class TestFinishedRun:
    def test_is_finished_in_mlflow_with_config_metrics_model_and_figures(self, outcome: tuple[Outcome, Path]) -> None:
        made, store = outcome
        client = MlflowClient(default_uri(store))
        run = client.get_run(made.run_id)
        assert run.info.status == "FINISHED"
        assert run.data.params["student._target_"] == "waferlab.models.students.Net2"
        assert run.data.tags["command"].startswith("waferlab train dataset.maps=240")
        assert run.data.tags["dataset.split"] == "train 164, val 38, test 38"
        for name in ("student", "teacher", "majority", "zone_density"):
            assert f"test/{name}/exact_match" in run.data.metrics
        kept = {file.path for file in client.list_artifacts(made.run_id)}
        assert {"config.json", "figures", "model"} <= kept
        assert all(figure.exists() for figure in made.figures)

    def test_its_teacher_is_a_run_of_its_own_and_serves_the_next_experiment(
        self, outcome: tuple[Outcome, Path]
    ) -> None:
        made, store = outcome
        again = waferlab.train(*TINY, f"store={store}", "seed=1", "test=false")
        client = MlflowClient(default_uri(store))
        first, second = (client.get_run(run_id).data.tags["teacher.run_id"] for run_id in (made.run_id, again.run_id))
        assert first == second
        assert client.get_run(first).info.status == "FINISHED"

    def test_the_same_seed_gives_the_same_bytes(self, outcome: tuple[Outcome, Path]) -> None:
        made, store = outcome
        again = waferlab.train(*TINY, f"store={store}", "test=false")
        assert again.model_file.read_bytes() == made.model_file.read_bytes()

    def test_evaluate_finds_the_same_metrics(
        self, outcome: tuple[Outcome, Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        made, store = outcome
        said = main(["evaluate", f"model={made.run_id}", "dataset=simulated", "dataset.maps=240", f"store={store}"])
        assert said == 0
        student = made.evaluations[0]
        assert f" {100 * student.metrics['exact_match']:.2f} " in capsys.readouterr().out

    def test_evaluates_on_all_of_a_persons_own_maps(self, outcome: tuple[Outcome, Path], tmp_path: Path) -> None:
        made, store = outcome
        wafers = load(maps=60).wafers
        np.savez(tmp_path / "mine.npz", maps=wafers.maps, labels=wafers.labels, classes=wafers.classes)
        mine = ("dataset=arrays", f"dataset.path={tmp_path / 'mine.npz'}", "dataset.fractions=[0,0,1]")
        found = waferlab.evaluate(f"model={made.model_file}", *mine, f"store={store}")
        assert [(e.name, len(e.logits)) for e in found.evaluations] == [("model", 60)]

    def test_says_so_where_a_model_may_have_seen_the_maps(
        self, outcome: tuple[Outcome, Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        made, store = outcome
        for other, warned in (("dataset.seed=0", False), ("dataset.fractions=[0.6,0.2,0.2]", True)):
            same = ("dataset=simulated", "dataset.maps=240")
            waferlab.evaluate(f"model={made.run_id}", *same, other, f"store={store}")
            assert ("may have seen some of these" in capsys.readouterr().err) == warned

    def test_its_teacher_can_be_evaluated_and_used_by_its_run(self, outcome: tuple[Outcome, Path]) -> None:
        made, store = outcome
        client = MlflowClient(default_uri(store))
        teacher = client.get_run(made.run_id).data.tags["teacher.run_id"]
        again = waferlab.train(*TINY, f"store={store}", f"teacher.model={teacher}", "test=false")
        assert client.get_run(again.run_id).data.tags["teacher.run_id"] == teacher
        assert waferlab.load(teacher, f"store={store}").size == (52, 52)

    def test_it_can_be_one_of_several_teachers_without_costing_its_own_run(self, outcome: tuple[Outcome, Path]) -> None:
        made, store = outcome
        client = MlflowClient(default_uri(store))
        tags = client.get_run(made.run_id).data.tags
        both = f"teacher.model=[{tags['teacher.run_id']},{made.model_file}]"
        again = waferlab.train(*TINY, f"store={store}", both, "trainer.max_epochs=1")
        found = client.get_run(again.run_id).data
        assert "teacher.run_id" not in found.tags
        assert found.tags["teacher.file"].endswith(f", {made.model_file}")
        (student, teacher), (_, ensemble) = made.evaluations[:2], again.evaluations[:2]
        assert ensemble.parameters == student.parameters + teacher.parameters
        assert ensemble.bytes == (student.bytes or 0) + (teacher.bytes or 0)
        assert "taught/exact_match" in found.metrics

    def test_its_teacher_teaches_on_extra_wafers_that_it_never_saw(self, outcome: tuple[Outcome, Path]) -> None:
        made, store = outcome
        extra = ("dataset@extra=simulated", "extra.maps=80", "extra.seed=1", "trainer.max_epochs=1")
        more = waferlab.train(*TINY, f"store={store}", *extra)
        client = MlflowClient(default_uri(store))
        before, after = (client.get_run(run_id).data for run_id in (made.run_id, more.run_id))
        assert after.tags["extra"] == "simulated 80"
        for same in ("teacher.run_id", "dataset.fingerprint", "dataset.split"):
            assert after.tags[same] == before.tags[same]
        assert after.metrics["taught/exact_match"] == before.metrics["taught/exact_match"]

    def test_cannot_be_resumed(self, outcome: tuple[Outcome, Path]) -> None:
        made, store = outcome
        with pytest.raises(WaferlabError, match="is finished"):
            waferlab.train(f"resume={made.run_id}", f"store={store}")


class TestFaults:
    def test_a_loss_that_is_not_finite_ends_the_run_as_failed(self, tmp_path: Path) -> None:
        fatal = ("distillation=supervised", "optimizer.lr=1e30", "trainer.gradient_clip=null", f"store={tmp_path}")
        with pytest.raises(WaferlabError, match=r"the training loss became .* lower optimizer\.lr"):
            waferlab.train(*TINY, *fatal)
        client = MlflowClient(default_uri(tmp_path))
        (run,) = client.search_runs([client.get_experiment_by_name("waferlab").experiment_id])
        assert run.info.status == "FAILED"

    def test_extra_wafers_of_another_size_are_refused(self, tmp_path: Path) -> None:
        small = ("dataset@extra=simulated", "extra.maps=80", "extra.seed=1", "extra.size=40", f"store={tmp_path}")
        with pytest.raises(ConfigError, match=r"extra: simulated has maps of 40x40 dies, .* of 52x52; give both one"):
            waferlab.train(*TINY, *small)

    def test_extra_images_are_refused(self, tmp_path: Path) -> None:
        for grey in range(6):
            (tmp_path / "ab"[grey % 2]).mkdir(exist_ok=True)
            Image.fromarray(np.full((52, 52, 3), grey, np.uint8)).save(tmp_path / "ab"[grey % 2] / f"{grey}.png")
        images = ("dataset@extra=images", f"extra.path={tmp_path}", "extra.size=52", f"store={tmp_path / 'store'}")
        with pytest.raises(ConfigError, match="extra: images are images, and task=mixed_type is for wafer maps"):
            waferlab.train(*TINY, *images)

    def test_a_teacher_with_other_classes_is_refused_by_name(
        self, outcome: tuple[Outcome, Path], tmp_path: Path
    ) -> None:
        made, store = outcome
        maps = np.random.default_rng(0).integers(0, 3, (60, 52, 52)).astype(np.uint8)
        np.savez(tmp_path / "mine.npz", maps=maps, labels=np.arange(120).reshape(60, 2) % 3 % 2)
        mine = ("dataset=arrays", f"dataset.path={tmp_path / 'mine.npz'}", "student=net2", f"store={store}")
        with pytest.raises(WaferlabError, match=r"its classes .* are not those of the data set"):
            waferlab.train(*mine, f"teacher.model={made.model_file}")


def test_the_runs_of_a_sweep_share_one_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = [*(override for override in TINY if not override.startswith("student=")), "test=False"]
    assert main(["train", "-m", *tiny, "student=net1,net2", "seed=0,1", f"store={tmp_path / 'store'}"]) == 0
    client = MlflowClient(default_uri(tmp_path / "store"))
    runs = client.search_runs([client.get_experiment_by_name("waferlab").experiment_id])
    roles = [run.data.tags["role"] for run in runs]
    assert sorted(roles) == ["experiment"] * 4 + ["teacher"]
    commands = {
        frozenset(shlex.split(run.data.tags["command"])) for run in runs if run.data.tags["role"] == "experiment"
    }
    shared = {"waferlab", "train", *tiny, f"store={tmp_path / 'store'}"}
    assert commands == {
        frozenset({*shared, f"student={student}", f"seed={seed}"}) for student in ("net1", "net2") for seed in (0, 1)
    }
