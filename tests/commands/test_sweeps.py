"""A sweep as a person meets it: trials that Optuna chooses by a validation metric, and one run above them all."""

from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from waferlab.cli import main
from waferlab.tracking.run import EXPERIMENT, SWEEP, TEACHER
from waferlab.tracking.tracker import default_uri

TINY = ("dataset.maps=300", "teacher.trainer.max_epochs=1", "student=net2", "backbone=compact", "backbone.width=8")
SEARCH = ("-m", "sweep=optuna", "optimizer.lr=tag(log,interval(1e-3,1e-1))", "hydra.sweeper.seed=0")


@pytest.fixture
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def runs(store: Path, role: str) -> list[Run]:
    client = MlflowClient(default_uri(store))
    found: list[Run] = client.search_runs(["1"], f"tags.role = '{role}'", order_by=["attributes.start_time"])
    return found


@pytest.mark.usefixtures("_here")
def test_a_sweep_is_one_run_above_those_of_its_trials(tmp_path: Path) -> None:
    pruned = (
        "hydra/sweeper/pruner=threshold",
        "+hydra.sweeper.pruner.lower=2",
        "+hydra.sweeper.pruner.n_warmup_steps=1",
    )
    given = [*SEARCH, *TINY, "hydra.sweeper.n_trials=2", f"store={tmp_path}"]
    assert main(["train", *given, "trainer.max_epochs=1", "hydra.sweeper.study_name=whole"]) == 0
    assert main(["train", *given, *pruned, "trainer.max_epochs=4", "hydra.sweeper.study_name=cut"]) == 0
    whole, cut = runs(tmp_path, SWEEP)
    for sweep, state, status in ((whole, "complete", "FINISHED"), (cut, "pruned", "KILLED")):
        trials = [run for run in runs(tmp_path, EXPERIMENT) if run.data.tags["sweep"] == sweep.info.run_name]
        assert [run.data.tags["mlflow.parentRunId"] for run in trials] == [sweep.info.run_id] * 2
        assert [(run.data.tags["trial"], run.data.tags["trial.state"]) for run in trials] == [
            ("0", state),
            ("1", state),
        ]
        assert {run.info.status for run in trials} == {status}
        assert sweep.info.status == "FINISHED"
        assert not any(key.startswith("test/") for run in trials for key in run.data.metrics), "test is not touched"
    (teacher,) = runs(tmp_path, TEACHER)
    assert teacher.data.tags["mlflow.parentRunId"] == whole.info.run_id
    best = max(runs(tmp_path, EXPERIMENT)[:2], key=lambda run: run.data.metrics["best/exact_match"])
    assert whole.data.metrics["val/exact_match"] == best.data.metrics["best/exact_match"]
    assert f"optimizer.lr={best.data.params['optimizer.lr']}" in whole.data.tags["best.0"]
    assert whole.data.tags["best.optimizer.lr"] == best.data.params["optimizer.lr"]
    assert "sweep=" not in whole.data.tags["best.0"], "its command touches the test part"
    drawn = {file.path for file in MlflowClient(default_uri(tmp_path)).list_artifacts(whole.info.run_id, "figures")}
    assert {"figures/history.png", "figures/slices.png"} <= drawn


@pytest.mark.parametrize("objective", ["test/student/exact_match", "val/pixel/aupro", "val/exact_macth"])
@pytest.mark.usefixtures("_here")
def test_only_validation_metrics_that_will_be_logged_can_be_objectives(
    objective: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = [*SEARCH, *TINY, f"hydra.sweeper.objective={objective}", f"store={tmp_path}"]
    assert main(["train", *given]) == 2
    said = capfd.readouterr().err
    assert (
        f"a job returns no {objective}; it returns val/exact_match, val/macro_f1, val/teacher_agreement, bytes" in said
    )
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.usefixtures("_here")
def test_a_detector_is_judged_by_its_own_metrics_and_its_size(tmp_path: Path) -> None:
    small = ("task=anomaly", "dataset.maps=300", "teacher.dataset.maps=240", "teacher.trainer.max_epochs=1")
    given = ("backbone.depths=[1,1,1]", "backbone.width=4,8", "trainer.max_epochs=1", "hydra/sweeper/sampler=grid")
    judged = ("hydra.sweeper.objective=[val/pixel/aupro,bytes]", "hydra.sweeper.direction=[maximize,minimize]")
    judged = (*judged, "hydra/sweeper/pruner=none")
    assert main(["train", "-m", "sweep=optuna", *small, *given, *judged, f"store={tmp_path}"]) == 0
    (sweep,) = runs(tmp_path, SWEEP)
    assert {"val/pixel/aupro", "bytes"} <= set(sweep.data.metrics)
