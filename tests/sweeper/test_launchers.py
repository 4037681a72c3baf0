"""Sweeps whose jobs Hydra's launchers run elsewhere; `uv pip install --group launchers` installs these."""

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
import pytest

from hydra_plugins.resumable_optuna_sweeper._storage import open_storage

APP = Path(__file__).with_name("app.py")
SWEEP = (
    *("-m", "hydra/sweeper=optuna", "hydra.sweeper.study_name=s", "hydra.sweep.dir=sweep", "hydra.sweeper.seed=1"),
    *("x=interval(-5,5)", "hydra.sweeper.n_trials=4", "epochs=2", "hydra/sweeper/pruner=median"),
)
PORT = 26379


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def sweep(*overrides: str) -> list[float]:
    """What the trials of a sweep came to; each job has reported to its trial, wherever it ran."""
    command = [sys.executable, str(APP), *SWEEP, f"log={Path.cwd() / 'jobs.txt'}", *overrides]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    trials = optuna.load_study(study_name="s", storage=open_storage(str(Path("sweep/study.journal")))).trials
    assert all(len(trial.intermediate_values) == 2 for trial in trials)
    return [trial.values[0] for trial in trials]


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_a_launcher_changes_no_trial(launcher: str) -> None:
    if find_spec(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher") is None:
        pytest.skip(f"Hydra's launcher {launcher} is not installed")
    here = sweep()
    shutil.rmtree("sweep")
    assert sweep(f"hydra/launcher={launcher}", "hydra.sweeper.batch_size=2") == here


@pytest.fixture
def cluster() -> Iterator[str]:
    """The address of a Ray cluster of two nodes, each with one processor."""
    ray = pytest.importorskip("ray")
    command, address = Path(sys.executable).with_name("ray"), f"127.0.0.1:{PORT}"
    nodes = []
    for where in (["--head", f"--port={PORT}", "--include-dashboard=false"], [f"--address={address}"]):
        begin = [command, "start", *where, "--num-cpus=1", "--disable-usage-stats", "--block"]
        nodes.append(subprocess.Popen(begin, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        wait_for_nodes(ray, address, len(nodes))
    yield address
    for node in reversed(nodes):
        node.terminate()
        node.wait()


def wait_for_nodes(ray: Any, address: str, count: int) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.suppress(Exception):
            ray.init(address=address, log_to_driver=False)
            if sum(node["Alive"] for node in ray.nodes()) == count:
                return ray.shutdown()
        ray.shutdown()
        time.sleep(1)
    pytest.fail(f"a Ray cluster has not come to {count} nodes")


def test_a_ray_cluster_runs_jobs_on_both_of_its_nodes(cluster: str) -> None:
    on_ray = (f"hydra.launcher.ray.init.address={cluster}", "+hydra.launcher.ray.init.object_store_memory=null")
    sweep(
        "hydra/launcher=ray",
        *on_ray,
        "+hydra.launcher.ray.remote.num_cpus=1",
        "hydra.sweeper.batch_size=2",
        "seconds=2",
    )
    assert len({line.split()[0] for line in Path("jobs.txt").read_text().splitlines()}) == 2
