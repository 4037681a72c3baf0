"""Anomaly detection as a person meets it: train, evaluate in other ways, predict."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

import waferlab
from waferlab.cli import main
from waferlab.data.dataset import PARTS
from waferlab.data.simulator import load
from waferlab.errors import ConfigError, WaferlabError
from waferlab.experiment.outcome import Outcome
from waferlab.tasks.anomaly import Anomaly
from waferlab.tracking.tracker import default_uri

DATA = ("dataset.maps=300", "dataset.fractions=[0.6,0.2,0.2]")
SMALL = (
    *("task=anomaly", "teacher.dataset.maps=240", "backbone.width=4", "backbone.depths=[1,1,1]"),
    *("teacher.trainer.max_epochs=1", "trainer.max_epochs=2"),
)
TRIVIAL = ("fail_share", "fail_density", "density_at_fails", "excess_density", "median_residual")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    """A finished anomaly run and its store."""
    store = tmp_path_factory.mktemp("store")
    return waferlab.train(*SMALL, *DATA, f"store={store}"), store


def metrics(outcome: Outcome) -> dict[str, dict[str, float]]:
    """Of each model, but how long it took to fit, which an evaluation doesn't know."""
    return {each.name: {k: v for k, v in each.metrics.items() if k != "fit_seconds"} for each in outcome.evaluations}


def table() -> list[dict[str, str]]:
    return list(csv.DictReader(Path("found/predictions.csv").read_text().splitlines()))


class TestTraining:
    def test_measures_detector_supervised_teacher_and_trivial_scores_in_one_run(
        self, trained: tuple[Outcome, Path]
    ) -> None:
        made, store = trained
        run = MlflowClient(default_uri(store)).get_run(made.run_id)
        for name in ("detector", "teacher", *TRIVIAL):
            for metric in ("image/auroc", "pixel/auroc", "pixel/aupr", "pixel/aupro", "pixel/f1", "image/auroc/Donut"):
                assert f"test/{name}/{metric}" in run.data.metrics
        assert run.data.tags["mask"] == "exact"
        assert {figure.name for figure in made.figures} == {"scores.png", "auroc_by_defect.png", "found_and_missed.png"}

    def test_is_the_same_for_the_same_seed_and_another_for_another(self, trained: tuple[Outcome, Path]) -> None:
        made, store = trained
        given = (*SMALL, *DATA, "test=false", f"store={store}")
        again, other = (waferlab.train(*given, f"seed={seed}") for seed in (0, 1))
        assert again.model_file.read_bytes() == made.model_file.read_bytes()
        assert other.model_file.read_bytes() != made.model_file.read_bytes()

    def test_cached_features_change_nothing_to_speak_of(self, trained: tuple[Outcome, Path]) -> None:
        _, store = trained
        streamed = waferlab.train(*SMALL, *DATA, f"store={store}", "pyramid.cache_gb=0", "trainer.precision=32-true")
        cached = waferlab.train(*SMALL, *DATA, f"store={store}", "trainer.precision=32-true")
        one, other = (metrics(outcome)["detector"]["image/auroc"] for outcome in (streamed, cached))
        assert one == pytest.approx(other, abs=0.005)

    def test_with_a_teacher_for_maps_of_another_size_is_refused(self, tmp_path: Path) -> None:
        small = (*SMALL, *DATA, "teacher.dataset.size=40", f"store={tmp_path}")
        with pytest.raises(WaferlabError, match=r"the teacher reads maps of \(40, 40\) dies, simulated has \(52, 52\)"):
            waferlab.train(*small)

    def test_withholds_defects_from_the_teacher_too(self, tmp_path: Path) -> None:
        made = waferlab.train(*SMALL, *DATA, "withhold=[Scratch]", f"store={tmp_path}")
        client = MlflowClient(default_uri(tmp_path))
        run = client.get_run(made.run_id)
        teacher = client.get_run(run.data.tags["teacher.run_id"])
        for each in (run, teacher):
            assert each.data.tags["dataset.withheld"] == "Scratch"
        assert "test/detector/image/auroc/Scratch" in run.data.metrics

    def test_learns_from_a_finished_teacher_of_another_shape_and_encoding(self, tmp_path: Path) -> None:
        small = ("dataset.maps=240", "student=compact", "student.width=6", "student.depths=[1,1,1]", "test=false")
        how = ("student.encoding=signed", "distillation=supervised", "trainer.max_epochs=1", f"store={tmp_path}")
        taught = waferlab.train(*small, *how)  # its batch norms are folded away
        anomaly = ("task=anomaly", f"teacher.model={taught.run_id}", "trainer.max_epochs=1", f"store={tmp_path}")
        made = waferlab.train(*anomaly, *DATA, "test=false")
        maps = load(maps=60).wafers.maps
        again = waferlab.load(made.run_id, f"store={tmp_path}")
        assert again.teacher.pyramid.classifier.config.encoding == "signed"
        assert np.isfinite(again.predict(maps)[1]).all()

    def test_an_interrupted_run_is_resumed_to_the_same_weights(
        self, trained: tuple[Outcome, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stops(task: Anomaly) -> None:
            validated(task)
            if task.current_epoch == 1:
                raise KeyboardInterrupt

        validated = Anomaly.on_validation_epoch_end
        with monkeypatch.context() as patched:
            patched.setattr(Anomaly, "on_validation_epoch_end", stops)
            with pytest.raises(KeyboardInterrupt):
                waferlab.train(*SMALL, *DATA, "test=false", f"store={tmp_path}")
        (run,) = (tmp_path / "runs").glob("*/")
        resumed = waferlab.train(f"resume={run.name}", f"store={tmp_path}")
        assert resumed.model_file.read_bytes() == trained[0].model_file.read_bytes()


class TestEvaluation:
    def test_finds_the_same_again(self, trained: tuple[Outcome, Path]) -> None:
        made, store = trained
        data = ("dataset=half_normal", *DATA, "mask=exact", f"store={store}")
        found = metrics(waferlab.evaluate(f"model={made.run_id}", *data))
        for name in TRIVIAL:
            assert found[name] == metrics(made)[name]
        assert found["model"] == pytest.approx(metrics(made)["detector"], abs=1e-5)

    def test_with_another_score_is_calibrated_anew(self, trained: tuple[Outcome, Path]) -> None:
        made, store = trained
        data = ("dataset=half_normal", *DATA, "mask=exact", f"store={store}")
        same, published = (
            metrics(waferlab.evaluate(f"model={made.run_id}", *data, f"score={score}"))["model"]
            for score in ("local", "published")
        )
        assert same == pytest.approx(metrics(made)["detector"], abs=1e-5)
        assert published["image/auroc"] != same["image/auroc"]

    def test_without_validation_wafers_only_the_model_has_a_threshold(
        self, trained: tuple[Outcome, Path], tmp_path: Path
    ) -> None:
        made, store = trained
        wafers = load(maps=60, normal_share=0.5).wafers
        np.savez(tmp_path / "mine.npz", maps=wafers.maps, labels=wafers.labels, classes=wafers.classes)
        mine = ("dataset=arrays", f"dataset.path={tmp_path / 'mine.npz'}", "dataset.fractions=[0,0,1]")
        found = metrics(waferlab.evaluate(f"model={made.run_id}", *mine, f"store={store}"))
        assert "pixel/f1" in found["model"]
        assert not any("pixel/f1" in found[name] for name in TRIVIAL)

    def test_of_a_classifier_can_ask_for_any_defect(self, trained: tuple[Outcome, Path]) -> None:
        made, store = trained
        teacher = MlflowClient(default_uri(store)).get_run(made.run_id).data.tags["teacher.run_id"]
        data = ("dataset=half_normal", *DATA, "mask=exact", f"store={store}")
        found = metrics(waferlab.evaluate(f"model={teacher}", *data, "detect=true"))["model"]
        assert found == pytest.approx(metrics(made)["teacher"], abs=1e-5)
        with pytest.raises(ConfigError, match="score: only detectors have one"):
            waferlab.evaluate(f"model={teacher}", *data, "score=local")

    def test_notes_settings_without_effect(
        self, trained: tuple[Outcome, Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        made, store = trained
        teacher = MlflowClient(default_uri(store)).get_run(made.run_id).data.tags["teacher.run_id"]
        data = ("dataset=half_normal", *DATA, f"store={store}")
        waferlab.evaluate(f"model={made.run_id}", *data, "mask=exact", "detect=true")
        assert "detect=true has no effect: this model is a detector" in capsys.readouterr().err
        waferlab.evaluate(f"model={teacher}", *data, "mask=exact")
        assert "mask=exact has no effect: this model is a classifier" in capsys.readouterr().err


@pytest.mark.parametrize("defect", [True, False])
def test_validation_on_wafers_of_one_kind_is_refused_before_a_teacher_is_trained(defect: bool, tmp_path: Path) -> None:
    made = load(maps=200, normal_share=0.5)
    kept = (made.split >= 0) & ((made.split != PARTS.index("val")) | (made.wafers.is_abnormal == defect))
    mine, split = made.wafers[np.flatnonzero(kept)], np.array(PARTS)[made.split[kept]]
    np.savez(tmp_path / "mine.npz", maps=mine.maps, labels=mine.labels, classes=mine.classes, split=split)
    with pytest.raises(WaferlabError, match="validation has wafers of one kind only"):
        waferlab.train(
            "task=anomaly", "dataset=arrays", f"dataset.path={tmp_path / 'mine.npz'}", f"store={tmp_path}",
            "task.mask=fail",
        )  # fmt: skip
    assert not (tmp_path / "runs").exists()


class TestPredict:
    @pytest.fixture
    def wafers(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Where a person has 30 maps without labels."""
        monkeypatch.chdir(tmp_path)
        maps = np.random.default_rng(0).integers(1, 3, (30, 52, 52), np.uint8)
        np.savez("mine.npz", maps=maps)
        return ["input=mine.npz"]

    def test_writes_a_table_heat_maps_and_pictures(
        self, trained: tuple[Outcome, Path], wafers: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        made, _ = trained
        given = [f"model={made.model_file}", *wafers, "output=found", "pictures=3", "heat_maps=true", "threshold=0.5"]
        assert main(["predict", *given]) == 0
        rows = table()
        assert [row["wafer"] for row in rows] == [str(number) for number in range(30)]
        assert all((float(row["score"]) >= 0.5) == (row["abnormal"] == "1") for row in rows)
        assert np.load("found/heat_maps.npy").shape == (30, 52, 52)
        highest = sorted(rows, key=lambda row: -float(row["score"]))[:3]
        drawn = sorted(path.name for path in Path("found/pictures").iterdir())
        assert drawn == [f"{place:03d}_{row['wafer']}.png" for place, row in enumerate(highest, 1)]
        abnormal = sum(row["abnormal"] == "1" for row in rows)
        said = capsys.readouterr().out
        assert abnormal == 0 or re.search(rf"^abnormal +{abnormal}$", said, re.MULTILINE)
        assert "30 wafers in" in said

    def test_scores_as_python_does(self, trained: tuple[Outcome, Path], wafers: list[str]) -> None:
        made, _ = trained
        assert main(["predict", f"model={made.model_file}", *wafers, "output=found", "pictures=0"]) == 0
        _, scores = waferlab.load(str(made.model_file)).predict(np.load("mine.npz")["maps"])
        rows = table()
        assert [float(row["score"]) for row in rows] == pytest.approx(scores.tolist(), rel=1e-4)

    def test_does_the_same_from_python(self, trained: tuple[Outcome, Path], wafers: list[str]) -> None:
        made, _ = trained
        found = waferlab.predict(f"model={made.model_file}", *wafers, "output=found", "pictures=0")
        assert found.patterns["abnormal"] == sum(row["abnormal"] == "1" for row in table())
        assert found.wafers == len(table()) == 30

    def test_names_the_pattern_for_a_classifier(self, trained: tuple[Outcome, Path], wafers: list[str]) -> None:
        made, store = trained
        teacher = MlflowClient(default_uri(store)).get_run(made.run_id).data.tags["teacher.run_id"]
        assert main(["predict", f"model={teacher}", *wafers, "output=found", f"store={store}"]) == 0
        rows = table()
        assert list(rows[0])[:4] == ["wafer", "pattern", "bits", "Center"]
        assert all(0 <= float(row["Scratch"]) <= 1 for row in rows)

    def test_puts_smaller_maps_in_the_middle_of_its_own_size(
        self, trained: tuple[Outcome, Path], wafers: list[str]
    ) -> None:
        small = np.random.default_rng(1).integers(1, 3, (3, 20, 20), np.uint8)
        np.save("small.npy", small)
        model = f"model={trained[0].model_file}"
        assert main(["predict", model, "input=small.npy", "output=found"]) == 0
        whole = np.pad(small, ((0, 0), (16, 16), (16, 16)))
        _, scores = waferlab.load(str(trained[0].model_file)).predict(whole)
        assert [float(row["score"]) for row in table()] == pytest.approx(scores.tolist(), rel=1e-4)

    @pytest.mark.parametrize("given", [[], ["input=mine.npz", "dataset=simulated"]])
    def test_wants_one_input(
        self, given: list[str], trained: tuple[Outcome, Path], wafers: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["predict", f"model={trained[0].model_file}", *given]) == 2
        assert "say what to predict: input=FILE, or dataset=" in capsys.readouterr().err
