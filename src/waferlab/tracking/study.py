"""A study's runs, read back from MLflow: the newest finished one of each arm, seed and data set, as rows to compare."""

import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev

from mlflow.entities import Run as MlflowRun

from waferlab.errors import WaferlabError
from waferlab.tracking.run import EVALUATION
from waferlab.tracking.tracker import Tracker

#: What a run can be about, the first of these that it has: `model` is one evaluated alone.
NETWORKS = ("model", "student", "classifier", "detector", "teacher")

#: Overrides that set no arms of a study apart: seeds, and where things lie.
_SAYS_NO_ARM = re.compile(r"-m$|[+~]*(?:seed|resume|store|tracking|dataset\.path|hydra)[.=]")


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation over seeds; the deviation is None for a single value."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of one value or more."""
        return cls(mean(values), stdev(values) if len(values) > 1 else None)


@dataclass(frozen=True)
class StudyRun:
    """One finished run of a study.

    Attributes:
        arm: what is compared: tag ``arm``; an evaluation without one belongs to the arm whose model it evaluates. Where
            nobody has named it, the overrides that not all such runs of the study share.
        seed: the seed its network was trained with; for a model file that no run knows, the file.
        data: the test maps: name of the data set, with the mask where one was asked for, and the fingerprint, where the
            run recorded it.
        command: how to repeat it, or None where the run did not record it.
        run_id: of the run.
        epochs: how long its network was trained, or None where the run does not know.
        tags, metrics: of the run; ``metrics["student"]["exact_match"]`` was logged as ``test/student/exact_match``.
    """

    arm: str
    seed: str
    data: tuple[str, str]
    command: str | None
    run_id: str
    epochs: int | None
    tags: dict[str, str]
    metrics: dict[str, dict[str, float]]

    @property
    def labelled(self) -> float:
        """The share of the training maps whose labels were known."""
        return float(self.tags.get("dataset.labelled", 1))

    @property
    def network(self) -> str:
        """The model that the run was about: the student, or the teacher where there is no student."""
        return next(name for name in NETWORKS if name in self.metrics)

    @property
    def views(self) -> int:
        """Dihedral views of a map that the network's answers are the mean of."""
        return int(self.metrics[self.network].get("views", 1))


@dataclass(frozen=True)
class Row:
    """One line of a study's table, all on the same test maps.

    Attributes:
        seeds: how many runs are behind it; None for a trivial baseline, which has no seed.
        metrics: that all of the seeds have, by name; shares in [0, 1].
        bytes: size of the model file, the largest of the seeds; None where there is no network.
        claim: published exact match in percent, or None.
        reach: exact match in percent that the study set out to reach, or None.
        views: dihedral views of a map that its answers are the mean of.
    """

    name: str
    seeds: int | None
    metrics: dict[str, Spread]
    parameters: int
    bytes: int | None
    claim: float | None = None
    reach: float | None = None
    views: int = 1


def read_study(tracker: Tracker, study: str) -> list[StudyRun]:
    """The runs that count: finished, the newest of each arm, seed, data set and number of views; sorted by these.

    Raises:
        WaferlabError: the study has no finished run.
    """
    tagged = [run for run in _runs(tracker) if "study" in run.data.tags]
    read = [_read(run, tracker) for run in tagged if run.data.tags["study"] == study]
    newest: dict[tuple[object, ...], StudyRun] = {}
    for run in _all_named([run for run in read if run is not None]):  # oldest first
        newest[run.data, run.arm, run.seed, run.views] = run
    if not newest:
        known = ", ".join(sorted({run.data.tags["study"] for run in tagged}))
        raise WaferlabError(
            f"study={study} has no finished run at {tracker.uri}; "
            + (f"studies there: {known}" if known else "no run there has a tag 'study' (+tracking.tags.study=NAME)")
        )
    return [newest[key] for key in sorted(newest, key=str)]


def _all_named(runs: Sequence[StudyRun]) -> Iterator[StudyRun]:
    """The runs with an arm each, in their order."""
    overrides = {
        run.run_id: [word for word in shlex.split(run.command or "")[2:] if not _SAYS_NO_ARM.match(word)]
        for run in runs
        if not run.arm
    }
    shared = set.intersection(*map(set, overrides.values())) if overrides else set()
    for run in runs:
        words = [word for word in overrides.get(run.run_id, []) if word not in shared]
        yield run if run.arm else replace(run, arm=", ".join(words) or "unnamed")


def rows(runs: Sequence[StudyRun]) -> list[Row]:
    """The table of runs on the same data: arms by size, the largest first, then teachers and trivial baselines.

    Of an arm that was evaluated in other numbers of views, too, there is a row for each.

    A teacher that its students name but that is no arm of its own has the row ``teacher``.
    """
    arms, teachers = defaultdict(list), {}
    for run in runs:
        arms[run.arm, run.views].append(run)
        if run.network != "teacher" and "teacher" in run.metrics:
            teachers[_teacher_of(run)] = run
    for run in runs:
        if run.network == "teacher":
            teachers.pop(_teacher_of(run), None)
    made = [_row(arm, members) for (arm, _), members in arms.items()]
    made.sort(key=lambda row: (-(row.bytes or 0), row.name, row.views))
    if teachers:
        made.append(_row("teacher", list(teachers.values()), "teacher"))
    baselines = {name: run for run in runs for name in run.metrics if name not in NETWORKS}
    return made + [_row(name, [run], name) for name, run in sorted(baselines.items())]


def unseen(runs: Iterable[StudyRun]) -> dict[tuple[str, str], dict[str, Spread]]:
    """Image AUROC of wafers with a withheld defect, by data set and defect: of each score that the runs measured."""
    found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        for defect in filter(None, run.tags.get("dataset.withheld", "").split(", ")):
            for name, metrics in run.metrics.items():
                if (auroc := metrics.get(f"image/auroc/{defect}")) is not None:
                    found[run.data[0], defect][name].append(auroc)
    return {key: {name: Spread.of(values) for name, values in scores.items()} for key, scores in sorted(found.items())}


def _teacher_of(run: StudyRun) -> str | None:
    """The teacher's run, or its file where no run is known to have trained it."""
    return run.tags.get("teacher.run_id") or run.tags.get("teacher.file")


def _row(name: str, runs: Sequence[StudyRun], beside: str | None = None) -> Row:
    """Of what the runs were about, or of what was measured beside it: a teacher or a trivial baseline."""
    metrics = [run.metrics[beside or run.network] for run in runs]
    sizes = [int(values["bytes"]) for values in metrics if "bytes" in values]
    tags = {} if beside else runs[-1].tags
    return Row(
        name=name,
        seeds=len(runs) if beside is None or beside in NETWORKS else None,
        metrics={key: Spread.of([values[key] for values in metrics]) for key in set.intersection(*map(set, metrics))},
        parameters=int(metrics[-1]["parameters"]),
        bytes=max(sizes) if sizes else None,
        views=int(metrics[-1].get("views", 1)),
        claim=float(tags["claim"]) if "claim" in tags else None,
        reach=float(tags["reach"]) if "reach" in tags else None,
    )


def _read(run: MlflowRun, tracker: Tracker) -> StudyRun | None:
    """What a run says; None where it is no result: a teacher's own training, or a run that logged no test metric."""
    tags = run.data.tags
    metrics: dict[str, dict[str, float]] = defaultdict(dict)
    for key, value in run.data.metrics.items():
        part, _, rest = key.partition("/")
        if part == "test":
            model, _, metric = rest.partition("/")
            metrics[model][metric] = value
    if not any(name in metrics for name in NETWORKS):
        return None
    trained = tracker.find(tags["model"]) if tags.get("role") == EVALUATION else run
    learned = trained.data if trained else run.data
    of_teacher = learned.tags.get("network") == "teacher"
    fitted = tracker.find(learned.tags.get("teacher.run_id", "")) if of_teacher else trained
    epochs = fitted.data.metrics.get("epochs") if fitted else None
    return StudyRun(
        arm=tags.get("arm") or learned.tags.get("arm", ""),
        seed=learned.params.get("teacher.seed" if of_teacher else "seed") or tags.get("model", ""),
        data=(_data_named(tags), tags.get("dataset.fingerprint", "")),
        command=tags.get("command"),
        run_id=run.info.run_id,
        epochs=None if epochs is None else int(epochs),
        tags=dict(tags),
        metrics=dict(metrics),
    )


def _data_named(tags: dict[str, str]) -> str:
    mask, labelled = tags.get("mask"), tags.get("dataset.labelled")
    words = [tags.get("dataset"), mask and f"mask {mask}", labelled and f"{100 * float(labelled):g} % of the labels"]
    return ", ".join(filter(None, words))


def has_results(tracker: Tracker, study: str) -> bool:
    """Whether a finished run of the study has measured on a test part."""
    return any(run.data.tags.get("study") == study and _read(run, tracker) is not None for run in _runs(tracker))


def _runs(tracker: Tracker) -> Iterator[MlflowRun]:
    """All finished runs of the experiment, oldest first."""
    return tracker.search("attributes.status = 'FINISHED'")


def by_data(runs: Iterable[StudyRun]) -> dict[tuple[str, str], list[StudyRun]]:
    """The runs of each data set; only these are comparable."""
    groups: dict[tuple[str, str], list[StudyRun]] = defaultdict(list)
    for run in runs:
        groups[run.data].append(run)
    return dict(groups)
