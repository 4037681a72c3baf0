"""Sweeps as a person starts them: what they come to, and what they survive."""

import contextlib
import io
import random
import runpy
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial, TrialState

from hydra_plugins.resumable_optuna_sweeper import became
from hydra_plugins.resumable_optuna_sweeper._space import Space
from hydra_plugins.resumable_optuna_sweeper._storage import open_storage
from hydra_plugins.resumable_optuna_sweeper._study import Plan, SharedStudy

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


def sweep_here(*overrides: str, code: int = 0) -> str:
    """The same in this process, which has loaded the libraries already."""
    return app_here(*SWEEP, *overrides, code=code)


def app_here(*arguments: str, code: int = 0) -> str:
    said, ended = io.StringIO(), 0
    with pytest.MonkeyPatch.context() as typed, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        typed.setattr(sys, "argv", [str(APP), *arguments])
        try:
            runpy.run_path(str(APP), run_name="__main__")
        except Exception:
            traceback.print_exc()
            ended = 1
    assert ended == code, said.getvalue()
    return said.getvalue()


def study() -> optuna.Study:
    return optuna.load_study(study_name="s", storage=open_storage(str(Path("sweep/study.journal"))))


def counting() -> list[FrozenTrial]:
    return [trial for trial in study().trials if "sweeper:cut_off" not in trial.user_attrs]


def lowest() -> dict[str, float]:
    """What the slots came to, whatever the numbers of their trials."""
    return {str(trial.user_attrs["sweeper:slot"]): trial.values[0] for trial in counting()}


class TestOneProcess:
    def test_the_best_trial_is_said_and_written_down(self) -> None:
        said = sweep("x=interval(-5,5)", "y=1", "hydra.sweeper.n_trials=4")
        best = study().best_trial
        assert [trial.number for trial in study().trials] == [0, 1, 2, 3]
        assert {path.name for path in Path("sweep").iterdir() if path.is_dir()} == {"0", "1", "2", "3"}
        assert f"best: trial {best.number}, {best.value:.6g}: x={best.params['x']} y=1" in said
        assert OmegaConf.load("sweep/best.yaml")[0].overrides == [f"x={best.params['x']}", "y=1"]

    def test_the_same_command_goes_on_to_the_total(self) -> None:
        sweep_here("x=interval(-5,5)", RANDOM, "hydra.sweeper.n_trials=3")
        first = lowest()
        sweep_here("x=interval(-5,5)", RANDOM, "hydra.sweeper.n_trials=3")
        assert lowest() == first
        sweep_here("x=interval(-5,5)", RANDOM, "hydra.sweeper.n_trials=5")
        assert len(lowest()) == 5
        assert first.items() < lowest().items()

    def test_its_study_has_the_name_of_the_command(self) -> None:
        for overrides in (["x=0,1"], ["x=0,1"], ["x=0,2"]):
            app_here("-m", "hydra/sweeper=optuna", "hydra/sweeper/sampler=grid", *overrides)
        assert len(list(Path("multirun").iterdir())) == 2

    def test_a_failure_is_recorded_and_the_sweep_goes_on(self) -> None:
        said = sweep_here("x=-3,3,-4,1", "fail_below=0", "hydra/sweeper/sampler=grid")
        states = [trial.state for trial in study().trials]
        assert states == [TrialState.FAIL, TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
        assert "ValueError: -3 is too small" in said
        assert "ValueError: -3 is too small" in study().trials[0].user_attrs["sweeper:error"]

    def test_what_a_failed_trial_had_in_memory_is_freed(self) -> None:
        sweep_here("x=-1,-2,-3", "fail_below=0", "hydra/sweeper/sampler=grid")
        errors = [trial.user_attrs["sweeper:error"] for trial in study().trials]
        assert len(errors) == 3
        assert all("too small" in error for error in errors), errors[-1]

    def test_the_limit_of_failures_is_the_studys(self) -> None:
        given = ("x=-3,-4,-5,1", "fail_below=0", "hydra/sweeper/sampler=grid", "hydra.sweeper.max_failures=1")
        for _ in range(2):
            said = sweep_here(*given, "hydra.sweeper.concluded=app.concluded", code=1)
            assert "2 trials have failed, more than hydra.sweeper.max_failures=1; the first one, trial 0, with" in said
            assert "ValueError: -3 is too small" in said
        assert len(study().trials) == 2
        assert Path("concluded.txt").read_text() == "fail fail; []; True"

    def test_the_pruner_ends_trials_that_promise_little(self) -> None:
        given = ("x=2,2,2,9", "epochs=3", "hydra/sweeper/sampler=grid", "hydra/sweeper/pruner=median")
        sweep_here(*given, "+hydra.sweeper.pruner.n_startup_trials=1", "y=0,1")
        assert [trial.state.name for trial in study().trials].count("PRUNED") > 0
        pruned = [trial for trial in study().trials if trial.state == TrialState.PRUNED]
        assert all(trial.params["x"] == "9" or trial.params["y"] == "1" for trial in pruned)

    def test_several_objectives_have_a_front(self) -> None:
        given = ("x=interval(-1,3)", "named=true", "hydra.sweeper.objective=[value,cost]")
        sweep_here(*given, "hydra.sweeper.direction=[minimize,minimize]", "hydra.sweeper.n_trials=6", RANDOM)
        assert len(OmegaConf.load("sweep/best.yaml")) == len(study().best_trials) >= 1

    def test_a_pruner_of_several_objectives_is_refused(self) -> None:
        given = ("x=0,1", "named=true", "hydra.sweeper.objective=[value,cost]", "hydra/sweeper/pruner=median")
        assert "with several objectives" in sweep_here(*given, "hydra.sweeper.direction=[minimize,minimize]", code=1)

    def test_what_jobs_return_by_name_may_have_any_name(self) -> None:
        given = ("x=1,2", "hydra/sweeper/sampler=grid", "hydra.sweeper.objective=value", "named=true", "cost=slot")
        sweep_here(*given)
        assert [trial.user_attrs["slot"] for trial in study().trials] == [1, 2]

    def test_another_search_under_the_same_name_is_refused(self) -> None:
        sweep_here("x=1,2", "y=0", "hydra/sweeper/sampler=grid")
        for other in (("x=1,2", "y=7"), ("x=1,3", "y=0")):
            assert "study s has another search" in sweep_here(*other, "hydra/sweeper/sampler=grid", code=1)
        said = sweep_here("x=1,2", "y=0", "hydra/sweeper/sampler=grid", "hydra.sweeper.max_failures=3")
        assert "nothing is left to do" in said

    def test_two_studies_in_one_folder_are_noticed(self) -> None:
        sweep_here("x=1,2", "hydra/sweeper/sampler=grid")
        given = ("x=1,3", "hydra/sweeper/sampler=grid", "hydra.sweeper.study_name=other")
        assert "is the folder of study s too" in sweep_here(*given)

    def test_batches_change_no_trial(self) -> None:
        found = []
        for size in (1, 2):
            given = ("x=interval(0,1)", RANDOM, "hydra.sweeper.n_trials=3", f"hydra.sweep.dir={size}")
            sweep_here(*given, f"hydra.sweeper.batch_size={size}")
            storage = open_storage(f"{size}/study.journal")
            found.append([trial.params for trial in optuna.load_study(study_name="s", storage=storage).trials])
        assert found[0] == found[1]

    def test_a_constraint_keeps_trials_from_being_the_best(self) -> None:
        given = ("x=0,1,2", "named=true", "hydra.sweeper.objective=value", "+hydra.sweeper.constraints.cost=1")
        sweep_here(*given, "hydra/sweeper/sampler=grid")
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
        found = sweep_here(*given, override, code=1)
        assert said in found
        assert not Path("jobs.txt").exists()

    def test_a_job_without_a_number_fails(self) -> None:
        said = sweep_here("x=.nan,1", "hydra/sweeper/sampler=grid")
        assert "study: 1 complete, 1 fail" in said

    @pytest.mark.parametrize(
        ("sampler", "learning_after"),
        [
            ("tpe", "n_startup_trials=2"),
            ("random", None),
            ("qmc", None),
            ("gp", "n_startup_trials=2"),
            ("nsgaii", "population_size=2"),
            ("nsgaiii", "population_size=2"),
        ],
    )
    def test_a_seed_makes_the_same_trials(self, sampler: str, learning_after: str | None) -> None:
        found = []
        for folder in ("one", "other"):
            space = ["x=interval(-5,5)", "y=range(0,4)", f"hydra/sweeper/sampler={sampler}"]
            space += [f"+hydra.sweeper.sampler.{learning_after}"] if learning_after else []
            sweep_here(*space, f"hydra.sweep.dir={folder}", "hydra.sweeper.n_trials=6")
            storage = open_storage(f"{folder}/study.journal")
            found.append([trial.params for trial in optuna.load_study(study_name="s", storage=storage).trials])
        assert found[0] == found[1]


class TestCrashes:
    def test_an_interrupted_trial_is_closed_and_run_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("APP_SECONDS", "20")
        with start("x=interval(-5,5)", "hydra.sweeper.n_trials=1") as job:
            wait_for_jobs(1)
            job.send_signal(signal.SIGINT)
            job.communicate()
        monkeypatch.delenv("APP_SECONDS")
        assert [trial.state for trial in study().trials] == [TrialState.FAIL]
        sweep("x=interval(-5,5)", "hydra.sweeper.n_trials=1")
        first, again = study().trials
        assert became(first) == "cut off"
        assert again.params == first.params
        assert again.user_attrs["sweeper:retry_of"] == 0

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_interrupted_workers_close_their_trials(self, number: int) -> None:
        with start("x=interval(-5,5)", "seconds=20", "hydra.sweeper.n_trials=2", "hydra.sweeper.workers=2") as job:
            wait_for_jobs(2)
            job.send_signal(number)
            job.communicate()
        assert [trial.state for trial in study().trials] == [TrialState.FAIL] * 2
        pids = [int(line.split()[0]) for line in Path("jobs.txt").read_text().splitlines()]
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)

    @pytest.mark.skipif(sys.platform != "linux", reason="other systems have no way to end with a parent")
    def test_workers_end_with_their_parent(self) -> None:
        with start("x=interval(-5,5)", "seconds=60", "hydra.sweeper.n_trials=2", "hydra.sweeper.workers=2") as job:
            wait_for_jobs(2)
            job.kill()
            job.communicate()
        pids = [int(line.split()[0]) for line in Path("jobs.txt").read_text().splitlines()]
        until = time.monotonic() + 10
        while any(Path(f"/proc/{pid}").exists() for pid in pids):
            assert time.monotonic() < until
            time.sleep(0.1)

    def test_an_unfinished_line_of_the_journal_is_cut_off(self) -> None:
        sweep("x=interval(-5,5)", "hydra.sweeper.n_trials=1")
        with Path("sweep/study.journal").open("a") as journal:
            journal.write('{"op_code": 8, "worker')
        assert "its last line was unfinished" in sweep("x=interval(-5,5)", "hydra.sweeper.n_trials=2")
        assert len(counting()) == 2

    @pytest.mark.parametrize("judged", [[], ["named=true", "hydra.sweeper.objective=value"]], ids=["", "by name"])
    def test_a_trial_closed_from_outside_is_no_fault_of_its_worker(self, judged: list[str]) -> None:
        with start("x=1,2", "seconds=2", "hydra/sweeper/sampler=grid", *judged) as job:
            wait_for_jobs(1)
            study().tell(0, state=TrialState.FAIL)
            said = job.communicate()[0]
        assert "trial 0 was closed by others" in said
        assert job.returncode == 0
        assert study().trials[1].state == TrialState.COMPLETE

    def test_a_job_that_always_takes_its_process_along_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        given = ("x=interval(-5,5)", "hydra.sweeper.n_trials=2", "hydra.sweeper.retries=1")
        for number in range(2):
            monkeypatch.setenv("APP_KILL_AT", str(number))
            sweep(*given, code=-signal.SIGKILL)
        assert "1 complete, 1 given up" in sweep(*given)
        assert [trial.user_attrs["sweeper:slot"] for trial in study().trials] == [0, 0, 1]
        assert [trial.state.name for trial in study().trials] == ["FAIL", "FAIL", "COMPLETE"]

    def test_a_conclusion_that_was_cut_off_is_made_by_the_next_start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        given = ("x=1,2", "hydra/sweeper/sampler=grid", "hydra.sweeper.concluded=app.concluded")
        monkeypatch.setenv("APP_KILL_CONCLUSION", "")
        sweep(*given, code=-signal.SIGKILL)
        monkeypatch.delenv("APP_KILL_CONCLUSION")
        for _ in range(2):
            assert "nothing is left to do" in sweep(*given)
            assert Path("concluded.txt").read_text() == "complete complete; [['x=2']]; False"
        Path("concluded.txt").unlink()
        sweep(*given)
        assert not Path("concluded.txt").exists(), "once is enough"

    def test_a_job_whose_worker_died_while_choosing_gets_its_point_of_the_grid(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        parser = OverridesParser.create()
        space = Space.of(parser.parse_overrides(["x=0,1", "y=0,1"]), {})
        sampler, grid = {"_target_": "optuna.samplers.RandomSampler"}, space.grid()
        shared = SharedStudy("s.journal", "s", ["minimize"], Plan(4, 0, 5, grid), space, {}, sampler, None, 1)

        def half(_: Space, trial: optuna.Trial) -> None:
            trial.suggest_categorical("x", ["0", "1"])
            raise KeyboardInterrupt

        with monkeypatch.context() as dying:
            dying.setattr(Space, "suggest", half)
            with pytest.raises(KeyboardInterrupt):
                shared.claim(1)
        assert [job.overrides for job in shared.claim(4)] == [
            ["x=0", "y=0"],
            ["x=0", "y=1"],
            ["x=1", "y=0"],
            ["x=1", "y=1"],
        ]

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
        assert lowest() == {str(trial.user_attrs["sweeper:slot"]): trial.value for trial in undisturbed.trials}


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

    def test_a_worker_that_dies_is_replaced_and_its_trial_run_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("APP_KILL_AT", "1")
        given = ("x=interval(-5,5)", "hydra.sweeper.n_trials=6", "hydra.sweeper.workers=2", "seconds=0.2")
        assert "died (SIGKILL); another begins" in sweep(*given, RANDOM)
        assert len(counting()) == 6
        assert all(trial.state == TrialState.COMPLETE for trial in counting())

    def test_the_limit_of_failures_is_said_by_the_parent(self) -> None:
        given = ("x=-1,-2,-3,-4", "fail_below=0", "hydra/sweeper/sampler=grid", "hydra.sweeper.workers=2")
        assert "more than hydra.sweeper.max_failures=1" in sweep(*given, "hydra.sweeper.max_failures=1", code=1)

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
