"""``waferlab evaluate``: a trained model on the test part of any data set, with the same metrics as its training."""

from pathlib import Path

from omegaconf import DictConfig

from waferlab.commands.compose import checked
from waferlab.commands.results import Outcome, draw_figures, log_evaluation, print_outcome
from waferlab.commands.training import model_reference, require_match
from waferlab.config import Component, Schema, TrackingConfig
from waferlab.data.dataset import Dataset
from waferlab.models.files import load_model
from waferlab.tasks.evaluation import evaluate_baselines, evaluate_model
from waferlab.tracking.run import Tracker


class EvaluateConfig(Schema):
    """What to evaluate, on what."""

    model: str
    dataset: Component
    tracking: TrackingConfig
    store: Path


def run(composed: DictConfig) -> None:
    """Evaluate as composed on the command line, and print what came out."""
    print_outcome(evaluate(checked(EvaluateConfig, composed)))


def evaluate(config: EvaluateConfig) -> Outcome:
    """Evaluate one model.

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
    tags = {"role": "evaluate", "model": config.model, "dataset": dataset.name}
    with tracker.run(f"evaluate {dataset.name}", {**tags, **config.tracking.tags}) as opened:
        opened.parameters(config.model_dump(mode="json", by_alias=True))
        test = dataset.part("test")
        evaluations = [evaluate_model("student", model, test, file.stat().st_size), *evaluate_baselines(dataset)]
        figures = draw_figures(evaluations, test, config.store / "runs" / opened.id / "figures")
        for evaluation in evaluations:
            log_evaluation(opened, evaluation)
        for figure in figures:
            opened.file(figure, "figures")
    return Outcome(opened.id, evaluations, figures, file)
