"""``waferlab evaluate``: a trained model on the test part of any data set, with the same metrics as its training."""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from waferlab.commands.compose import checked, command_line, compose_overrides
from waferlab.commands.results import Outcome, print_outcome, record
from waferlab.commands.training import dataset_tags, model_reference, require_match
from waferlab.config import Component, Schema, TrackingConfig
from waferlab.data.dataset import Dataset
from waferlab.errors import ConfigError
from waferlab.models.classifier import Classifier
from waferlab.models.files import load_model
from waferlab.tasks.evaluation import evaluate_baselines, evaluate_model
from waferlab.tracking.run import EVALUATION, Tracker


class EvaluateConfig(Schema):
    """What to evaluate, on what.

    Attributes:
        model: an MLflow run id or model file.
        average_views: judge it by the mean of its logits over the dihedral views.
        modules: of your own networks, imported before the model is read.
    """

    model: str
    average_views: bool
    modules: list[str]
    dataset: Component
    tracking: TrackingConfig
    store: Path


def run(composed: DictConfig) -> None:
    """Evaluate as composed on the command line, and print what came out."""
    command = command_line("evaluate", HydraConfig.get().overrides.task)
    print_outcome(evaluate(checked(EvaluateConfig, composed), command))


def evaluate_overrides(overrides: Sequence[str]) -> Outcome:
    """Evaluate from Python, as ``waferlab evaluate OVERRIDES`` would."""
    command = command_line("evaluate", overrides)
    return evaluate(checked(EvaluateConfig, compose_overrides("evaluate", overrides)), command)


def load_overrides(model: str, overrides: Sequence[str]) -> Classifier:
    """The model that ``waferlab evaluate model=MODEL OVERRIDES`` would evaluate."""
    composed = compose_overrides("evaluate", overrides)
    composed.model = model
    config = checked(EvaluateConfig, composed)
    _import_modules(config)
    return load_model(model_reference(config.model, Tracker(config.tracking, config.store)))


def evaluate(config: EvaluateConfig, command: str) -> Outcome:
    """Evaluate one model; the command that asked for it is kept with its run.

    Raises:
        ConfigError: the configuration doesn't fit the data source it names, or a module can't be imported.
        WaferlabError: the model can't be read or isn't for this data.
    """
    _import_modules(config)
    config.dataset.checked("dataset")
    tracker = Tracker(config.tracking, config.store)
    file = model_reference(config.model, tracker)
    model = load_model(file)
    dataset: Dataset = config.dataset.build("dataset")
    dataset.require("test")
    require_match(model, dataset, f"model={config.model}")
    _warn_of_seen_maps(dataset, config.model, tracker)
    tags = {"role": EVALUATION, "model": config.model, "command": command, **dataset_tags(dataset)}
    with tracker.run(f"evaluate {dataset.name}", {**tags, **config.tracking.tags}) as opened:
        opened.parameters(config.model_dump(mode="json", by_alias=True))
        test = dataset.part("test")
        network = evaluate_model("model", model, test, file.stat().st_size, config.average_views)
        evaluations = [network, *evaluate_baselines(dataset)]
        figures = record(opened, evaluations, test, config.store / "runs" / opened.id / "figures")
    return Outcome(
        opened.id, command, command, dataset.facts, model.config.target, evaluations, figures, config.model, file
    )


def _import_modules(config: EvaluateConfig) -> None:
    for module in config.modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ConfigError(f"modules: {module} can't be imported ({error})") from error


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
