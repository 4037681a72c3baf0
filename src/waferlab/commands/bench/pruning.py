"""A search with and without pruning, on a cached teacher's answers; what logging takes of a training."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from waferlab.commands.bench.process import output_of, seconds_of_command
from waferlab.config import TrackingConfig
from waferlab.tracking.run import TEACHER, seconds_open
from waferlab.tracking.sweeps import read_sweeps
from waferlab.tracking.tracker import Tracker

#: Of every training here.
_STUDENT = ("student=net2", "backbone=compact", "teacher.trainer.max_epochs=8")
_SPACE = ("distillation.alpha=interval(0,1)", "distillation.beta=interval(0.05,0.95)")
_TRAINED = "import sys, waferlab; waferlab.train(*sys.argv[1:])"
_LOGGED = """
import json, sys, time
import waferlab, waferlab.commands.train
from waferlab.experiment import mixed_type
from waferlab.tracking import run

seconds = {"writing": 0.0, "exporting": 0.0}

def timed(name, function):
    def timing(*given, **named):
        began = time.perf_counter()
        try:
            return function(*given, **named)
        finally:
            seconds[name] += time.perf_counter() - began
    return timing

run.Run.write = timed("writing", run.Run.write)
mixed_type.keep_model = timed("exporting", mixed_type.keep_model)
began = time.perf_counter()
waferlab.train(*sys.argv[1:])
print(json.dumps([time.perf_counter() - began, seconds["writing"], seconds["exporting"]]))
"""


@dataclass(frozen=True)
class Searches:
    """Two sweeps of the same seed on the same teacher, each by a process of its own.

    Attributes:
        teacher: seconds of its training.
        whole, pruned: seconds of the sweep without, and with pruning.
        best_of_whole, best_of_pruned: exact match on validation of the best trial of each.
    """

    teacher: float
    whole: float
    pruned: float
    best_of_whole: float
    best_of_pruned: float


def searches(maps: int, trials: int, epochs: int, seed: int) -> Searches:
    """Search alpha and beta of Net-2, without and with the median pruner."""
    with tempfile.TemporaryDirectory() as folder:
        place = (f"store={folder}", f"dataset.maps={maps}", *_STUDENT, f"trainer.max_epochs={epochs}")
        output_of(_TRAINED, *place, "test=false")
        tracker = Tracker(TrackingConfig(uri=None, experiment="waferlab", tags={}), Path(folder))
        (teacher,) = tracker.search(f"tags.role = '{TEACHER}'")
        seconds, best = {}, {}
        for pruner in ("none", "median"):
            seconds[pruner] = seconds_of_command(
                *("train", "-m", "sweep=optuna", *place, *_SPACE, f"hydra/sweeper/pruner={pruner}"),
                *(
                    f"hydra.sweeper.n_trials={trials}",
                    f"hydra.sweeper.seed={seed}",
                    f"hydra.sweep.dir={folder}/{pruner}",
                ),
                *(f"hydra.sweeper.study_name={pruner}", f"+tracking.tags.study={pruner}"),
            )
            (sweep,) = read_sweeps(tracker, pruner)
            best[pruner] = sweep.trials[0].values[0]
    return Searches(seconds_open(teacher), seconds["none"], seconds["median"], best["none"], best["median"])


def logging_shares(maps: int, epochs: int) -> tuple[float, float, float]:
    """Seconds of a training of Net-2, and the shares that go into writing to MLflow, and into exporting the model."""
    with tempfile.TemporaryDirectory() as folder:
        place = (f"store={folder}", f"dataset.maps={maps}", *_STUDENT, f"trainer.max_epochs={epochs}")
        whole, writing, exporting = json.loads(output_of(_LOGGED, *place).splitlines()[-1])
    return whole, writing / whole, exporting / whole
