"""``waferlab export``: what it prints, what it writes, and what it refuses."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import waferlab
from waferlab.cli import main
from waferlab.commands import export
from waferlab.config import TrackingConfig
from waferlab.data.simulator import load
from waferlab.deploy import check
from waferlab.edge.model import OnnxModel, Patterns
from waferlab.models.classifier import Classifier
from waferlab.models.files import load_any
from waferlab.tracking.study import read_study
from waferlab.tracking.tracker import Tracker

DATA = ("dataset.maps=240", "dataset.seed=5")
SMALL = ("student=compact", "student.width=8", "student.depths=[1,1,1]", "distillation=supervised")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def trained(store: Path) -> str:
    """The run of a tiny student."""
    return waferlab.train(*DATA, *SMALL, "trainer.max_epochs=3", f"store={store}").run_id


@pytest.fixture
def here(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a person's own, with the store that the run is in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAFERLAB_STORE", str(store))
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def file_of(run: str, store: Path) -> Path:
    return store / "runs" / run / "model.safetensors"


def runs(store: Path) -> Tracker:
    return Tracker(TrackingConfig(uri=None, experiment="waferlab", tags={}), store)


class TestExport:
    def test_of_a_run_writes_a_file_that_predicts_as_the_model_does(
        self, trained: str, here: Path, store: Path
    ) -> None:
        assert main(["export", f"run={trained}"]) == 0
        written = here / "exported" / f"{trained}.onnx"
        exported, model = OnnxModel(written), load_any(file_of(trained, store))
        maps = load(maps=50, seed=6).wafers.maps
        answer = exported.answer(maps)
        assert isinstance(answer, Patterns)
        assert np.array_equal(answer.bits, model.predict(maps))
        assert (exported.card.kind, exported.card.run) == ("patterns", trained)

    def test_says_what_the_file_came_to_and_what_to_do_with_it(
        self, trained: str, here: Path, store: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["export", f"run={trained}", "output=mine.onnx"]) == 0
        title, heads, original, made, *_turned, wrote, _, following = capsys.readouterr().out.splitlines()
        assert title.startswith("validation part, ")
        assert heads.split() == ["exact", "match", "agree", "differs", "bytes", "maps/s", "ms/map"]
        assert original.split()[0] == "model"
        assert original.split()[2] == f"{file_of(trained, store).stat().st_size:,}"
        assert made.split()[:3] == ["onnx", original.split()[1], "100.00"]
        assert made.split()[4] == f"{Path('mine.onnx').stat().st_size:,}"
        assert wrote == "wrote mine.onnx"
        assert following == "next     waferlab predict model=mine.onnx input=… output=…"

    @pytest.mark.parametrize(("share", "is_known"), [(100.0, True), (-2.0, False)])
    def test_says_whether_the_file_knows_wafers_that_lie_differently(
        self, share: float, is_known: bool, trained: str, here: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        monkeypatch.setattr(export, "right_if_turned", lambda *_: {"exact match": share})
        assert main(["export", f"run={trained}"]) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert f"turned wafers: exact match {share:.2f}" in said
        assert ("trainer.augment=true" in said) != is_known

    @pytest.mark.parametrize("kind", ["onnx-int8", "onnx-int8-weights"])
    def test_to_int8_says_whether_it_is_faster(
        self, kind: str, trained: str, here: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["export", f"model={trained}", f"format={kind}", "most_loss=100"]) == 0
        said = capsys.readouterr().out
        assert f"{kind} against onnx: " in said
        assert "times as fast in batches" in said
        assert max(map(len, said.splitlines()[:7])) <= 80
        small = here / "exported" / f"{trained}-{kind.removeprefix('onnx-')}.onnx"
        assert f"wrote {small.relative_to(here)}" in said
        assert isinstance(OnnxModel(small).answer(np.zeros((3, 52, 52), np.uint8)), Patterns)

    def test_of_a_file_is_checked_on_the_data_that_are_given(
        self, trained: str, here: Path, store: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        data = ["dataset=simulated", "dataset.maps=300", "dataset.fractions=[0.5,0.4,0.1]"]
        assert main(["export", f"run={file_of(trained, store)}", *data]) == 0
        assert "validation part, 1" in capsys.readouterr().out.splitlines()[0]
        assert OnnxModel(here / "exported" / "model.onnx").card.run is None

    def test_of_a_registered_model_is_that_of_its_run(self, trained: str, here: Path) -> None:
        assert main(["register", f"model={trained}", "name=wafers"]) == 0
        assert main(["export", "run=models:/wafers/1", "output=registered.onnx"]) == 0
        assert OnnxModel(here / "registered.onnx").card.run == trained


class TestMapsOfOtherSizes:
    def test_come_to_a_size_as_those_did_that_the_run_learnt_from(self, here: Path, store: Path) -> None:
        run = waferlab.train(*DATA, *SMALL, "trainer.max_epochs=1", f"store={store}").run_id
        (kept,) = store.rglob(f"{run}/artifacts/config.json")
        config = json.loads(kept.read_text())
        config["dataset"]["resize"] = "nearest"
        kept.write_text(json.dumps(config))
        assert main(["export", f"run={run}", "output=mine.onnx", "dataset=simulated", "dataset.maps=240"]) == 0
        assert OnnxModel(here / "mine.onnx").card.resize == "nearest"
        np.save("lot.npy", load(maps=40, seed=6, size=30).wafers.maps)
        for model, output in ((run, "run.csv"), ("mine.onnx", "mine.csv")):
            assert main(["predict", f"model={model}", "input=lot.npy", f"output={output}", "pictures=0"]) == 0
        of_run, of_file = (Path(name).read_text().splitlines() for name in ("run.csv", "mine.csv"))
        assert [line.split(",")[1] for line in of_run] == [line.split(",")[1] for line in of_file]


class TestWeightsOfFewBits:
    def test_of_a_student_that_learnt_with_them_are_those_it_learnt_with(self, here: Path, store: Path) -> None:
        run = waferlab.train(*DATA, *SMALL, "trainer.max_epochs=2", "weight_bits=4", f"store={store}").run_id
        assert main(["export", f"run={run}", "format=onnx-int4-weights", "most_loss=0"]) == 0
        file = here / "exported" / f"{run}-int4-weights.onnx"
        assert file.stat().st_size < file_of(run, store).stat().st_size / 2
        maps, model = load(maps=50, seed=6).wafers.maps, load_any(file_of(run, store))
        assert isinstance(model, Classifier)
        found = OnnxModel(file).answer(maps)
        assert isinstance(found, Patterns)
        assert np.abs(found.probabilities - model.answer(maps)[1]).max() < 0.01

    def test_of_another_one_may_lose_too_much(
        self, trained: str, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(check, "_right", lambda found, card, wafers: {"exact match": float(found["logits"].sum())})
        assert main(["export", f"run={trained}", "format=onnx-int4-weights", "most_loss=0"]) == 1
        assert "(a student that learns with weight_bits=4 loses less)" in capsys.readouterr().err

    def test_without_a_student_mean_nothing(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["train", "student=none", "weight_bits=4"]) == 2
        assert "weight_bits: there is no student" in capsys.readouterr().err


class TestOnTheTestPart:
    def test_a_file_is_an_arm_of_the_models_study_with_what_it_costs(self, here: Path, store: Path) -> None:
        study = ("+tracking.tags.study=deployed", "+tracking.tags.arm=small", "+tracking.tags.reach=90")
        run = waferlab.train(*DATA, *SMALL, *study, "trainer.max_epochs=1", f"store={store}", "seed=7").run_id
        assert main(["export", f"run={run}", "format=onnx-int8-weights", "most_loss=100", "test=true"]) == 0
        file = here / "exported" / f"{run}-int8-weights.onnx"
        of_file, of_model = read_study(runs(store), "deployed")
        assert (of_model.arm, of_file.arm) == ("small", "small onnx-int8-weights")
        assert (of_file.seed, of_file.data, of_file.tags["reach"]) == ("7", of_model.data, "90")
        found, test = of_file.metrics["model"], load(maps=240, seed=5).part("test")
        right = (OnnxModel(file).predict(test.maps) == test.labels).all(1).mean()
        assert found["exact_match"] == pytest.approx(right)
        assert found["bytes"] == file.stat().st_size
        assert found["maps_per_second"] > 100 > found["milliseconds"] > 0
        assert 20 < found["megabytes"] < 200

    def test_is_left_alone_where_nobody_asks(self, trained: str, here: Path, store: Path) -> None:
        before = len([*runs(store).search("")])
        assert main(["export", f"run={trained}"]) == 0
        assert len([*runs(store).search("")]) == before


class TestRefused:
    def said(self, *overrides: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
        code = main(["export", *overrides])
        return code, capsys.readouterr().err

    def test_out_of_tolerance_leaves_no_file(
        self, trained: str, here: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        code, said = self.said(f"run={trained}", "most_difference=0", "output=new/mine.onnx", capsys=capsys)
        assert code == 1
        assert "nothing was written" in said
        assert not list(here.rglob("*"))

    def test_a_file_without_its_data(
        self, trained: str, here: Path, store: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        code, said = self.said(f"run={file_of(trained, store)}", capsys=capsys)
        assert code == 2
        assert "dataset: a model file doesn't say what it was trained on" in said

    def test_data_of_another_kind(self, trained: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        code, said = self.said(
            f"run={trained}", "dataset=simulated", "dataset.maps=240", "dataset.size=40", capsys=capsys
        )
        assert code == 1
        assert "it reads wafer maps of 52x52 dies" in said

    def test_no_model(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        code, said = self.said(capsys=capsys)
        assert code == 2
        assert "run: which model?" in said

    def test_a_run_that_is_not_there(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        code, said = self.said(f"run={'ab' * 16}", capsys=capsys)
        assert code == 1
        assert "is unknown, or it kept no model" in said

    @pytest.mark.parametrize(
        ("override", "said"),
        [
            ("format=onyx", "format='onyx': Input should be 'onnx', 'onnx-int8'"),
            ("output=mine.pte", "output=mine.pte: a file of format=onnx ends in .onnx"),
            ("calibration=0", "calibration=0"),
            ("most_loss=-1", "most_loss=-1"),
        ],
    )
    def test_values_that_mean_nothing(
        self, override: str, said: str, trained: str, here: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        code, found = self.said(f"run={trained}", override, capsys=capsys)
        assert code == 2
        assert said in found

    def test_executorch_where_it_is_not_installed(
        self, trained: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setitem(sys.modules, "executorch", None)
        code, said = self.said(f"run={trained}", "format=executorch-int8", capsys=capsys)
        assert code == 2
        assert "format: this one needs executorch: pip install 'waferlab[train,executorch]'" in said

    def test_data_that_have_gone(self, here: Path, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
        wafers = load(maps=240).wafers
        np.savez(here / "mine.npz", maps=wafers.maps, labels=wafers.labels, classes=wafers.classes)
        data = ("dataset=arrays", f"dataset.path={here / 'mine.npz'}")
        run = waferlab.train(*data, *SMALL, "trainer.max_epochs=1", f"store={store}").run_id
        (here / "mine.npz").unlink()
        code, said = self.said(f"run={run}", capsys=capsys)
        assert code == 1
        assert "mine.npz" in said

    def test_a_run_that_kept_no_configuration(
        self, trained: str, here: Path, store: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        tracker = Tracker(TrackingConfig(uri=None, experiment="test", tags={}), store)
        with tracker.run("test", {}) as run:
            run.file(file_of(trained, store), "model")
        code, said = self.said(f"run={run.id}", capsys=capsys)
        assert code == 1
        assert f"run {run.id} doesn't say what it was trained on" in said
        assert "give dataset=…" in said
