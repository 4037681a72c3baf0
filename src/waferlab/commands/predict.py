"""``waferlab predict`` with a trained model; `waferlab.edge.command` is the same with an exported one."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.hydra_config import HydraConfig
from numpy.typing import NDArray
from omegaconf import DictConfig
from pydantic import Field

from waferlab.data.dataset import Dataset
from waferlab.edge import command
from waferlab.edge.card import Card
from waferlab.edge.command import Request
from waferlab.edge.model import Anomalies, Patterns
from waferlab.edge.predict import Batch, Found, predict
from waferlab.errors import Bad, ConfigError
from waferlab.experiment.compose import checked, compose_overrides
from waferlab.experiment.kept import sizing_of
from waferlab.experiment.networks import TrainedModel, require_size
from waferlab.models.anomaly_model import AnomalyModel
from waferlab.models.card import card_of
from waferlab.models.classifier import Classifier
from waferlab.progress import note_without_effect, say
from waferlab.schema import Component
from waferlab.tracking.tracker import Tracker

_AT_ONCE = 512  # wafers of a data set


class PredictConfig(TrainedModel):
    """What to predict, and where to write it: `waferlab.edge.command.Request` says what is not said here.

    Attributes:
        input: a file of wafer maps, or a folder of such; or else
        dataset: all wafers that the source yields are predicted, whatever their part.
        threshold: for a model that names one class: log odds from which on a wafer has a defect.
    """

    input: Path | None
    format: str | None
    pass_bins: list[str | int | float] | None
    bad: Bad
    output: Path
    threshold: float | None = Field(allow_inf_nan=False)
    die_threshold: float | None = Field(allow_inf_nan=False)
    pictures: int = Field(ge=0)
    heat_maps: bool
    threads: int | None = Field(ge=1)
    dataset: Component | None = None


def run(composed: DictConfig) -> None:
    """Predict as composed on the command line; say what was found and where it was written."""
    command.report(*_predicted(composed, HydraConfig.get().overrides.task))


def predicted(overrides: Sequence[str]) -> tuple[Found, Card, Request]:
    """What `waferlab.edge.command.predicted` returns, of any model."""
    return _predicted(compose_overrides("predict", overrides), overrides)


def _predicted(composed: DictConfig, overrides: Sequence[str]) -> tuple[Found, Card, Request]:
    config = checked(PredictConfig, composed)
    if (config.input is None) == (config.dataset is None):
        raise ConfigError("say what to predict: input=FILE, or dataset=… for what a source of data sets yields")
    if config.dataset is not None:
        config.dataset.checked("dataset")
    tracker = Tracker(config.tracking, config.store)
    _, model = config.read(tracker)
    run_id = config.run_id(tracker)
    if isinstance(model, Classifier) and model.decision is not None and config.threshold is not None:
        model.decision = replace(model.decision, threshold=config.threshold)
    trained, request = Trained(model, **(sizing_of(run_id, tracker) if run_id else {})), _request(config)
    command.note_idle(overrides, trained.card, isinstance(model, AnomalyModel) and model.knows_dies)
    if config.dataset is None:
        batches = command.batches(request, trained.card)
    else:
        say("reading the data")
        dataset: Dataset = config.dataset.build("dataset")
        require_size(model, dataset, f"model={config.model}")  # whatever their labels are, nobody looks at them
        note_without_effect(overrides, "bad|pass_bins|format", "these are for input=…")
        batches = _batches(dataset, trained.card)
    return predict(trained, batches, request), trained.card, request


class Trained:
    """A trained model as what predicts.

    Args:
        sizing: how what it learnt from came to its size, as in `waferlab.models.card.card_of`.
    """

    def __init__(self, model: Classifier | AnomalyModel, **sizing: Any) -> None:
        self._model, self.card = model, card_of(model, **sizing)

    def answer(self, maps: NDArray[np.uint8]) -> Patterns | Anomalies:
        """What it says of maps (N, H, W) uint8, or of images (N, H, W, 1 or 3)."""
        if isinstance(self._model, Classifier):
            return Patterns(*self._model.answer(maps))
        die_maps, scores = self._model.predict(maps)
        return Anomalies(scores, die_maps)


def _request(config: PredictConfig) -> Request:
    """What an exported model would be asked for; torch has threads of its own."""
    same = {each.name: getattr(config, each.name) for each in fields(Request)}
    bins = None if config.pass_bins is None else tuple(map(str, config.pass_bins))
    return Request(
        **{**same, "input": config.input or Path(os.curdir), "pass_bins": bins, "threads": config.threads or 1}
    )


def _batches(dataset: Dataset, card: Card) -> Iterator[Batch]:
    wafers, names = dataset.wafers, dataset.names or tuple(map(str, range(len(dataset.wafers))))
    own = wafers.native if wafers.resize == card.resize else None
    for start in range(0, len(names), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        yield Batch(names[some], np.asarray(wafers.maps[some]), None if own is None else own.only(some))
