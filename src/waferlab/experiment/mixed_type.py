"""Mixed-type classification: a teacher learns the defects from labels, a student from the teacher."""

from waferlab.config import MixedTypeConfig
from waferlab.data.split import hide_labels
from waferlab.distillation.losses import Distillation
from waferlab.experiment.begin import begin, opening
from waferlab.experiment.classification import COLUMNS, following, record, record_teaching
from waferlab.experiment.networks import Place, fit_classifier, make_model
from waferlab.experiment.outcome import Outcome, own_modules
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
    teachers = Teachers(config, dataset, tracker)
    network = "student" if config.student else "teacher"
    name = f"{dataset.name} {config.student.target.rpartition('.')[2] if config.student else network}"
    with opening(config, begun, command, name, {"network": network}) as (opened, folder):
        teacher = teachers.get() if loss.uses_teacher or student is None else None
        answers = None
        judged, evaluations = dataset.part("test" if config.test else "val"), []
        if student is not None:
            place = Place(opened, folder / "training", "student")
            if teacher is not None:
                answers = teachers.answers(teacher, config.trainer.augment)
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
                size, average = teacher.file.stat().st_size, config.teacher.average_views
                logits = teachers.logits(teacher, ["test" if config.test else "val"], "32-true")[0]
                evaluations.append(evaluate_model("teacher", teacher.model, judged, size, average, logits))
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
