"""``waferlab evaluate``: a trained model on the test part of any data set, with the same metrics as its training."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from waferlab.commands.compose import checked, command_line
from waferlab.commands.results import Outcome, print_outcome, record
from waferlab.commands.training import dataset_tags, model_reference, require_match
from waferlab.config import Component, Schema, TrackingConfig
from waferlab.data.dataset import Dataset
from waferlab.models.files import load_model
from waferlab.tasks.evaluation import evaluate_baselines, evaluate_model
from waferlab.tracking.run import Tracker


class EvaluateConfig(Schema):
    """What to evaluate, on what, and whether by the mean of its logits over the dihedral views."""

    model: str
    average_views: bool
    dataset: Component
    tracking: TrackingConfig
    store: Path


def run(composed: DictConfig) -> None:
    """Evaluate as composed on the command line, and print what came out."""
    command = command_line("evaluate", HydraConfig.get().overrides.task)
    print_outcome(evaluate(checked(EvaluateConfig, composed), command))


def evaluate(config: EvaluateConfig, command: str) -> Outcome:
    """Evaluate one model; the command that asked for it is kept with its run.

    Raises:
        ConfigError: the configuration doesn't fit the data source it names.
        WaferlabError: the model can't be read or isn't for this data.
    """
    config.dataset.checked("dataset")
    tracker = Tracker(config.tracking, config.store)
    file = model_reference(config.model, tracker)
    model = load_model(file)
    dataset: Dataset = config.dataset.build("dataset")
    require_match(model, dataset, f"model={config.model}")
    tags = {"role": "evaluate", "model": config.model, "command": command, **dataset_tags(dataset)}
    with tracker.run(f"evaluate {dataset.name}", {**tags, **config.tracking.tags}) as opened:
        opened.parameters(config.model_dump(mode="json", by_alias=True))
        test = dataset.part("test")
        network = evaluate_model("student", model, test, file.stat().st_size, config.average_views)
        evaluations = [network, *evaluate_baselines(dataset)]
        figures = record(opened, evaluations, test, config.store / "runs" / opened.id / "figures")
    return Outcome(opened.id, evaluations, figures, file)
