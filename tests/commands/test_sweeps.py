"""A sweep as a person meets it: trials that Optuna chooses by a validation metric, and one run above them all."""

import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from waferlab.cli import main
from waferlab.commands.sweep_report import write_sweeps
from waferlab.config import TrackingConfig
from waferlab.experiment.compose import compose_overrides, configuration
from waferlab.tracking.run import EXPERIMENT, SWEEP, TEACHER, flatten
from waferlab.tracking.sweeps import SweepRun, read_sweeps
from waferlab.tracking.tracker import Tracker, default_uri
from waferlab.tracking.trials import close_trials, sweep_run

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
    drawn = {file.path for file in MlflowClient(default_uri(tmp_path)).list_artifacts(whole.info.run_id, "figures")}
    assert {"figures/history.png", "figures/slices.png"} <= drawn


@pytest.mark.usefixtures("_here")
def test_the_command_of_the_best_one_trains_what_the_trial_was_but_measures_on_the_test_part(tmp_path: Path) -> None:
    search = ("-m", "sweep=alpha_beta", "hydra.sweeper.n_trials=1")
    assert main(["train", *search, *TINY, f"store={tmp_path}"]) == 0
    ((sweep,), (trial,)) = (runs(tmp_path, role) for role in (SWEEP, EXPERIMENT))
    program, command, *overrides = shlex.split(sweep.data.tags["best.0"])
    assert (program, command) == ("waferlab", "train")
    again = dict(flatten(configuration(compose_overrides("train", overrides)).plain()))
    assert again.pop("test") is True
    was = dict(trial.data.params)
    assert was.pop("test") == "False"
    assert {key: str(value) for key, value in again.items()} == was
    assert was["trainer.max_epochs"] == "12"


@pytest.mark.usefixtures("_here")
def test_the_limit_of_failures_is_passed_with_the_reason(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    given = [*SEARCH, "dataset=arrays", "dataset.path=nowhere.npz", f"store={tmp_path}", "hydra.sweeper.max_failures=1"]
    assert main(["train", *given]) == 1
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("waferlab: 2 trials have failed, more than hydra.sweeper.max_failures=1; the first one, tr")
    assert "nowhere.npz does not exist" in last
    (sweep,) = runs(tmp_path, SWEEP)
    assert (sweep.info.status, sweep.data.metrics["trials/fail"]) == ("FAILED", 2)


def test_an_interruption_between_jobs_says_how_to_go_on(tmp_path: Path) -> None:
    given = [*SEARCH, *TINY, "hydra.sweeper.workers=2", "trainer.max_epochs=60", f"store={tmp_path}"]
    command = [sys.executable, "-m", "waferlab.cli", "train", *given]
    sweep = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("multirun/*/worker_*.log")):
        assert sweep.poll() is None, sweep.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    sweep.send_signal(signal.SIGINT)
    said = sweep.communicate(timeout=300)[1]
    assert sweep.returncode == 130
    assert said.endswith("waferlab: interrupted by signal 2\nto go on: start the same sweep again\n")
    assert "Traceback" not in said


class TestReadBack:
    """Sweeps as a report finds them."""

    @pytest.fixture
    def tracker(self, tmp_path: Path) -> Tracker:
        return Tracker(TrackingConfig(uri=None, experiment="waferlab", tags={}), tmp_path)

    def log(
        self, tracker: Tracker, objectives: str, directions: str, *trials: tuple[str, dict[str, float]]
    ) -> SweepRun:
        """A sweep over students, and what its trials came to."""
        tags = {"study": "small", "objective": objectives, "direction": directions, "searched": "student"}
        parent = sweep_run(tracker, "search", "id", tags)
        for number, (student, values) in enumerate(trials):
            own = {"role": EXPERIMENT, "sweep.id": "id", "trial": number, "mlflow.parentRunId": parent}
            with tracker.run(f"trial {number}", own | {"command": f"waferlab train student={student}"}):
                pass
            states = dict.fromkeys(range(len(trials)), "complete")
            close_trials(tracker, "id", states, dict(enumerate(values for _, values in trials)))
        with tracker.run("search", {}, parent):
            pass
        (found,) = read_sweeps(tracker, "small")
        return found

    def test_have_the_option_that_was_chosen_of_a_group(self, tracker: Tracker) -> None:
        found = self.log(
            tracker, "val/macro_f1", "maximize", ("net1", {"val/macro_f1": 0.5}), ("net2", {"val/macro_f1": 0.6})
        )
        assert [(trial.chosen, trial.values) for trial in found.trials] == [
            ({"student": "net2"}, (0.6,)), ({"student": "net1"}, (0.5,))
        ]  # fmt: skip

    def test_of_several_objectives_have_the_front(self, tracker: Tracker, tmp_path: Path) -> None:
        trials = [
            ("net1", {"val/macro_f1": 0.9, "bytes": 248_000.0}),
            ("net2", {"val/macro_f1": 0.7, "bytes": 21_000.0}),
        ]
        worse = ("compact", {"val/macro_f1": 0.6, "bytes": 30_000.0})
        found = self.log(tracker, "val/macro_f1 bytes", "maximize minimize", *trials, worse)
        assert [trial.chosen["student"] for trial in found.trials] == ["net1", "net2"]
        text = write_sweeps("small", [found], tmp_path)[0].read_text()
        assert "| 0 | net1 | 90.00 | 248,000 |" in text
        assert "- the table is the Pareto front: 2 trials" in text

    def test_that_have_a_name_again_are_others(self, tracker: Tracker) -> None:
        assert sweep_run(tracker, "search", "one", {}) != sweep_run(tracker, "search", "other", {})
        assert sweep_run(tracker, "search", "one", {}) == sweep_run(tracker, "search", "one", {})

    def test_know_trials_that_were_sent_after_their_end(self, tracker: Tracker) -> None:
        found = self.log(tracker, "val/macro_f1", "maximize", ("net1", {"val/macro_f1": 0.5}))
        late = {"role": EXPERIMENT, "sweep.id": "id", "trial": 1, "command": "waferlab train student=net2"}
        with tracker.run("trial 1", late) as run:
            run.metrics({"best/macro_f1": 0.9})
        assert [trial.chosen["student"] for trial in read_sweeps(tracker, "small")[0].trials] == ["net2", "net1"]
        assert len(found.trials) == 1


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
