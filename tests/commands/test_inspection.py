"""Transfer learning as a person meets it: images in folders, weights from elsewhere, a threshold that travels."""

import csv
import json
import re
import signal
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from numpy.typing import NDArray
from PIL import Image

import waferlab
from waferlab.cli import main
from waferlab.errors import ConfigError, Interrupted, WaferlabError
from waferlab.experiment.networks import Place
from waferlab.models.classifier import Classifier
from waferlab.tasks.transfer import Transfer
from waferlab.tracking.run import EXPERIMENT
from waferlab.tracking.tracker import default_uri

NET = ("backbone=timm", "backbone.name=test_resnet")
MAPS = ("task=transfer", "dataset=half_normal", "dataset.maps=400", "task.target=defect", *NET, "trainer.max_epochs=2")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey squares, half of them with a bright corner, which is a defect; another seed each."""
    folder, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for number in range(80):
        pixels = random.integers(80, 120, (24, 24, 3), np.uint8)
        if number % 2:
            row, column = random.integers(0, 2, 2) * 14
            pixels[row : row + 10, column : column + 10] = 250
        place = folder / ("defect" if number % 2 else "good") / f"{number}.png"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(place)
    return folder


def from_photos(photos: Path) -> tuple[str, ...]:
    given = ("task=transfer", "dataset=images", f"dataset.path={photos}", "dataset.size=24", "transforms=photo")
    return *given, *NET, "backbone.encoding=pixels", "trainer.batch_size=16", "optimizer.lr=0.01"


def predicted(trained: Any, folder: Path, *overrides: str) -> list[dict[str, str]]:
    """The table of ``waferlab predict``."""
    command = ["predict", f"model={trained.model_file}", *overrides, f"output={folder}"]
    assert main([*command, f"store={folder}", f"hydra.run.dir={folder}"]) == 0
    return list(csv.DictReader((folder / "predictions.csv").open()))


class TestImages:
    @pytest.fixture(scope="class")
    def trained(self, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
        store = tmp_path_factory.mktemp("store")
        given = (
            "trainer.max_epochs=12",
            "operating_point=recall",
            "operating_point.at_least=1",
            "dataset.fractions=[0.5,0.25,0.25]",
        )
        return waferlab.train(*from_photos(photos), *given, f"store={store}")

    def test_are_told_apart(self, trained: Any) -> None:
        network, majority = trained.evaluations
        assert (network.name, majority.name) == ("classifier", "majority")
        assert network.metrics["auroc"] > 0.95
        assert network.metrics["accuracy"] > majority.metrics["accuracy"] + 0.3
        assert {"accuracy/low", "macro_f1/high", "fpr_at_tpr/99.7", "defect/recall", "one_view/auroc"} <= set(
            network.metrics
        )
        assert "one_view/accuracy" not in network.metrics, "one view has no threshold of its own"
        assert {figure.name for figure in trained.figures} == {"confusion.png", "roc_and_precision.png"}

    def test_threshold_and_views_travel_with_the_model(self, trained: Any, photos: Path) -> None:
        model = waferlab.load(str(trained.model_file))
        assert isinstance(model, Classifier)
        assert model.decision is not None
        assert model.decision.threshold is not None
        assert model.decision.all_views
        pixels = np.stack([np.asarray(Image.open(file)) for file in sorted(photos.rglob("*.png"))])
        bits, probabilities = model.answer(pixels)
        served = mlflow.pyfunc.load_model(str(trained.model_file.with_name("model"))).predict(pixels)
        assert (served["bits"] == bits).all()
        assert np.allclose(served["probabilities"], probabilities, atol=1e-5)

    def test_another_line_is_drawn_without_another_training(self, trained: Any, photos: Path) -> None:
        given = [f"model={trained.model_file}", "dataset=images", f"dataset.path={photos}", "dataset.size=24"]
        costs = ["operating_point=cost", "operating_point.missed={}", "operating_point.false_alarm={}"]
        careful, calm = (
            waferlab.evaluate(*given, *(text.format(cost) for text, cost in zip(costs, ("", *each), strict=True)))
            for each in ((1e6, 1), (1, 1e6))
        )
        found = [outcome.evaluations[0].metrics for outcome in (careful, calm)]
        assert found[0]["defect/recall"] >= found[1]["defect/recall"]
        assert found[0]["defect/false_positive_rate"] >= found[1]["defect/false_positive_rate"]
        assert found[0]["auroc"] == found[1]["auroc"]

    def test_the_line_is_told_with_what_it_comes_to(self, trained: Any) -> None:
        [said] = trained.remarks
        assert re.match(
            r"a defect from log odds of \S+: \S+ % of \d+ defects found, \S+ % of \d+ good ones taken", said
        )

    def test_are_evaluated_by_another_folder(self, trained: Any, photos: Path) -> None:
        given = ["dataset=images", f"dataset.path={photos}", "dataset.size=24", "dataset.fractions=[0,0,1]"]
        found = waferlab.evaluate(f"model={trained.model_file}", *given)
        assert found.wafers == 80
        assert found.evaluations[0].metrics["auroc"] > 0.95

    def test_are_predicted_by_name_whether_labelled_or_not(self, trained: Any, photos: Path, tmp_path: Path) -> None:
        labelled, rest = predicted(trained, tmp_path, "dataset=images", f"dataset.path={photos}", "dataset.size=24"), []
        for part in ("good", "defect"):
            rest += predicted(trained, tmp_path, "dataset=photos", f"dataset.path={photos / part}", "dataset.size=24")
        assert [row["image"] for row in labelled] == [
            str(file.relative_to(photos)) for file in sorted(photos.rglob("*.png"))
        ]
        assert sum((row["pattern"] == "defect") == row["image"].startswith("defect") for row in labelled) >= 72
        said = {Path(row["image"]).name: float(row["defect"]) for row in labelled}
        assert {row["image"]: float(row["defect"]) for row in rest} == pytest.approx(said, abs=1e-3)

    def test_are_predicted_by_an_exported_file(self, trained: Any, photos: Path, tmp_path: Path) -> None:
        made, store = tmp_path / "m.onnx", trained.model_file.parents[2]
        assert main(["export", f"run={trained.run_id}", f"output={made}", f"store={store}"]) == 0
        found = waferlab.predict(f"model={made}", f"input={photos}", f"output={tmp_path / 'found.csv'}", "pictures=1")
        own = predicted(trained, tmp_path, "dataset=photos", f"dataset.path={photos}", "dataset.size=24")
        with (tmp_path / "found.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [(row["image"], row["pattern"]) for row in rows] == [(row["image"], row["pattern"]) for row in own]
        assert found.wafers == 80

    @pytest.mark.parametrize("faster", ["precision=bf16-mixed", "compile=true"])
    def test_are_answered_faster_with_the_same_answers(
        self, faster: str, trained: Any, photos: Path, tmp_path: Path
    ) -> None:
        given = ("dataset=images", f"dataset.path={photos}", "dataset.size=24", "dataset.fractions=[0,0,1]")
        plain, fast = (waferlab.evaluate(f"model={trained.model_file}", *given, *each) for each in ((), (faster,)))
        assert fast.evaluations[0].metrics["auroc"] == pytest.approx(plain.evaluations[0].metrics["auroc"], abs=0.02)

    def test_go_on_from_the_last_epoch_with_the_same_transforms(
        self, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begin = Transfer.on_train_epoch_start

        def ends_in_the_last_epoch(task: Transfer) -> None:
            if task.current_epoch == 2:
                raise Interrupted(signal.SIGINT)
            begin(task)

        given = (*from_photos(photos), "trainer.max_epochs=3", "mix=cutmix", "finetuning.head_epochs=1", "test=false")
        with monkeypatch.context() as patched:
            patched.setattr(Transfer, "on_train_epoch_start", ends_in_the_last_epoch)
            with pytest.raises(Interrupted):
                waferlab.train(*given, f"store={tmp_path}")
        (begun,) = MlflowClient(default_uri(tmp_path)).search_runs(["1"], f"tags.role = '{EXPERIMENT}'")
        resumed = waferlab.train(f"resume={begun.info.run_id}", f"store={tmp_path}")
        undisturbed = waferlab.train(*given, f"store={tmp_path}")
        assert resumed.model_file.read_bytes() == undisturbed.model_file.read_bytes()

    def test_are_described_by_class_and_part(
        self, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        described = ["data", f"dataset.path={photos}", "dataset.size=24", f"store={tmp_path}"]
        assert main([*described, "dataset=images", "dataset.colour=false"]) == 0
        said = capsys.readouterr().out
        assert "images: 80 images of 24x24 pixels and 1 channels" in said
        assert [line.split()[1:10:2] for line in said.splitlines() if "Normal" in line or "defect" in line] == [
            ["Normal", "32", "4", "4", "0"],
            ["defect", "32", "4", "4", "0"],
        ]
        assert main([*described, "dataset=photos"]) == 0
        assert "without a label" in capsys.readouterr().out

    def test_of_another_size_are_told_theirs(
        self, trained: Any, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        command = ["predict", f"model={trained.model_file}", "dataset=photos", f"dataset.path={photos}"]
        assert main([*command, f"store={tmp_path}", f"hydra.run.dir={tmp_path}"]) == 1
        assert "reads images of 24x24 pixels (dataset.size=24)" in " ".join(capsys.readouterr().err.split())

    def test_want_their_encoding_and_their_task(self, photos: Path, tmp_path: Path) -> None:
        given = [override for override in from_photos(photos) if "encoding" not in override]
        with pytest.raises(ConfigError, match=r"backbone.encoding=\w+: images want another one, such as pixels"):
            waferlab.train(*given, f"store={tmp_path}")
        with pytest.raises(ConfigError, match="task=mixed_type is for wafer maps"):
            waferlab.train(*given[1:4], f"store={tmp_path}")


class Rule:
    """A threshold that nothing meets but perfect scores, or not even these."""

    def __init__(self, enough: int = 1) -> None:
        self.enough = enough

    def __call__(self, scores: NDArray[np.floating], is_defect: NDArray[np.bool_]) -> float:
        if len(set(scores.tolist())) > 2 or len(scores) < self.enough:
            raise WaferlabError("no line is as you want it")
        return 0.0


RULE = f"operating_point._target_={__name__}.Rule"


class TestMaps:
    def test_without_a_threshold_that_does_what_is_wanted_leave_a_model(self, tmp_path: Path) -> None:
        with pytest.raises(
            WaferlabError, match="no line is as you want it; the network is trained, and kept"
        ) as failed:
            waferlab.train(*MAPS, RULE, "finetuning.body=false", f"store={tmp_path}")
        (run,) = MlflowClient(default_uri(tmp_path)).search_runs(["1"])
        assert run.info.status == "FAILED"
        assert f"model={run.info.run_id}" in str(failed.value)
        model = waferlab.load(run.info.run_id, f"store={tmp_path}")
        assert isinstance(model, Classifier)
        assert model.decision is not None
        assert model.decision.threshold is None
        assert model.decision.temperature != 1

    def test_with_a_wish_that_no_network_meets_are_refused_before_training(self, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match=r"no line is as you want it$"):
            waferlab.train(*MAPS, RULE, "+operating_point.enough=1000", f"store={tmp_path}")
        assert MlflowClient(default_uri(tmp_path)).search_runs(["1"]) == []

    def test_of_one_class_each_are_told_apart_and_those_of_several_left_out(self, tmp_path: Path) -> None:
        given = ("task=transfer", "dataset.maps=500", *NET, "finetuning.head_epochs=0", "trainer.max_epochs=1")
        found = waferlab.train(*given, f"store={tmp_path}")
        assert found.facts["several_defects"] > 300
        assert [each.name for each in found.evaluations] == ["classifier", "majority", "zone_density"]
        table = tmp_path / "maps.npz"
        np.savez(table, maps=np.ones((3, 52, 52), np.uint8))
        rows = predicted(found, tmp_path, f"input={table}")
        assert [row["wafer"] for row in rows] == ["0", "1", "2"]
        assert sum(float(rows[0][name]) for name in ("Normal", "Center", "Scratch", "Random")) <= 1
        assert len(predicted(found, tmp_path, "dataset=simulated", "dataset.maps=60")) == 60, "labels are not looked at"

    def test_an_interruption_between_the_phases_changes_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fit = Place.fit

        def ends_after_the_head(place: Place, *given: Any) -> Any:
            if place.title == "body":
                raise Interrupted(signal.SIGINT)
            return fit(place, *given)

        with monkeypatch.context() as patched:
            patched.setattr(Place, "fit", ends_after_the_head)
            with pytest.raises(Interrupted):
                waferlab.train(*MAPS, "test=false", f"store={tmp_path}")
        client = MlflowClient(default_uri(tmp_path))
        (begun,) = client.search_runs(["1"], f"tags.role = '{EXPERIMENT}'")
        assert begun.info.status == "KILLED"
        resumed = waferlab.train(f"resume={begun.info.run_id}", f"store={tmp_path}")
        undisturbed = waferlab.train(*MAPS, "test=false", f"store={tmp_path}")
        assert resumed.model_file.read_bytes() == undisturbed.model_file.read_bytes()
        steps = [value.step for value in client.get_metric_history(resumed.run_id, "val/macro_f1")]
        assert steps == [0, 1, 2, 3], "the phases' epochs are numbered one after another"

    def test_a_body_comes_from_a_network_of_other_classes(self, tmp_path: Path) -> None:
        small = ("dataset.maps=300", "trainer.max_epochs=1", "test=false", f"store={tmp_path}")
        student = ("student=compact", "student.width=8", "student.depths=[1,1,1]")
        source = waferlab.train("distillation=supervised", *student, *small)
        backbone = ("backbone=compact", "backbone.width=8", "backbone.depths=[1,1,1]")
        given = ("task=transfer", *backbone, f"backbone.weights={source.run_id}", "finetuning.body=false", *small)
        found = waferlab.train(*given)
        bodies = [waferlab.load(str(each.model_file)).net.features for each in (source, found)]  # type: ignore[union-attr]
        for before, after in zip(*(body.parameters() for body in bodies), strict=True):
            assert torch.allclose(before, after, atol=1e-4)
        with pytest.raises(WaferlabError, match="that model was trained with encoding=die_fail"):
            waferlab.train(*given, "backbone.encoding=one_hot")
        with pytest.raises(WaferlabError, match=r"that model is a .*'width': 8.*, this one a .*'width': 16"):
            waferlab.train(*given, "backbone.width=16")

    def test_are_swept_by_their_metrics(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        given = ["-m", "sweep=optuna", *MAPS, "oversampling=interval(0,1)", "hydra.sweeper.objective=val/auroc"]
        assert main(["train", *given, "hydra.sweeper.n_trials=1", f"store={tmp_path}"]) == 0
        (sweep,) = MlflowClient(default_uri(tmp_path)).search_runs(["1"], "tags.role = 'sweep'")
        assert json.loads(json.dumps(sweep.data.metrics))["val/auroc"] > 0
