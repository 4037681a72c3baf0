"""Models of normality as a person meets them: train each, evaluate and predict with it, sweep, resume."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient

import waferlab
from waferlab.cli import main
from waferlab.data.dataset import Dataset
from waferlab.data.simulator import load
from waferlab.errors import ConfigError, WaferlabError
from waferlab.experiment.compose import compose_overrides, configuration
from waferlab.experiment.outcome import Outcome
from waferlab.experiment.sweep import objectives
from waferlab.models.files import load_any
from waferlab.models.normality import Boosting, Normality, Prototype, Vae
from waferlab.tasks.detection import Detected
from waferlab.tasks.validated import DetectionTask
from waferlab.tracking.tracker import default_uri

DATA = ("dataset=half_normal", "dataset.maps=160", "dataset.fractions=[0.5,0.25,0.25]")
TASK = ("task=normality", *DATA, "test=false", "trainer.batch_size=32", "trainer.max_epochs=2", "teacher.training=none")
SMALL = (*TASK, "backbone.width=4", "backbone.depths=[1,1,1]")
TINY = ("normality.latent=2", "normality.width=2")
OPTIONS: dict[str, tuple[str, ...]] = {
    "gaussian": ("normality=gaussian",),
    "gaussian of places": ("normality=gaussian", "features.of=place"),
    "prototype": ("normality=prototype", "features.standard=false"),
    "neighbours": ("normality=neighbours", "features.of=place", "normality.memory=20", "normality.drawn=200"),
    "vae": ("normality=vae", *TINY),
    "gan": ("normality=gan", *TINY),
    "discriminator": ("normality=gan", "normality.score=discriminator", *TINY),
    "boosting": ("normality=boosting", "normality.scale=1", "normality.angles=2", "normality.rounds=5"),
}
#: Those that know nothing of dies.
BLIND = {"gaussian", "prototype", "discriminator", "boosting"}

Train = Callable[[str], Outcome]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def trained(store: Path) -> Train:
    """A finished run of an option, each of which is trained once."""
    found: dict[str, Outcome] = {}

    def train(name: str) -> Outcome:
        if name not in found:
            found[name] = waferlab.train(*SMALL, *OPTIONS[name], f"store={store}")
        return found[name]

    return train


def wafers() -> Dataset:
    """Those of every training here."""
    return load(maps=160, fractions=(0.5, 0.25, 0.25), normal_share=0.5, seed=1)


class TestTraining:
    @pytest.mark.parametrize("name", OPTIONS)
    def test_ends_with_a_model_that_tells_abnormal_wafers_and_dies_where_it_knows_of_them(
        self, name: str, trained: Train
    ) -> None:
        made = trained(name)
        assert 0 <= made.validation["val/image/auroc"] <= 1
        assert ("val/pixel/auroc" in made.validation) == (name not in BLIND)
        model = load_any(made.model_file)
        assert isinstance(model, Normality)
        assert model.thresholds.isfinite().tolist() == [True, name not in BLIND]
        assert list(made.model_file.parent.iterdir()) == [made.model_file], "what a training left is gone"

    @pytest.mark.parametrize("name", ["neighbours", "vae", "boosting"])
    def test_is_the_same_for_the_same_seed(self, name: str, trained: Train, store: Path) -> None:
        again = waferlab.train(*SMALL, *OPTIONS[name], f"store={store}")
        assert again.model_file.read_bytes() == trained(name).model_file.read_bytes()

    @pytest.mark.parametrize("measure", [Prototype, Boosting])
    def test_shows_abnormal_wafers_to_those_alone_that_are_told_which_they_are(
        self, measure: Any, store: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shown: list[bool] = []
        update = measure.update

        def noted(found: Any, maps: Any, is_abnormal: torch.Tensor) -> None:
            shown.extend(is_abnormal.tolist())
            update(found, maps, is_abnormal)

        monkeypatch.setattr(measure, "update", noted)
        waferlab.train(*SMALL, *OPTIONS[measure.__name__.lower()], f"store={store}")
        train = wafers().part("train")
        assert shown == (train.is_abnormal.tolist() if measure.is_supervised else [False] * len(train.normal()))

    def test_of_a_network_sees_normal_wafers_alone(self, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        shown: list[bytes] = []
        loss = Vae.loss

        def noted(model: Vae, maps: torch.Tensor) -> torch.Tensor:
            shown.extend(each.numpy().tobytes() for each in maps)
            return loss(model, maps)

        monkeypatch.setattr(Vae, "loss", noted)
        plain = ("trainer.augment=false", "trainer.die_noise=0", "trainer.max_epochs=1")
        waferlab.train(*SMALL, *OPTIONS["vae"], *plain, f"store={store}")
        train = wafers().part("train")
        assert sorted(shown) == sorted(each.tobytes() for each in train.normal().maps)

    def test_interrupted_is_resumed_to_the_same_weights(
        self, trained: Train, store: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stops(task: DetectionTask) -> None:
            validated(task)
            if task.current_epoch == 1:
                raise KeyboardInterrupt

        whole, before = trained("vae").model_file.read_bytes(), set((store / "runs").iterdir())
        validated = DetectionTask.on_validation_epoch_end
        with monkeypatch.context() as patched:
            patched.setattr(DetectionTask, "on_validation_epoch_end", stops)
            with pytest.raises(KeyboardInterrupt) as stop:
                waferlab.train(*SMALL, *OPTIONS["vae"], f"store={store}")
        (run,) = set((store / "runs").iterdir()) - before
        assert (run / "training").is_dir(), "what is resumed"
        assert f"train resume={run.name}" in stop.value.__notes__[0]
        resumed = waferlab.train(f"resume={run.name}", f"store={store}")
        assert resumed.run_id == run.name
        assert resumed.model_file.read_bytes() == whole
        assert not (run / "training").exists()
        tags = MlflowClient(default_uri(store)).get_run(run.name).data.tags
        assert tags["network"] == "vae"
        assert "resume" not in tags["command"]

    def test_by_dies_that_a_model_knows_nothing_of_is_refused_in_a_sentence(self, store: Path) -> None:
        given = (*SMALL, *OPTIONS["discriminator"], "task.select=pixel/auroc", f"store={store}")
        with pytest.raises(WaferlabError, match=r"task\.select=pixel/auroc is undefined: there are no die maps"):
            waferlab.train(*given)

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ("normality.shrinkage=2", r"normality: shrinkage=2.0 is a share"),
            ("normality.shrinkag=0.5", r"Could not override 'normality.shrinkag'"),
            ("features.of=die", r"features\.of='die'"),
            ("features.levels=[1,0]", "each level once, the finest first"),
            ("normality._target_=os.getcwd", r"normality\._target_=os.getcwd: give a subclass of Measure"),
        ],
    )
    def test_refuses_wrong_settings_before_anything_is_fitted(self, wrong: str, said: str, store: Path) -> None:
        with pytest.raises(ConfigError, match=said):
            waferlab.train(*SMALL, wrong, f"store={store}")


class TestAfterwards:
    @pytest.mark.parametrize("name", ["gaussian", "neighbours", "vae", "boosting"])
    def test_predict_writes_heat_maps_only_where_there_are_any(
        self, name: str, trained: Train, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        monkeypatch.chdir(tmp_path)
        maps = load(maps=60).wafers.maps[:20]
        np.savez("mine.npz", maps=maps)
        given = [
            f"model={trained(name).model_file}",
            "input=mine.npz",
            "output=found",
            "pictures=1",
            "heat_maps=true",
            f"store={store}",
        ]
        assert main(["predict", *given]) == 0
        rows = list(csv.DictReader(Path("found/predictions.csv").read_text().splitlines()))
        model = load_any(trained(name).model_file)
        assert isinstance(model, Normality)
        assert [float(row["score"]) for row in rows] == pytest.approx(model.predict(maps)[1].tolist(), rel=1e-4)
        written = {path.name for path in Path("found").iterdir()}
        said = capsys.readouterr().err
        if name in BLIND:
            assert written == {"predictions.csv", "pictures"}
            assert "abnormal_dies" not in rows[0]
            assert "heat_maps=true has no effect: this model knows nothing of dies" in said
        else:
            assert written == {"predictions.csv", "heat_maps.npy", "pictures"}
            assert np.load("found/heat_maps.npy").shape == maps.shape
            assert "abnormal_dies" in rows[0]
            assert "has no effect" not in said

    @pytest.mark.parametrize("name", ["gaussian", "neighbours", "boosting"])
    def test_evaluate_finds_on_validation_what_training_found(
        self, name: str, trained: Train, store: Path, tmp_path: Path
    ) -> None:
        """Validation as a data set of its own, whose every wafer is tested."""
        made = trained(name)
        val = wafers().part("val")
        np.savez(tmp_path / "val.npz", maps=val.maps, labels=val.labels, classes=val.classes)
        data = ("dataset=arrays", f"dataset.path={tmp_path / 'val.npz'}", "dataset.fractions=[0,0,1]", "mask=fail")
        outcome = waferlab.evaluate(f"model={made.run_id}", *data, f"store={store}")
        found = outcome.evaluations[0].metrics
        assert found["image/auroc"] == pytest.approx(made.validation["val/image/auroc"], abs=1e-6)
        assert ("pixel/auroc" in found) == (name not in BLIND)
        assert ("found_and_missed.png" in {figure.name for figure in outcome.figures}) == (name not in BLIND)

    def test_another_score_changes_nothing_to_what_knows_the_normal_wafers_by_heart(
        self, trained: Train, store: Path
    ) -> None:
        data = (*DATA, "mask=exact", f"store={store}", "score=local")
        found = waferlab.evaluate(f"model={trained('boosting').run_id}", *data).evaluations[0]
        own = load_any(trained("boosting").model_file)
        assert isinstance(found, Detected)
        assert isinstance(own, Normality)
        np.testing.assert_allclose(found.scores, own.predict(wafers().part("test").maps)[1], rtol=1e-6)


class TestNotes:
    @pytest.mark.parametrize(
        ("measure", "idle"),
        [
            ("gaussian", ["trainer.max_epochs=3", "optimizer.lr=1e-3", "schedule=constant", "task.select=image/aupr"]),
            ("vae", ["features.of=place", "backbone.width=8", "teacher.seed=3"]),
            ("boosting", ["features.of=place", "teacher.seed=3", "trainer.batch_size=8", "task.select=image/aupr"]),
        ],
    )
    def test_name_what_has_no_effect_beside_a_measure_and_nothing_else(
        self, measure: str, idle: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        used = {
            "gaussian": ["features.of=place", "backbone.width=8", "teacher.seed=3"],
            "vae": ["trainer.max_epochs=3", "optimizer.lr=1e-3", "task.select=image/aupr"],
            "boosting": ["normality.rounds=3", "score.conditional=false"],
        }[measure]
        overrides = ["task=normality", f"normality={measure}", *idle, *used]
        configuration(compose_overrides("train", overrides), overrides)
        said = capsys.readouterr().err
        assert [line.split()[1] for line in said.splitlines() if "has no effect" in line] == idle


class TestSweeps:
    @pytest.mark.parametrize("name", OPTIONS)
    def test_may_judge_by_dies_only_what_knows_of_them(self, name: str, trained: Train) -> None:
        offered = objectives(compose_overrides("train", [*SMALL, *OPTIONS[name]]))
        assert "val/image/auroc" in offered
        assert any(each.startswith("val/pixel/") for each in offered) == (name not in BLIND)
        assert set(offered) <= set(trained(name).objectives), "each of them is what a trial returns"

    def test_run(self, tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        sweep = ["-m", "sweep=optuna", "hydra.sweeper.n_trials=1", "hydra.sweeper.objective=val/image/auroc"]
        given = ["normality.shrinkage=interval(0,1)", f"store={store}"]
        assert main(["train", *sweep, *SMALL, *given]) == 0
        (found,) = MlflowClient(default_uri(store)).search_runs(["1"], "tags.role = 'sweep'")
        assert 0 <= found.data.metrics["val/image/auroc"] <= 1
