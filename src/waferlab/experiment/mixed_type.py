"""Mixed-type classification: a teacher learns the defects from labels, a student from the teacher."""

from waferlab.config import MixedTypeConfig
from waferlab.data.dataset import Dataset, Wafers, maps_alone
from waferlab.data.split import hide_labels
from waferlab.distillation.losses import Distillation
from waferlab.errors import ConfigError
from waferlab.experiment.begin import Begun, begin, opening
from waferlab.experiment.classification import COLUMNS, following, record, record_teaching
from waferlab.experiment.networks import Place, fit_classifier, make_model
from waferlab.experiment.outcome import Outcome, own_modules, require_same_data
from waferlab.experiment.teachers import Teachers
from waferlab.models.files import save_model
from waferlab.models.rounded import keep_rounded, round_weights
from waferlab.progress import say
from waferlab.tasks.classification import evaluate_baselines, evaluate_model
from waferlab.tracking.mlflow_model import keep_model
from waferlab.tracking.run import MODEL_FILE


def run(config: MixedTypeConfig, command: str) -> Outcome:
    """Run one experiment; the command that asked for it is kept with its run.

    Raises:
        ConfigError: the configuration doesn't fit the code it names.
        WaferlabError: the data, the teacher or the training is at fault.
    """
    begun = begin(config, command, lambda dataset: hide_labels(dataset, config.labelled))
    dataset, tracker = begun.dataset, begun.tracker
    loss: Distillation = begun.loss
    student = make_model(config.student, dataset, tracker, "student", config.seed) if config.student else None
    extra, tags = _extra(config, begun)
    teachers = Teachers(config, dataset, tracker)
    network = "student" if config.student else "teacher"
    name = f"{dataset.name} {config.student.target.rpartition('.')[2] if config.student else network}"
    with opening(config, begun, command, name, {"network": network} | tags) as (opened, folder):
        teacher = teachers.get() if loss.uses_teacher or student is None else None
        answers = None
        judged, evaluations = dataset.part("test" if config.test else "val"), []
        if student is not None:
            place = Place(opened, folder / "training", "student")
            if teacher is not None:
                answers = teachers.answers(teacher, config.trainer.augment, extra)
                del extra  # the answers have a copy of its maps
            if config.weight_bits is not None:
                round_weights(student.net, config.weight_bits)
            fitted = fit_classifier(student, loss, config.fit, config.seed, dataset, answers, place)
            keep_rounded(student.net)
            model = student = student.fused()
            file = save_model(student, folder / MODEL_FILE)
            validation = fitted.best_metrics
            evaluations.append(evaluate_model("student", student, judged, file.stat().st_size))
        if teacher is not None:
            opened.tags(teacher.tags)
            if student is None:
                model, file, validation = teacher.model, teacher.file, teachers.validation(teacher)
            if student is None or config.test:
                average, logits = config.teacher.average_views, teachers.logits(teacher, judged, "32-true")[0]
                evaluations.append(evaluate_model("teacher", teacher.network, judged, teacher.bytes, average, logits))
        figures = []
        if config.test:
            say("fitting trivial baselines, drawing figures")
            evaluations += evaluate_baselines(dataset)
            figures = record(opened, evaluations, judged, folder / "figures")
            if teacher is not None and (answers is not None or config.labelled < 1):
                answers = answers or teachers.answers(teacher, config.trainer.augment)
                record_teaching(opened, answers.train[0].numpy(), dataset)
        keep_model(opened, model, file, judged.maps[:1] if config.test else None, folder)
    return Outcome(
        run_id=opened.id, command=command, begun_by=begun.command, facts=dataset.facts,
        modules=own_modules(model.config), following=following(begun.command), wafers=len(judged), columns=COLUMNS,
        evaluations=evaluations, figures=figures, model=opened.id, model_file=file, validation=validation,
        is_tested=config.test,
    )  # fmt: skip


def _extra(config: MixedTypeConfig, begun: Begun) -> tuple[Wafers | None, dict[str, str]]:
    """The wafers that a student is taught on beside the data set's, without labels, and what its run says of them.

    Raises:
        ConfigError: they are no maps of the data set's size.
        WaferlabError: they can't be read, or aren't those of the run to resume.
    """
    if config.extra is None:
        return None, {}
    extra: Dataset = config.extra.build("extra")
    if extra.wafers.are_images:
        raise ConfigError(f"extra: {extra.name} are images, and task={config.task.name} is for wafer maps")
    (height, width), (found, across) = begun.dataset.wafers.size, extra.wafers.size
    if (height, width) != (found, across):
        raise ConfigError(
            f"extra: {extra.name} has maps of {found}x{across} dies, the data set {begun.dataset.name} of "
            f"{height}x{width}; give both one size: dataset.size, extra.size"
        )
    if config.resume is not None:
        require_same_data(config.resume, "extra.fingerprint", extra, begun.tracker)
    tags = {"extra": f"{extra.name} {len(extra.wafers)}", "extra.fingerprint": extra.fingerprint}
    return maps_alone(extra.wafers), tags
