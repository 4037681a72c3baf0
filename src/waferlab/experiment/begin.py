"""What every experiment begins with: a checked configuration, its data and its loss, and the run that it opens."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from waferlab.config import ExperimentConfig, check
from waferlab.data.dataset import PARTS, Dataset
from waferlab.errors import ConfigError
from waferlab.experiment.outcome import command_of, told_how_to_go_on
from waferlab.experiment.sweep import run_name, trial_tags
from waferlab.experiment.teachers import dataset_tags
from waferlab.progress import say
from waferlab.schema import Component
from waferlab.tasks.task import decaying, optimizer_and_schedule
from waferlab.tracking.run import EXPERIMENT, Run
from waferlab.tracking.tracker import Tracker


@dataclass(frozen=True)
class Begun:
    """What every experiment begins with.

    Attributes:
        dataset: with a map in each part.
        loss: as configured, or None where the task has none.
        tracker: of its runs.
        command: that began it; an earlier one than the one given now where a run is resumed.
    """

    dataset: Dataset
    loss: Any
    tracker: Tracker
    command: str


def begin(config: ExperimentConfig, command: str, prepared: Callable[[Dataset], Dataset] = lambda same: same) -> Begun:
    """Check a configuration, read its data, and build its loss.

    Args:
        prepared: makes of the data what the task learns from.

    Raises:
        ConfigError: the configuration doesn't fit the code it names.
        WaferlabError: the data are at fault, or aren't those of the run to resume.
    """
    check(config)
    check_fits(config)
    say("reading the data")
    dataset = prepared(read_dataset(config.dataset, "dataset", config.withhold))
    dataset.require(*PARTS)
    if dataset.wafers.are_images and config.task.name != "transfer":
        raise ConfigError(f"dataset: {dataset.name} are images, and task={config.task.name} is for wafer maps")
    loss = None if config.criterion is None else config.criterion[1].build(config.criterion[0])
    tracker = Tracker(config.tracking, config.store, spare=True)
    tracker.tags |= trial_tags(tracker, config.tracking.tags)
    begun_by = command if config.resume is None else command_of(config.resume, dataset, tracker)
    return Begun(dataset, loss, tracker, begun_by)


def read_dataset(config: Component, path: str, withhold: Sequence[str]) -> Dataset:
    """The wafers that a component yields, some defects kept from training and validation."""
    dataset: Dataset = config.build(path)
    return dataset.withholding(withhold)


def check_fits(config: ExperimentConfig) -> None:
    """Have optimizers and schedules refuse what they refuse before anything is trained.

    Raises:
        ConfigError: a value that an optimizer or a schedule refuses.
    """
    for path, how in config.fits:
        optimizer_and_schedule(decaying(nn.Linear(1, 1), how), how, path)


@contextmanager
def opening(
    config: ExperimentConfig, begun: Begun, command: str, name: str, tags: Mapping[str, str]
) -> Iterator[tuple[Run, Path]]:
    """The experiment's run, new or gone on with, and its folder, in which ``training`` lasts as long as the run.

    Args:
        command: what was typed now.
        name: of the run, before its place in a sweep.
        tags: beside the configured ones.
    """
    known = {**config.tracking.tags, "role": EXPERIMENT, **tags}
    with begun.tracker.run(run_name(name), known, config.resume) as run, told_how_to_go_on(run.id, command):
        if config.resume is None:
            run.parameters(config.plain())
            run.tags(dataset_tags(begun.dataset) | {"command": command})
        folder = config.store / "runs" / run.id
        yield run, folder
        shutil.rmtree(folder / "training", ignore_errors=True)
