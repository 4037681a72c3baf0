"""Sweeps as a person starts them: what they come to, and what they survive."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial, TrialState

from hydra_plugins.resumable_optuna_sweeper._storage import open_storage

APP = Path(__file__).with_name("app.py")
SWEEP = ("-m", "hydra/sweeper=optuna", "hydra.sweeper.seed=1", "hydra.sweeper.study_name=s", "hydra.sweep.dir=sweep")
RANDOM = "hydra/sweeper/sampler=random"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")


def start(*overrides: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(APP), *SWEEP, *overrides]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def sweep(*overrides: str, code: int = 0) -> str:
    with start(*overrides) as job:
        said = job.communicate()[0]
    assert job.returncode == code, said
    return said


def study() -> optuna.Study:
    return optuna.load_study(study_name="s", storage=open_storage(str(Path("sweep/study.journal"))))


def counting() -> list[FrozenTrial]:
    return [trial for trial in study().trials if "cut_off" not in trial.user_attrs]


def lowest() -> dict[str, float]:
    """What the slots came to, whatever the numbers of their trials."""
    return {str(trial.user_attrs["slot"]): trial.values[0] for trial in counting()}


class TestOneProcess:
    def test_the_best_trial_is_said_and_written_down(self) -> None:
        said = sweep("x=interval(-5,5)", "y=1", "hydra.sweeper.n_trials=4")
        best = study().best_trial
        assert [trial.number for trial in study().trials] == [0, 1, 2, 3]
        assert {path.name for path in Path("sweep").iterdir() if path.is_dir()} == {"0", "1", "2", "3"}
        assert f"best: trial {best.number}, {best.value:.6g}: x={best.params['x']} y=1" in said
        assert OmegaConf.load("sweep/best.yaml")[0].overrides == [f"x={best.params['x']}", "y=1"]

    def test_the_same_command_goes_on_to_the_total(self) -> None:
        sweep("x=interval(-5,5)", RANDOM, "hydra.sweeper.n_trials=3")
        first = lowest()
        sweep("x=interval(-5,5)", RANDOM, "hydra.sweeper.n_trials=3")
        assert lowest() == first
        sweep("x=interval(-5,5)", RANDOM, "hydra.sweeper.n_trials=5")
        assert len(lowest()) == 5
        assert first.items() < lowest().items()

    def test_its_study_has_the_name_of_the_command(self) -> None:
        for overrides in (["x=0,1"], ["x=0,1"], ["x=0,2"]):
            command = [sys.executable, str(APP), "-m", "hydra/sweeper=optuna", "hydra/sweeper/sampler=grid", *overrides]
            subprocess.run(command, check=True, capture_output=True)
        assert len(list(Path("multirun").iterdir())) == 2

    def test_a_failure_is_recorded_and_the_sweep_goes_on(self) -> None:
        said = sweep("x=-3,3,-4,1", "fail_below=0", "hydra/sweeper/sampler=grid")
        states = [trial.state for trial in study().trials]
        assert states == [TrialState.FAIL, TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
        assert "ValueError: -3 is too small" in said
        assert "ValueError: -3 is too small" in study().trials[0].user_attrs["error"]

    def test_the_limit_of_failures_is_the_studys(self) -> None:
        given = ("x=-3,-4,-5,1", "fail_below=0", "hydra/sweeper/sampler=grid", "hydra.sweeper.max_failures=1")
        for _ in range(2):
            assert "2 trials have failed, more than hydra.sweeper.max_failures=1" in sweep(*given, code=1)
        assert len(study().trials) == 2

    def test_the_pruner_ends_trials_that_promise_little(self) -> None:
        given = ("x=2,2,2,9", "epochs=3", "hydra/sweeper/sampler=grid", "hydra/sweeper/pruner=median")
        sweep(*given, "+hydra.sweeper.pruner.n_startup_trials=1", "y=0,1")
        assert [trial.state.name for trial in study().trials].count("PRUNED") > 0
        pruned = [trial for trial in study().trials if trial.state == TrialState.PRUNED]
        assert all(trial.params["x"] == "9" or trial.params["y"] == "1" for trial in pruned)

    def test_several_objectives_have_a_front(self) -> None:
        given = ("x=interval(-1,3)", "named=true", "hydra.sweeper.objective=[value,cost]")
        sweep(*given, "hydra.sweeper.direction=[minimize,minimize]", "hydra.sweeper.n_trials=6", RANDOM)
        assert len(OmegaConf.load("sweep/best.yaml")) == len(study().best_trials) >= 1

    def test_a_constraint_keeps_trials_from_being_the_best(self) -> None:
        given = ("x=0,1,2", "named=true", "hydra.sweeper.objective=value", "+hydra.sweeper.constraints.cost=1")
        sweep(*given, "hydra/sweeper/sampler=grid")
        assert OmegaConf.load("sweep/best.yaml")[0].overrides[0] == "x=1"

    @pytest.mark.parametrize(
        ("override", "said"),
        [
            ("hydra.sweeper.objective=valeu", "a job returns no valeu; it returns value, cost"),
            ("hydra.sweeper.direction=up", "hydra.sweeper.direction=up: expected maximize or minimize"),
            ("hydra.sweeper.direction=[minimize,minimize]", "2 given for 1 objectives"),
            ("+hydra.sweeper.constraints.bytes=1", "a job returns no bytes"),
            ("+hydra.sweeper.conditions.z.x=1", "z isn't swept"),
            ("hydra.sweeper.n_trials=null", "n_trials: give a number"),
        ],
    )
    def test_mistakes_are_refused_before_the_first_trial(self, override: str, said: str) -> None:
        given = ("x=interval(0,1)", "named=true", "hydra.sweeper.objective=value", "hydra.sweeper.objectives=app.names")
        found = sweep(*given, override, code=1)
        assert said in found
        assert not Path("jobs.txt").exists()

    def test_a_job_without_a_number_fails(self) -> None:
        said = sweep("x=.nan,1", "hydra/sweeper/sampler=grid")
        assert "study: 1 complete, 1 fail" in said

    @pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "nsgaii", "gp", "bruteforce"])
    def test_a_seed_makes_the_same_trials(self, sampler: str) -> None:
        found = []
        for folder in ("one", "other"):
            space = ("x=0,1,2,3", "y=range(0,4)")
            sweep(*space, f"hydra/sweeper/sampler={sampler}", f"hydra.sweep.dir={folder}", "hydra.sweeper.n_trials=3")
            storage = open_storage(f"{folder}/study.journal")
            found.append([trial.params for trial in optuna.load_study(study_name="s", storage=storage).trials])
        assert found[0] == found[1]


class TestCrashes:
    def test_an_interrupted_trial_is_closed_and_run_again(self) -> None:
        with start("x=interval(-5,5)", "seconds=20", "hydra.sweeper.n_trials=1") as job:
            wait_for_jobs(1)
            job.send_signal(signal.SIGINT)
            job.communicate()
        assert [trial.state for trial in study().trials] == [TrialState.FAIL]
        sweep("x=interval(-5,5)", "hydra.sweeper.n_trials=1")
        first, again = study().trials
        assert first.user_attrs["cut_off"]
        assert again.params == first.params
        assert again.user_attrs["retry_of"] == 0

    def test_a_job_that_always_takes_its_process_along_is_given_up(self) -> None:
        given = ("x=interval(-5,5)", "hydra.sweeper.n_trials=2", "hydra.sweeper.retries=1")
        for number in range(2):
            sweep(*given, f"kill_at={number}", code=-signal.SIGKILL)
        sweep(*given)
        assert [trial.user_attrs["slot"] for trial in study().trials] == [0, 0, 1]
        assert [trial.state.name for trial in study().trials] == ["FAIL", "FAIL", "COMPLETE"]

    def test_killed_ten_times_it_comes_to_what_it_would_have_come_to(self) -> None:
        given = ("x=interval(-5,5)", "hydra.sweeper.n_trials=16", "hydra.sweeper.retries=20", "seconds=0.05")
        sweep(*given, "hydra.sweep.dir=undisturbed")
        chance = random.Random(0)
        for _ in range(10):
            with start(*given) as job:
                time.sleep(chance.uniform(1.0, 3.0))
                job.kill()
                job.communicate()
        sweep(*given)
        assert len(counting()) == 16
        assert not [trial for trial in study().trials if not trial.state.is_finished()]
        undisturbed = optuna.load_study(study_name="s", storage=open_storage("undisturbed/study.journal"))
        assert lowest() == {str(trial.user_attrs["slot"]): trial.value for trial in undisturbed.trials}


class TestManyProcesses:
    @pytest.mark.parametrize("storage", ["null", "sqlite:///study.db"])
    def test_workers_share_a_study_without_loss_or_repetition(self, storage: str) -> None:
        given = (f"hydra.sweeper.storage={storage}", "hydra.sweeper.workers=3", "hydra/sweeper/sampler=grid")
        said = sweep("x=range(0,4)", "y=range(0,3)", "kind=a,b", *given)
        jobs = [line.split() for line in Path("jobs.txt").read_text().splitlines()]
        assert len({job[0] for job in jobs}) == 3
        assert sorted(job[2:5] for job in jobs) == sorted(
            [str(x), str(y), kind] for x in range(4) for y in range(3) for kind in "ab"
        )
        assert said.count("[HYDRA] trial ") == 24

    def test_nobody_waits_for_the_slowest(self) -> None:
        sweep("x=range(0,7)", "slow=0", "hydra.sweeper.workers=2", "hydra/sweeper/sampler=grid")
        jobs = [line.split()[0] for line in Path("jobs.txt").read_text().splitlines()]
        assert sorted(jobs.count(worker) for worker in set(jobs)) == [1, 6]

    def test_a_worker_elsewhere_joins_by_the_same_command(self) -> None:
        given = ("x=interval(-5,5)", "hydra.sweeper.n_trials=8", "seconds=0.3", RANDOM)
        with start(*given) as one, start(*given) as other:
            for job in (one, other):
                job.communicate()
                assert job.returncode == 0
        assert len(counting()) == 8
        assert len({line.split()[0] for line in Path("jobs.txt").read_text().splitlines()}) == 2

    def test_a_worker_that_dies_leaves_its_trial_to_the_others(self) -> None:
        given = ("x=interval(-5,5)", "hydra.sweeper.n_trials=6", "hydra.sweeper.workers=2", "kill_at=1", "seconds=0.2")
        said = sweep(*given, RANDOM, code=1)
        assert "workers ended with exit codes" in said
        assert len(counting()) == 6
        assert all(trial.state == TrialState.COMPLETE for trial in counting())

    def test_each_has_a_gpu_of_its_own(self) -> None:
        given = ("x=range(0,8)", "seconds=0.3", "hydra.sweeper.workers=2", "hydra/sweeper/sampler=grid")
        sweep(*given, "hydra.sweeper.devices=[GPU-a,GPU-b]")
        used = {tuple(line.split()[i] for i in (0, 5)) for line in Path("jobs.txt").read_text().splitlines()}
        assert sorted(gpu for _, gpu in used) == ["GPU-a", "GPU-b"]


def wait_for_jobs(count: int) -> None:
    """Until so many jobs have begun."""
    until = time.monotonic() + 30
    while not Path("jobs.txt").exists() or len(Path("jobs.txt").read_text().splitlines()) < count:
        assert time.monotonic() < until
        time.sleep(0.05)
