"""What a run came to, for the person and for MLflow."""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import fill, indent

from hydra import compose
from rich.console import Console
from rich.table import Table

from hydra_plugins.resumable_optuna_sweeper import current_trial
from waferlab.data.dataset import Dataset
from waferlab.errors import Interrupted, WaferlabError
from waferlab.experiment.compose import command_line
from waferlab.schema import Component
from waferlab.tasks.evaluation import Evaluation
from waferlab.tracking.run import Run
from waferlab.tracking.tracker import Tracker

#: Overrides that say what the data are, and where runs lie: what a command shares with the one that follows it.
_DATA = re.compile(r"[+~]*dataset[.=]")
_PLACE = re.compile(r"(store|tracking|tracking\.uri)=")
#: Overrides that bring others, the data's among them.
_BRINGS_DATA = re.compile(r"\+*(experiment|task|dataset)=")


@dataclass(frozen=True)
class Next:
    """What a task offers to run after a run of it.

    Attributes:
        evaluate: overrides that evaluate the model as this run did.
        change: an override that evaluates it in another way, where the data source makes no other maps.
        sweep: overrides of trainings to compare it with.
    """

    evaluate: Sequence[str]
    change: str
    sweep: Sequence[str]


@dataclass(frozen=True)
class Outcome:
    """What an experiment came to.

    Attributes:
        run_id: its MLflow run.
        command: what was typed now.
        begun_by: the command that began the run: another one where the run was resumed.
        facts: what the data source says of itself.
        modules: to import before the model is read.
        following: what may come next.
        wafers: number of them in the part that was evaluated.
        columns: what its table shows, as `table` wants it.
        evaluations: of networks and trivial baselines.
        figures: PNG files.
        model: what `evaluate` and others know the model by: its run, or its file.
        model_file: the student's model file (the teacher's where no student was asked for).
        validation: metrics of the weights that were kept, each under ``val/…``; empty for an evaluation.
        remarks: lines below the table.
        is_tested: the evaluations are those on the test part; otherwise on validation, for a sweep to judge it by.
    """

    run_id: str
    command: str
    begun_by: str
    facts: Mapping[str, str | int]
    modules: Sequence[str]
    following: Next
    wafers: int
    columns: Mapping[str, str]
    evaluations: Sequence[Evaluation]
    figures: list[Path]
    model: str
    model_file: Path
    validation: Mapping[str, float] = field(default_factory=dict)
    remarks: Sequence[str] = ()
    is_tested: bool = True

    @property
    def objectives(self) -> dict[str, float]:
        """What a sweep may judge it by: validation metrics, and what the network costs."""
        first = self.evaluations[0]
        costs = {
            "bytes": first.bytes or 0,
            "parameters": first.parameters,
            "seconds_per_map": 1 / first.maps_per_second,
        }
        return {**self.validation, **costs}


def log_evaluation(run: Run, evaluation: Evaluation) -> None:
    """Log all metrics of one evaluation under ``test/NAME/…``."""
    name = evaluation.name
    values = evaluation.metrics | {"parameters": evaluation.parameters, "maps_per_second": evaluation.maps_per_second}
    values["views"] = evaluation.views
    if evaluation.bytes is not None:
        values["bytes"] = evaluation.bytes
    run.metrics({f"test/{name}/{metric}": value for metric, value in values.items()})
    if evaluation.undefined:
        run.tags({f"undefined.{name}": ", ".join(evaluation.undefined)})


def table(evaluations: Sequence[Evaluation], columns: Mapping[str, str], title: str) -> Table:
    """The evaluations as a table of at most 80 columns.

    Args:
        columns: the head of each column by what it shows: a metric, in percent, or a number that every evaluation has.
    """
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    made.add_column("", no_wrap=True)
    for head in columns.values():
        made.add_column(head, justify="right")
    for evaluation in evaluations:
        name = evaluation.name.replace("_", " ") + (f" ({evaluation.views} views)" if evaluation.views > 1 else "")
        made.add_row(name, *(_cell(evaluation, column) for column in columns))
    return made


def _cell(evaluation: Evaluation, column: str) -> str:
    number = getattr(evaluation, column, None)
    if number is not None:
        return f"{number:,.0f}" if number < 1e7 else f"{number / 1e6:.1f} M"
    return f"{100 * evaluation.metrics[column]:.2f}" if column in evaluation.metrics else ""


def print_outcome(outcome: Outcome) -> None:
    """The last lines of a run: what was achieved, where it is, and what to run next."""
    console = Console()
    part = "test" if outcome.is_tested else "validation"
    title = f"{part} part, {outcome.wafers:,} wafers; metrics in percent"
    console.print(table(outcome.evaluations, outcome.columns, title))
    for remark in outcome.remarks:
        console.print(remark, highlight=False)
    console.print(f"{'model':<8} {outcome.model_file}", soft_wrap=True, highlight=False)
    if outcome.figures:
        console.print(f"{'figures':<8} {outcome.figures[0].parent}", soft_wrap=True, highlight=False)
        names = fill(", ".join(figure.name for figure in outcome.figures), 71)
        console.print(indent(names, 9 * " "), highlight=False)
    console.print(f"{'run':<8} {outcome.run_id}\n", highlight=False)
    for number, command in enumerate(_suggestions(outcome) if outcome.is_tested else ()):
        console.print(f"{'' if number else 'next':<8} {command}", soft_wrap=True, highlight=False, markup=False)


def _suggestions(outcome: Outcome) -> list[str]:
    """Commands that go on from here, on the same data but for one change."""
    data, following = _data(outcome), outcome.following
    own = [f"modules=[{','.join(outcome.modules)}]"] if outcome.modules else []
    change = f"dataset.seed={int(outcome.facts['seed']) + 1}" if "seed" in outcome.facts else following.change
    commands = [
        ["ui"],
        ["evaluate", f"model={outcome.model}", *_merged([*own, *data, *following.evaluate, change])],
    ]
    if shlex.split(outcome.command)[1] == "train":
        commands.append(["train", "-m", *_merged([*data, *following.sweep])])
    return [typed(outcome.command, *command) for command in commands]


def _data(outcome: Outcome) -> list[str]:
    """The overrides that name the outcome's data set: as typed, and what presets say where nobody typed it."""
    _, command, *overrides = shlex.split(outcome.begun_by)
    bringing = [override for override in overrides if _BRINGS_DATA.match(override)]
    composed = compose(command, bringing, return_hydra_config=True)
    option = f"dataset={composed.hydra.runtime.choices['dataset']}"
    plain = dict(compose("evaluate", [option, "model=any"]).dataset.items_ex(resolve=False))
    brought = dict(composed.dataset.items_ex(resolve=False))
    preset = [f"dataset.{key}={value}" for key, value in brought.items() if value != plain.get(key)]
    return _merged([option, *preset, *filter(_DATA.match, overrides)])


def _merged(overrides: Iterable[str]) -> list[str]:
    """One override a key: the last one, where the first one stood."""
    return list({override.partition("=")[0]: override for override in overrides}.values())


def own_modules(*components: Component | None) -> list[str]:
    """The modules of what these name, apart from ours."""
    modules = {component.target.rpartition(".")[0] for component in components if component is not None}
    return sorted(module for module in modules if not module.startswith("waferlab."))


def repeated(begun_by: str) -> list[str]:
    """The overrides of a command, apart from where runs lie."""
    return [override for override in shlex.split(begun_by)[2:] if not _PLACE.match(override)]


@contextmanager
def told_how_to_go_on(run_id: str, command: str) -> Iterator[None]:
    """An interruption that passes says how to resume the run, or its sweep."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt) as stop:
        on = (
            "start the same sweep again" if current_trial() is not None else typed(command, "train", f"resume={run_id}")
        )
        stop.add_note(f"to go on: {on}")
        raise


def command_of(resume: str, dataset: Dataset, tracker: Tracker) -> str:
    """The command that began the run to resume.

    Raises:
        WaferlabError: that run was about other data.
    """
    tags = require_same_data(resume, "dataset.fingerprint", dataset, tracker)
    return str(tags.get("command", command_line("train", ())))


def require_same_data(resume: str, fingerprint: str, dataset: Dataset, tracker: Tracker) -> Mapping[str, str]:
    """The tags of the run to resume, of which one has the fingerprint of its data.

    Raises:
        WaferlabError: that run was about other data.
    """
    run = tracker.find(resume)
    tags: dict[str, str] = run.data.tags if run else {}
    before = tags.get(fingerprint)
    if before not in (None, dataset.fingerprint):
        raise WaferlabError(
            f"run {resume} was trained on other maps, labels or sides of the split ({before}) than {dataset.name} now "
            f"has ({dataset.fingerprint}); start a new run"
        )
    return tags


def typed(after: str, *command: str) -> str:
    """A command on the store of another one, as this person has to type it."""
    beside = Path(sys.executable).with_name("waferlab")
    program = "waferlab" if shutil.which("waferlab") else os.path.relpath(beside)
    return shlex.join([program, *command, *filter(_PLACE.match, shlex.split(after))])
