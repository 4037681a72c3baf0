"""``waferlab evaluate``: a trained model on the test part of any data set, with the same metrics as its training."""

import shlex
import sys
from collections.abc import Sequence
from typing import Literal

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from pydantic import Field

from waferlab.data.dataset import Dataset, Part
from waferlab.data.single_label import DEFECT, NORMAL, single_label
from waferlab.errors import ConfigError
from waferlab.experiment import classification, detection, inspection
from waferlab.experiment.compose import checked, command_line, compose_overrides, note_without_effect
from waferlab.experiment.networks import TrainedModel, require_match
from waferlab.experiment.outcome import Outcome, print_outcome
from waferlab.experiment.teachers import dataset_tags
from waferlab.models.anomaly_model import AnomalyModel
from waferlab.models.classifier import Classifier
from waferlab.models.normality import Normality
from waferlab.models.supervised import SupervisedDetector
from waferlab.schema import Component
from waferlab.tasks.classification import evaluate_baselines, evaluate_model
from waferlab.tasks.detection import (
    Detected,
    WithTruth,
    choose_thresholds,
    evaluate_detector,
    evaluate_supervised,
    evaluate_trivial_scores,
)
from waferlab.tasks.evaluation import Evaluation
from waferlab.tasks.inspection import evaluate_baselines as evaluate_inspection_baselines
from waferlab.tasks.inspection import evaluate_inspector
from waferlab.tracking.run import EVALUATION
from waferlab.tracking.tracker import Tracker


class EvaluateConfig(TrainedModel):
    """What to evaluate, on what.

    Attributes:
        average_views: judge a classifier by the mean of its logits over the dihedral views.
        detect: judge a classifier as a detector of any defect.
        mask: for detectors: which dies of an abnormal wafer are abnormal.
        aupro_limit: false positive rate up to which the per-region overlap is integrated.
        dataset: whose test part it is evaluated on.
        score: another score for a detector, calibrated on normal wafers as in its training, or None for its own.
    """

    average_views: bool
    detect: bool
    mask: Literal["exact", "fail", "pattern"]
    aupro_limit: float = Field(gt=0, le=1)
    dataset: Component
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


def evaluate(config: EvaluateConfig, command: str) -> Outcome:
    """Evaluate one model; the command that asked for it is kept with its run.

    Raises:
        ConfigError: the configuration doesn't fit the data source it names, or a module can't be imported.
        WaferlabError: the model can't be read or isn't for this data.
    """
    config.dataset.checked("dataset")
    if config.score is not None:
        config.score.checked("score")
    tracker = Tracker(config.tracking, config.store, spare=True)
    file, model = config.read(tracker)
    dataset: Dataset = config.dataset.build("dataset")
    inspector = model if isinstance(model, Classifier) and model.decision is not None else None
    if inspector is not None:
        dataset = single_label(dataset, "defect" if inspector.classes == (NORMAL, DEFECT) else "class")
    dataset.require("test")
    require_match(model, dataset, f"model={config.model}")
    if config.score is not None and not isinstance(model, AnomalyModel):
        raise ConfigError("score: only detectors have one; a classifier's score is how sure it is of any defect")
    classify = isinstance(model, Classifier) and not config.detect
    overrides = shlex.split(command)[2:]
    if inspector is not None:
        idle = "mask|aupro_limit|detect|average_views"
        note_without_effect(overrides, idle, "this model names one class, by its own views and threshold")
    elif classify:
        note_without_effect(overrides, "mask|aupro_limit", "this model is a classifier; detect=true has it detect")
    else:
        note_without_effect(overrides, "average_views", "a detector sees each map as it is")
        if isinstance(model, Classifier):
            note_without_effect(overrides, "precision|compile", "a classifier that detects answers in fp32")
    if isinstance(model, AnomalyModel):
        note_without_effect(overrides, "detect", "this model is a detector")
    _warn_of_seen_maps(dataset, config.model, tracker)
    tags = {"role": EVALUATION, "model": config.model, "command": command, **dataset_tags(dataset)}
    with tracker.run(f"evaluate {dataset.name}", {**tags, **config.tracking.tags}) as opened:
        opened.parameters(config.model_dump(mode="json", by_alias=True))
        folder, size = config.store / "runs" / opened.id / "figures", file.stat().st_size
        evaluations: Sequence[Evaluation]
        if inspector is not None:
            columns, following = inspection.COLUMNS, inspection.following()
            inspected = [
                evaluate_inspector("model", inspector, dataset.part("test"), size),
                *evaluate_inspection_baselines(dataset),
            ]
            figures = inspection.record(opened, inspected, dataset.part("test"), folder)
            evaluations = inspected
        elif isinstance(model, Classifier) and classify:
            columns, following = classification.COLUMNS, classification.following()
            classified = [
                evaluate_model("model", model, dataset.part("test"), size, config.average_views),
                *evaluate_baselines(dataset),
            ]
            figures = classification.record(opened, classified, dataset.part("test"), folder)
            evaluations = classified
        else:
            opened.tags({"mask": config.mask})
            columns, following = detection.COLUMNS, detection.following(config.mask)
            test = WithTruth.of(dataset.part("test"), config.mask)
            evaluations = detected = _detect(model, dataset, test, config, size)
            figures = detection.record(opened, detected, test, folder)
    return Outcome(
        run_id=opened.id, command=command, begun_by=command, facts=dataset.facts, modules=config.modules,
        following=following, wafers=len(dataset.part("test")), columns=columns, evaluations=evaluations,
        figures=figures, model=config.model, model_file=file,
    )  # fmt: skip


def _detect(
    model: Classifier | AnomalyModel, dataset: Dataset, test: WithTruth, config: EvaluateConfig, file_bytes: int
) -> list[Detected]:
    """The model and the trivial scores on the test part, all with thresholds from validation, where there is one."""
    val = WithTruth.of(dataset.part("val"), config.mask)
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
    return [found, *evaluate_trivial_scores(val, test, limit)]


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
