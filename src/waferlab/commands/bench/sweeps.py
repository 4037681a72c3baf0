"""A sweep to be timed: what the sweeper costs a trial beyond Hydra, and how long its workers wait."""

import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from waferlab.errors import WaferlabError

#: Trials that differ in length by four times.
SECONDS = (2.0, 8.0)
_APP = """
import os, time
import hydra
from hydra.core.config_store import ConfigStore

@hydra.main(version_base="1.3", config_path=None, config_name="app")
def main(config):
    began = time.time()
    time.sleep(config.seconds)
    with open("jobs.txt", "a") as jobs:
        jobs.write(f"{os.getpid()} {began} {time.time()}\\n")
    return config.seconds

ConfigStore.instance().store("app", {"seconds": 0.0})
main()
"""
_OURS = (
    *("hydra/sweeper=optuna", "hydra/sweeper/sampler=random", "hydra.sweeper.seed=0"),
    *("hydra.sweep.dir=sweep", "hydra.sweeper.study_name=study"),
)


def seconds_between(trials: int) -> tuple[float, float]:
    """Mean seconds from the end of a job to the beginning of the next: with our sweeper, and with Hydra's own."""
    theirs = ",".join(f"{place / 1e6:f}" for place in range(trials))
    return (
        _mean_gap(_jobs(*_OURS, "seconds=interval(0,0.001)", f"hydra.sweeper.n_trials={trials}")),
        _mean_gap(_jobs(f"seconds={theirs}")),
    )


def idle_share(trials: int, workers: int) -> float:
    """The share of the time between a worker's first and its last trial in which it has none."""
    low, high = SECONDS
    space = (f"seconds=interval({low},{high})", f"hydra.sweeper.n_trials={trials}", f"hydra.sweeper.workers={workers}")
    by_worker = _jobs(*_OURS, *space)
    waited = sum(sum(_gaps(jobs)) for jobs in by_worker)
    return waited / sum(jobs[-1][1] - jobs[0][0] for jobs in by_worker)


def _jobs(*overrides: str) -> list[list[tuple[float, float]]]:
    """Begin and end of each job of a sweep of jobs that do nothing but wait, in order, by process.

    Raises:
        WaferlabError: the sweep fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        app = Path(folder, "app.py")
        app.write_text(_APP)
        command = [sys.executable, str(app), "-m", *overrides]
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise WaferlabError(f"the benchmark's sweep failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        times = defaultdict(list)
        for line in Path(folder, "jobs.txt").read_text().splitlines():
            process, began, ended = line.split()
            times[process].append((float(began), float(ended)))
    return [sorted(jobs) for jobs in times.values()]


def _gaps(jobs: Sequence[tuple[float, float]]) -> list[float]:
    return [begin - end for (_, end), (begin, _) in pairwise(jobs)]


def _mean_gap(by_worker: Sequence[Sequence[tuple[float, float]]]) -> float:
    (jobs,) = by_worker
    return sum(_gaps(jobs)) / (len(jobs) - 1)
