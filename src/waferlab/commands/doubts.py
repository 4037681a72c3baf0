"""``waferlab doubts``: labels of a data set that several models contradict with one voice."""

from pathlib import Path
from typing import Any, Final

import numpy as np
from omegaconf import DictConfig
from pydantic import Field
from rich.console import Console
from rich.table import Table

from waferlab.config import TrackingConfig
from waferlab.data.dataset import Dataset, Part, Wafers
from waferlab.edge.table import table
from waferlab.errors import WaferlabError
from waferlab.experiment.compose import checked
from waferlab.experiment.networks import TrainedModel, labelled_for, require_match
from waferlab.metrics.doubts import Doubts
from waferlab.models.classifier import Classifier
from waferlab.progress import progress
from waferlab.schema import Component, Schema
from waferlab.tracking import figures
from waferlab.tracking.tracker import Tracker
from waferlab.wafer import pattern_name

_AT_ONCE: Final = 512


class DoubtsConfig(Schema):
    """Which models to ask, and about which labels.

    Attributes:
        model: run ids, model files or registered models: classifiers of the same classes.
        part: of the data set; models that have learnt its labels by heart contradict none of them.
        output: folder for the table and the figure.
        modules: of your own networks, imported before the models are read.
        tracking, store: where runs lie.
    """

    model: list[str] = Field(min_length=2)
    dataset: Component
    part: Part
    output: Path
    modules: list[str]
    tracking: TrackingConfig
    store: Path


def run(composed: DictConfig) -> None:
    """Ask the models, print how far they get, and write down which labels they doubt."""
    config = checked(DoubtsConfig, composed)
    config.dataset.checked("dataset")
    tracker = Tracker(config.tracking, config.store)
    models = [_classifier(config, reference, tracker) for reference in config.model]
    dataset = _labelled(config, models)
    wafers, places = dataset.part(config.part), np.flatnonzero(dataset.within(config.part))
    bits, probabilities = _answers(models, wafers)
    doubts = Doubts.of(bits, probabilities, wafers.labels)
    _print(config, dataset, doubts)
    rows, written = doubts.rows, config.output / "doubts.csv"
    labelled, answered = ([pattern_name(each, wafers.classes) for each in of[rows]] for of in (wafers.labels, bits[0]))
    names = dataset.names or tuple(map(str, range(len(dataset.wafers))))
    config.output.mkdir(parents=True, exist_ok=True)
    with table(written) as add:
        called = [names[place] for place in places[rows]]
        add({"wafer": called, "labelled": labelled, "answered": answered, "certainty": doubts.certainty.tolist()})
    print(f"wrote {written}")
    if len(rows) and not wafers.are_images:
        drawn = figures.doubted_maps(wafers.maps[rows], labelled, answered)
        print(f"wrote {figures.save({'doubts': drawn}, config.output)[0]}")


def _classifier(config: DoubtsConfig, reference: str, tracker: Tracker) -> Classifier:
    asked = TrainedModel(
        model=reference, modules=config.modules, precision="32-true", compile=False, tracking=config.tracking,
        store=config.store,
    )  # fmt: skip
    _, model = asked.read(tracker)
    if not isinstance(model, Classifier):
        raise WaferlabError(f"model={reference} is a detector, which names no pattern; doubts come from classifiers")
    return model


def _labelled(config: DoubtsConfig, models: list[Classifier]) -> Dataset:
    """The data set, with labels as the models have them."""
    dataset = labelled_for(models[0], config.dataset.build("dataset"))
    dataset.require(config.part)
    if not dataset.classes:
        raise WaferlabError(f"{dataset.name} has no labels that could be doubted")
    for reference, model in zip(config.model, models, strict=True):
        require_match(model, dataset, f"model={reference}")
    return dataset


def _answers(models: list[Classifier], wafers: Wafers) -> tuple[Any, Any]:
    """Bits and probabilities of every model, (M, N, C) each."""
    found = []
    with progress("answers", len(models) * len(wafers)) as bar:
        for model in models:
            parts = []
            for start in range(0, len(wafers), _AT_ONCE):
                maps = np.asarray(wafers.maps[start : start + _AT_ONCE])
                parts.append(model.answer(maps))
                bar.advance(len(maps))
            found.append([np.concatenate(each) for each in zip(*parts, strict=True)])
    bits, probabilities = (np.stack(each) for each in zip(*found, strict=True))
    return bits, probabilities


def _print(config: DoubtsConfig, dataset: Dataset, doubts: Doubts) -> None:
    """How much each model gets right, any of them, and what they agree on against the labels."""
    console, wafers = Console(), doubts.right.shape[1]
    console.print(f"{dataset.name}, {config.part} part, {wafers:,} wafers", highlight=False)
    shown = Table("", "wafers", "percent", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in shown.columns[1:]:
        column.justify = "right"
    counts = {f"right by {each}": mine.sum() for each, mine in zip(config.model, doubts.right, strict=True)}
    counts["right by at least one"] = doubts.right.any(0).sum()
    counts["one and the same answer by all, against the label"] = len(doubts.rows)
    for name, count in counts.items():
        shown.add_row(name, f"{count:,}", f"{100 * count / wafers:.2f}")
    console.print(shown, highlight=False)
