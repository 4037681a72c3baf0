"""The commands that a run prints at its end, run as printed; and a finished student trained further."""

import shlex
from pathlib import Path

import numpy as np
import pytest

import waferlab
from waferlab.cli import main
from waferlab.data.simulator import load
from waferlab.errors import ConfigError, WaferlabError
from waferlab.experiment.outcome import typed
from waferlab.tracking.tracker import default_uri

SMALL = ("distillation=supervised", "trainer.max_epochs=1")
ANOMALY = (
    *("backbone=timm", "backbone.name=test_resnet", "pyramid.levels=[0,1]", "teacher.training=none"),
    "trainer.max_epochs=1",
)
COMPACT = ("dataset.maps=240", "student=compact", "student.width=8", "student.depths=[1,1,1]", "test=false", *SMALL)


def suggested(said: str) -> list[list[str]]:
    """The arguments of the commands below ``next``."""
    lines = said[said.index("\nnext ") :].replace("next", "", 1).strip().splitlines()
    return [shlex.split(line)[1:] for line in lines]


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a person's own, with a data set in it, where commands are typed."""
    monkeypatch.chdir(tmp_path)
    wafers = load(maps=240, size=40).wafers
    np.savez(tmp_path / "my maps.npz", maps=wafers.maps, labels=wafers.labels, classes=wafers.classes)
    return tmp_path


class TestNext:
    @pytest.mark.parametrize(
        ("data", "change"),
        [
            (["dataset.maps=240"], "dataset.seed=1"),
            (["dataset.maps=240", "dataset.size=24", "dataset.seed=3"], "dataset.seed=4"),
            (["dataset=arrays", "dataset.path=my maps.npz", "dataset.fractions=[0.6,0.2,0.2]"], "average_views=true"),
        ],
        ids=["simulated", "small", "arrays"],
    )
    def test_runs_as_printed(
        self, data: list[str], change: str, person: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        place = [f"store={person / 'a store'}", f"tracking.uri={default_uri(person / 'elsewhere')}"]
        (person / "elsewhere").mkdir()
        assert main(["train", *data, "student=compact", "student.width=8", *SMALL, *place]) == 0
        ui, evaluate, sweep = suggested(capsys.readouterr().out)
        assert ui == ["ui", *place]
        assert {change, *data[:2], *place} <= {*evaluate}
        assert main(evaluate) == 0
        again = capsys.readouterr()
        assert "may have seen" not in again.err
        assert "exact match" in again.out
        assert [command[0] for command in suggested(again.out)] == ["ui", "evaluate"]
        assert sweep[:2] == ["train", "-m"]
        assert {*data, *place} <= {*sweep}
        assert main([*sweep, *SMALL]) == 0

    def test_names_the_data_of_a_preset_and_of_a_resumed_run(
        self, person: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def fails(*_: object) -> None:
            raise WaferlabError("the disk is full")

        wafers = load(maps=240).wafers
        np.savez(person / "real.npz", arr_0=wafers.maps, arr_1=wafers.labels)
        preset = ["experiment=mixedwm38", "dataset.path=real.npz", "student=net2", *SMALL]
        with monkeypatch.context() as patched:
            patched.setattr("waferlab.experiment.mixed_type.save_model", fails)
            assert main(["train", *preset]) == 1
        (run,) = (person / "store" / "runs").glob("*/")
        assert main(["train", f"resume={run.name}"]) == 0
        _, evaluate, sweep = suggested(capsys.readouterr().out)
        assert evaluate[2:] == ["dataset=mixedwm38", "dataset.path=real.npz", "average_views=true"]
        assert sweep[2:4] == evaluate[2:4]
        assert main(evaluate) == 0

    @pytest.mark.parametrize(
        ("data", "evaluated"),
        [
            (["dataset.maps=240"], ["dataset=half_normal", "dataset.maps=240", "mask=exact", "dataset.seed=2"]),
            (["dataset=arrays", "dataset.path=my maps.npz", "task.mask=fail"], ["mask=pattern"]),
        ],
        ids=["simulated", "arrays"],
    )
    def test_runs_as_printed_after_anomaly_detection_too(
        self, data: list[str], evaluated: list[str], person: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        typed_ones = ["task=anomaly", *data, *ANOMALY, f"store={person / 'a store'}"]
        assert main(["train", *typed_ones]) == 0
        _, evaluate, sweep = suggested(capsys.readouterr().out)
        assert {*evaluated} <= {*evaluate}
        assert main(evaluate) == 0
        again = capsys.readouterr()
        assert "may have seen" not in again.err
        assert "image AUROC" in again.out
        (_, once_more) = suggested(again.out)
        assert not any(word.startswith("dataset.path=$") for word in once_more)
        assert main(once_more) == 0
        assert sweep[:2] == ["train", "-m"]
        assert {*typed_ones, "seed=1,2"} <= {*sweep}
        assert main(sweep) == 0

    def test_imports_a_network_of_ones_own(
        self, person: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (person / "my_students.py").write_text("from waferlab.models.students import Net2\nclass Mine(Net2): pass\n")
        monkeypatch.syspath_prepend(person)
        own = ["student=net2", "student._target_=my_students.Mine"]
        assert main(["train", "dataset.maps=240", *own, *SMALL]) == 0
        _, evaluate, _ = suggested(capsys.readouterr().out)
        assert "modules=[my_students]" in evaluate
        assert main(evaluate) == 0

    def test_goes_on_in_the_same_place(self) -> None:
        begun = "waferlab train dataset.maps=240 'store=a store' tracking.uri=elsewhere seed=1"
        assert shlex.split(typed(begun, "train", "resume=1"))[1:] == [
            *("train", "resume=1", "store=a store", "tracking.uri=elsewhere")
        ]


class TestWeights:
    def test_of_a_finished_compact_student_are_where_another_begins(self, tmp_path: Path) -> None:
        first = waferlab.train(*COMPACT, "trainer.max_epochs=15", "optimizer.lr=1e-2", f"store={tmp_path}")
        still = ("optimizer.lr=1e-12", "trainer.ema_decay=null", f"store={tmp_path}")
        again = waferlab.train(*COMPACT, f"student.weights={first.run_id}", *still)
        before, after = (made.evaluations[0].logits for made in (first, again))
        assert np.abs(before - after).mean() < 0.2 * before.std()

    def test_of_another_shape_are_refused_with_both(self, tmp_path: Path) -> None:
        first = waferlab.train(*COMPACT, f"store={tmp_path}")
        with pytest.raises(WaferlabError, match=r"that model is a .*'width': 8.*, this one a .*'width': 16"):
            waferlab.train(*COMPACT, "student.width=16", f"student.weights={first.model_file}", f"store={tmp_path}")

    def test_a_network_without_norms_is_not_trained(self) -> None:
        with pytest.raises(ConfigError, match=r"student\.fused: a network without batch norms is not for training"):
            waferlab.train(*COMPACT, "+student.fused=true")
