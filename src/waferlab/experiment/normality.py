"""Models of normality: what normal wafers are like, by a measure that is learnt from them alone."""

import time

import torch

from waferlab.config import NormalityConfig, NormalityModelConfig
from waferlab.data.batches import Batches
from waferlab.experiment.begin import Begun, begin, opening
from waferlab.experiment.detection import (
    COLUMNS,
    backbone_of,
    following,
    judge,
    record,
    teacher_of,
    wafers_with_truth,
)
from waferlab.experiment.networks import Place
from waferlab.experiment.outcome import Outcome, own_modules, repeated
from waferlab.models.classifier import Classifier
from waferlab.models.files import save_normality
from waferlab.models.normality import Drawing, Normality, build_normality
from waferlab.models.trust import require_normality_saveable
from waferlab.progress import say
from waferlab.tasks.detection import WithTruth, choose_thresholds
from waferlab.tasks.drawing import Drawn
from waferlab.tasks.fit import BEST, device_of
from waferlab.tracking.mlflow_model import keep_model
from waferlab.tracking.run import MODEL_FILE


def run(config: NormalityConfig, command: str) -> Outcome:
    """Run one experiment; the command that asked for it is kept with its run.

    Raises:
        ConfigError: the configuration doesn't fit the code it names.
        WaferlabError: the data, the teacher or the training is at fault.
    """
    require_normality_saveable(config.model)
    begun = begin(config, command)
    dataset, mask = begun.dataset, config.task.mask
    val, judged = wafers_with_truth(config, dataset)
    measure = config.normality.target.rpartition(".")[2].lower()
    tags = {"network": measure, "mask": mask}
    with opening(config, begun, command, f"{dataset.name} {measure}", tags) as (opened, folder):
        teacher = teacher_of(config, begun, opened) if config.uses_features else None
        backbone = backbone_of(config, begun, teacher) if config.uses_features else None
        built = config.model if backbone is None else config.model.model_copy(update={"backbone": backbone.config})
        started = time.perf_counter()
        model = _fit(config, built, backbone, begun, val, Place(opened, folder / "training", measure))
        seconds = time.perf_counter() - started
        validation = choose_thresholds(model, val)
        opened.metrics({f"{BEST}{name}": value for name, value in validation.items()})
        file = save_normality(model, built, backbone.classes if backbone else (), folder / MODEL_FILE)
        say("evaluating")
        evaluations = judge(config, model, file, seconds, teacher, val, judged)
        figures = record(opened, evaluations, judged, folder / "figures") if config.test else []
        keep_model(opened, model, file, judged.wafers.maps[:1] if config.test else None, folder)
    modules = own_modules(config.normality, config.score, config.backbone if config.uses_features else None)
    kept = [override for override in repeated(begun.command) if not override.startswith("normality")]
    sweep = [*kept, "normality=gaussian,prototype,neighbours"]
    return Outcome(
        run_id=opened.id, command=command, begun_by=begun.command, facts=dataset.facts, modules=modules,
        following=following(mask, sweep), wafers=len(judged.wafers), columns=COLUMNS, evaluations=evaluations,
        figures=figures, model=opened.id, model_file=file, is_tested=config.test,
        validation={f"val/{name}": value for name, value in validation.items()},
    )  # fmt: skip


def _fit(
    config: NormalityConfig,
    built: NormalityModelConfig,
    backbone: Classifier | None,
    begun: Begun,
    val: WithTruth,
    place: Place,
) -> Normality:
    """A model that has learnt from the training wafers."""
    train, size = begun.dataset.part("train"), begun.dataset.wafers.size
    normal, trainer, device = train.normal(), config.trainer, device_of(config.trainer)
    torch.manual_seed(config.seed)
    model = build_normality(built, backbone.classes if backbone else (), size, backbone).to(device)
    if isinstance(model.measure, Drawing):
        batches = Batches(
            normal, trainer.batch_size, shuffle=True, augment=trainer.augment, die_noise=trainer.die_noise,
            seed=config.seed, device=device,
        )  # fmt: skip
        task = Drawn(model, config.fit, val.truth, config.task.select, config.seed)
        place.fit(task, batches, Batches(val.wafers, 256, device=device), trainer)
        model.to(device)  # Lightning has left it on the CPU
    else:
        say("fitting")
        learnt = train if model.measure.is_supervised else normal
        model.gather(learnt.maps, learnt.is_abnormal, config.seed)
    model.calibrate(val.wafers.normal().maps)  # to those that it has learnt from, it is nearer than to others
    return model
