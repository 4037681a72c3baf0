"""``waferlab evaluate``: a trained model on the test part of any data set, with the same metrics as its training."""

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeGuard

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from pydantic import Field

from waferlab.data.dataset import Dataset, Part
from waferlab.errors import ConfigError
from waferlab.experiment import classification, detection, inspection
from waferlab.experiment.compose import checked, command_line, compose_overrides
from waferlab.experiment.networks import TrainedModel, labelled_for, require_match
from waferlab.experiment.outcome import Next, Outcome, print_outcome
from waferlab.experiment.teachers import dataset_tags
from waferlab.models.anomaly_model import AnomalyModel
from waferlab.models.classifier import Classifier
from waferlab.models.normality import Normality
from waferlab.models.supervised import SupervisedDetector
from waferlab.progress import note_without_effect
from waferlab.schema import Component
from waferlab.tasks.classification import evaluate_baselines, evaluate_model
from waferlab.tasks.detection import (
    WithTruth,
    choose_thresholds,
    evaluate_detector,
    evaluate_supervised,
    evaluate_trivial_scores,
)
from waferlab.tasks.evaluation import Evaluation
from waferlab.tasks.inspection import evaluate_baselines as evaluate_inspection_baselines
from waferlab.tasks.inspection import evaluate_inspector
from waferlab.tracking.run import EVALUATION, Run
from waferlab.tracking.tracker import Tracker


class EvaluateConfig(TrainedModel):
    """What to evaluate, on what.

    Attributes:
        average_views: judge a classifier by the mean of its logits over the dihedral views.
        detect: judge a classifier as a detector of any defect.
        mask: for detectors: which dies of an abnormal wafer are abnormal.
        aupro_limit: false positive rate up to which the per-region overlap is integrated.
        dataset: whose test part it is evaluated on.
        operating_point: another rule for the line of a model that names one class, applied to the validation part, or
            None for its own.
        score: another score for a detector, calibrated on normal wafers as in its training, or None for its own.
    """

    average_views: bool
    detect: bool
    mask: Literal["exact", "fail", "pattern"]
    aupro_limit: float = Field(gt=0, le=1)
    dataset: Component
    operating_point: Component | None = None
    score: Component | None = None


def run(composed: DictConfig) -> None:
    """Evaluate as composed on the command line, and print what came out."""
    command = command_line("evaluate", HydraConfig.get().overrides.task)
    print_outcome(evaluate(checked(EvaluateConfig, composed), command))


def evaluate_overrides(overrides: Sequence[str]) -> Outcome:
    """Evaluate from Python, as ``waferlab evaluate OVERRIDES`` would."""
    command = command_line("evaluate", overrides)
    return evaluate(checked(EvaluateConfig, compose_overrides("evaluate", overrides)), command)


def load_overrides(model: str, overrides: Sequence[str]) -> Classifier | AnomalyModel:
    """The model that ``waferlab evaluate model=MODEL OVERRIDES`` would evaluate."""
    composed = compose_overrides("evaluate", overrides)
    composed.model = model
    config = checked(EvaluateConfig, composed)
    return config.read(Tracker(config.tracking, config.store))[1]


@dataclass(frozen=True)
class _Shown:
    """What an evaluation shows: the parts of an `Outcome` that models of each kind have their own of."""

    columns: Mapping[str, str]
    following: Next
    evaluations: Sequence[Evaluation]
    figures: list[Path]
    remarks: Sequence[str] = ()


def evaluate(config: EvaluateConfig, command: str) -> Outcome:
    """Evaluate one model; the command that asked for it is kept with its run.

    Raises:
        ConfigError: the configuration doesn't fit the data source it names, or a module can't be imported.
        WaferlabError: the model can't be read or isn't for this data, or no threshold does what is wanted.
    """
    parts = {"dataset": config.dataset, "score": config.score, "operating_point": config.operating_point}
    for path, part in parts.items():
        if part is not None:
            part.checked(path)
    tracker = Tracker(config.tracking, config.store, spare=True)
    file, model = config.read(tracker)
    dataset = labelled_for(model, config.dataset.build("dataset"))
    dataset.require("test")
    require_match(model, dataset, f"model={config.model}")
    judge = _judge(config, model)
    _note_idle(config, model, shlex.split(command)[2:])
    _warn_of_seen_maps(dataset, config.model, tracker)
    tags = {"role": EVALUATION, "model": config.model, "command": command, **dataset_tags(dataset)}
    with tracker.run(f"evaluate {dataset.name}", {**tags, **config.tracking.tags}) as opened:
        opened.parameters(config.model_dump(mode="json", by_alias=True))
        folder = config.store / "runs" / opened.id / "figures"
        shown = judge(config, model, dataset, file.stat().st_size, opened, folder)
    return Outcome(
        run_id=opened.id, command=command, begun_by=command, facts=dataset.facts, modules=config.modules,
        following=shown.following, wafers=len(dataset.part("test")), columns=shown.columns,
        evaluations=shown.evaluations, figures=shown.figures, remarks=shown.remarks, model=config.model,
        model_file=file,
    )  # fmt: skip


def _names_one_class(model: Classifier | AnomalyModel) -> TypeGuard[Classifier]:
    return isinstance(model, Classifier) and model.decision is not None


def _judge(config: EvaluateConfig, model: Classifier | AnomalyModel) -> Callable[..., _Shown]:
    """How models of this kind are judged.

    Raises:
        ConfigError: another kind's rule is asked for.
    """
    if config.score is not None and not isinstance(model, AnomalyModel):
        raise ConfigError("score: only detectors have one; a classifier's score is how sure it is of any defect")
    if _names_one_class(model):
        return _inspect
    if config.operating_point is not None:
        raise ConfigError("operating_point: only a model that names one class has one; task=transfer makes such")
    return _classify if isinstance(model, Classifier) and not config.detect else _detect


def _note_idle(config: EvaluateConfig, model: Classifier | AnomalyModel, overrides: Sequence[str]) -> None:
    if _names_one_class(model):
        idle = "mask|aupro_limit|detect|average_views"
        note_without_effect(overrides, idle, "this model names one class, by its own views and threshold")
    elif isinstance(model, AnomalyModel):
        note_without_effect(overrides, "average_views|detect", "this model is a detector, and sees each map as it is")
    elif config.detect:
        note_without_effect(overrides, "average_views", "a detector sees each map as it is")
        note_without_effect(overrides, "precision|compile", "a classifier that detects answers in fp32")
    else:
        note_without_effect(overrides, "mask|aupro_limit", "this model is a classifier; detect=true has it detect")


def _inspect(
    config: EvaluateConfig, model: Classifier, dataset: Dataset, file_bytes: int, run: Run, folder: Path
) -> _Shown:
    if config.operating_point is not None:
        dataset.require("val")
        inspection.use_rule(model, config.operating_point, dataset.part("val"))
    test = dataset.part("test")
    found = [evaluate_inspector("model", model, test, file_bytes), *evaluate_inspection_baselines(dataset)]
    figures = inspection.record(run, found, test, folder)
    remarks = inspection.remarks(found[0], test)
    return _Shown(inspection.COLUMNS, inspection.following(), found, figures, remarks)


def _classify(
    config: EvaluateConfig, model: Classifier, dataset: Dataset, file_bytes: int, run: Run, folder: Path
) -> _Shown:
    test = dataset.part("test")
    found = [evaluate_model("model", model, test, file_bytes, config.average_views), *evaluate_baselines(dataset)]
    figures = classification.record(run, found, test, folder)
    return _Shown(classification.COLUMNS, classification.following(), found, figures)


def _detect(
    config: EvaluateConfig,
    model: Classifier | AnomalyModel,
    dataset: Dataset,
    file_bytes: int,
    run: Run,
    folder: Path,
) -> _Shown:
    """The model and the trivial scores on the test part, all with thresholds from validation, where there is one."""
    run.tags({"mask": config.mask})
    val, test = (WithTruth.of(dataset.part(part), config.mask) for part in ("val", "test"))
    limit = config.aupro_limit
    if isinstance(model, Classifier):
        found = evaluate_supervised("model", SupervisedDetector(model), val, test, file_bytes, limit)
    else:
        if config.score is not None:
            part: Part = "val" if isinstance(model, Normality) else "train"  # as in its training
            dataset.require(part, "val")
            model.use(config.score.build("score"))
            model.calibrate(dataset.part(part).normal().maps)
        if len(val.wafers):
            choose_thresholds(model, val)
        found = evaluate_detector("model", model, test, file_bytes, limit)
    evaluations = [found, *evaluate_trivial_scores(val, test, limit)]
    figures = detection.record(run, evaluations, test, folder)
    return _Shown(detection.COLUMNS, detection.following(config.mask), evaluations, figures)


def _warn_of_seen_maps(dataset: Dataset, model: str, tracker: Tracker) -> None:
    """Say so where the model's run split the same source in another way: it may have learnt these test maps.

    A source that makes its maps states their seed; by another seed they are new.
    """
    run = tracker.find(model)
    learnt = run.data.tags if run else {}
    here = dataset_tags(dataset)
    same = [learnt.get(tag) == here.get(tag) for tag in ("dataset", "dataset.seed", "dataset.fingerprint")]
    if same == [True, True, False]:
        print(
            f"waferlab: this model was trained on another selection or split of {dataset.name}; "
            f"it may have seen some of these test maps",
            file=sys.stderr,
        )
