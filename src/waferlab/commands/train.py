"""``waferlab train``: one experiment, from a composed configuration to a table, figures and an MLflow run."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from torch import nn

from waferlab.commands.compose import command_line, compose_overrides, configuration
from waferlab.commands.results import Outcome, print_outcome, record, typed
from waferlab.commands.training import Experiment, Place, dataset_tags, make_model
from waferlab.config import Config, check
from waferlab.data.dataset import PARTS, Dataset
from waferlab.distillation.losses import Distillation
from waferlab.distillation.teacher_store import TeacherStore
from waferlab.errors import Interrupted, WaferlabError
from waferlab.models.files import save_model
from waferlab.progress import say
from waferlab.tasks.evaluation import evaluate_baselines, evaluate_model
from waferlab.tasks.mixed_type import optimizer_and_schedule
from waferlab.tracking.run import EXPERIMENT, MODEL_FILE, MODEL_FOLDER, Tracker


def run(composed: DictConfig) -> None:
    """Train as composed on the command line, and print what came out."""
    overrides = HydraConfig.get().overrides.task
    print_outcome(train(configuration(composed, overrides), command_line("train", overrides)))


def train_overrides(overrides: Sequence[str]) -> Outcome:
    """Run one experiment from Python, as ``waferlab train OVERRIDES`` would."""
    config = configuration(compose_overrides("train", overrides), overrides)
    return train(config, command_line("train", overrides))


def train(config: Config, command: str) -> Outcome:
    """Run one experiment; the command that asked for it is kept with its run.

    Raises:
        ConfigError: the configuration doesn't fit the code it names.
        WaferlabError: the data, the teacher or the training is at fault.
    """
    check(config)
    for path, how in config.fits:
        optimizer_and_schedule(nn.Linear(1, 1), how, path)  # what they refuse, they refuse now
    say("reading the data")
    dataset: Dataset = config.dataset.build("dataset")
    dataset.require(*PARTS)
    loss: Distillation = config.distillation.build("distillation")
    tracker = Tracker(config.tracking, config.store)
    begun_by = command if config.resume is None else _command_of(config.resume, dataset, tracker)
    student = make_model(config.student, dataset, tracker, "student", config.seed) if config.student else None
    experiment = Experiment(config, dataset, tracker, TeacherStore(config.store / "teachers"))
    network = "student" if config.student else "teacher"
    name = f"{dataset.name} {config.student.target.rpartition('.')[2] if config.student else network}"
    tags = {**config.tracking.tags, "role": EXPERIMENT, "network": network}
    with tracker.run(name, tags, config.resume) as opened, _told_how_to_go_on(opened.id, command):
        folder = config.store / "runs" / opened.id
        if config.resume is None:
            opened.parameters(config.plain())
            opened.tags(dataset_tags(dataset) | {"command": command})
        teacher = experiment.teacher() if loss.uses_teacher or student is None else None
        test, evaluations = dataset.part("test"), []
        if student is not None:
            place = Place(opened, folder / "training", "student")
            fitted = experiment.fit(student, loss, config.fit, config.seed, teacher, place)
            model = student = student.fused()
            file = save_model(student, folder / MODEL_FILE)
            opened.metrics({"best_validation": fitted.best_score, "epochs": fitted.epochs})
            evaluations.append(evaluate_model("student", student, test, file.stat().st_size))
        if teacher is not None:
            opened.tags(teacher.tags)
            size, average = teacher.file.stat().st_size, config.teacher.average_views
            logits = experiment.answers(teacher, "test", "32-true")[0]
            evaluations.append(evaluate_model("teacher", teacher.model, test, size, average, logits))
            if student is None:
                model, file = teacher.model, teacher.file
        say("fitting trivial baselines, drawing figures")
        evaluations += evaluate_baselines(dataset)
        figures = record(opened, evaluations, test, folder / "figures")
        opened.file(file, MODEL_FOLDER)
        shutil.rmtree(folder / "training", ignore_errors=True)
    return Outcome(
        opened.id, command, begun_by, dataset.facts, model.config.target, evaluations, figures, opened.id, file
    )


@contextmanager
def _told_how_to_go_on(run_id: str, command: str) -> Iterator[None]:
    """An interruption that passes says how to resume the run."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt) as stop:
        stop.add_note(f"to go on: {typed(command, 'train', f'resume={run_id}')}")
        raise


def _command_of(resume: str, dataset: Dataset, tracker: Tracker) -> str:
    """The command that began the run to resume, which has to be about the same data."""
    run = tracker.find(resume)
    tags = run.data.tags if run else {}
    before = tags.get("dataset.fingerprint")
    if before not in (None, dataset.fingerprint):
        raise WaferlabError(
            f"run {resume} was trained on other maps, labels or sides of the split ({before}) than {dataset.name} now "
            f"has ({dataset.fingerprint}); start a new run"
        )
    return str(tags.get("command", command_line("train", ())))
