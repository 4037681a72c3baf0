"""``waferlab predict``: what a trained model says of every wafer of a data set, as a table, heat maps and pictures."""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from hydra.core.hydra_config import HydraConfig
from numpy.typing import NDArray
from omegaconf import DictConfig
from pydantic import Field
from rich.console import Console

from waferlab.data.dataset import Dataset, Wafers
from waferlab.experiment.compose import checked, note_without_effect
from waferlab.experiment.networks import TrainedModel, require_size
from waferlab.models.anomaly_model import AnomalyModel
from waferlab.models.classifier import Classifier
from waferlab.progress import note, say
from waferlab.schema import Component
from waferlab.tracking.anomaly_figures import overlay
from waferlab.tracking.figures import save
from waferlab.tracking.tracker import Tracker
from waferlab.wafer import NO_DIE, pattern_name

TABLE, HEAT_MAPS, PICTURES = "predictions.csv", "heat_maps.npy", "pictures"


class PredictConfig(TrainedModel):
    """What to predict, and where to write it.

    Attributes:
        dataset: all wafers that the source yields are predicted, whatever their part.
        output: folder of the table and the pictures.
        threshold: score from which on a wafer counts as abnormal, or log odds from which on one has a defect; null for
            the one chosen on validation.
        die_threshold: the same for a die.
        pictures: how many of the wafers with the highest scores are drawn.
    """

    dataset: Component
    output: Path
    threshold: float | None = Field(allow_inf_nan=False)
    die_threshold: float | None = Field(allow_inf_nan=False)
    pictures: int = Field(ge=0)


def run(composed: DictConfig) -> None:
    """Predict as composed on the command line; say what was found and where it was written."""
    config = checked(PredictConfig, composed)
    config.dataset.checked("dataset")
    _, model = config.read(Tracker(config.tracking, config.store))
    say("reading the data")
    dataset: Dataset = config.dataset.build("dataset")
    require_size(model, dataset, f"model={config.model}")  # whatever their labels are, nobody looks at them
    config.output.mkdir(parents=True, exist_ok=True)
    say("predicting")
    if isinstance(model, AnomalyModel):
        written = _detect(model, dataset.wafers, config)
    else:
        overrides = HydraConfig.get().overrides.task
        idle = "die_threshold|pictures" if model.decision else "threshold|die_threshold|pictures"
        note_without_effect(overrides, idle, "this model is a classifier")
        if model.decision is not None and config.threshold is not None:
            model.decision = replace(model.decision, threshold=config.threshold)
        written = _classify(model, dataset, config)
    console = Console()
    for path in written:
        console.print(f"wrote {path}", highlight=False, soft_wrap=True)


def _classify(model: Classifier, dataset: Dataset, config: PredictConfig) -> list[Path]:
    bits, shares = model.answer(dataset.wafers.maps)
    called: Sequence[object] = dataset.names or range(len(bits))
    rows = [
        [name, pattern_name(row, model.classes), *(f"{share:.4f}" for share in each)]
        for name, row, each in zip(called, bits, shares, strict=True)
    ]
    return [_table(config.output, ["image" if dataset.names else "wafer", "pattern", *model.classes], rows)]


def _detect(model: AnomalyModel, wafers: Wafers, config: PredictConfig) -> list[Path]:
    chosen = model.thresholds.tolist()
    threshold = chosen[0] if config.threshold is None else config.threshold
    die_threshold = chosen[1] if config.die_threshold is None else config.die_threshold
    die_maps, scores = model.predict(wafers.maps)
    if empty := int((wafers.maps == NO_DIE).all((1, 2)).sum()):
        note(f"without any die, and so without a score that says anything: {empty:,} of {len(wafers):,} wafers")
    rows: list[list[object]] = [[row, f"{score:.6g}", int(score >= threshold)] for row, score in enumerate(scores)]
    header, written = ["wafer", "score", "abnormal"], []
    if die_maps is not None:
        found = ((die_maps >= die_threshold) & (wafers.maps != NO_DIE)).sum((1, 2))
        header, rows = [*header, "abnormal_dies"], [[*row, int(count)] for row, count in zip(rows, found, strict=True)]
        np.save(heat_maps := config.output / HEAT_MAPS, die_maps)
        written = [heat_maps, *_pictures(config, wafers.maps, die_maps, scores, (threshold, die_threshold))]
    else:
        overrides = HydraConfig.get().overrides.task
        note_without_effect(overrides, "die_threshold|pictures", "this model knows nothing of dies")
    if not np.isfinite(threshold):
        note("this model has no threshold, as its validation wafers were of one kind; give one: threshold=…")
    Console().print(
        f"abnormal, with a score of at least {threshold:.4g}: {(scores >= threshold).sum():,} of {len(wafers):,}",
        highlight=False,
    )
    return [_table(config.output, header, rows), *written]


def _pictures(
    config: PredictConfig,
    maps: NDArray[np.uint8],
    die_maps: NDArray[np.float32],
    scores: NDArray[np.float32],
    thresholds: tuple[float, float],
) -> list[Path]:
    """A file for each of the wafers with the highest scores; the folder, if there are any."""
    highest = np.argsort(-scores, kind="stable")[: config.pictures]
    drawn = {
        f"wafer_{row:06d}": overlay(f"wafer {row}", maps[row], die_maps[row], float(scores[row]), *thresholds)
        for row in highest
    }
    folder = config.output / PICTURES
    for earlier in folder.glob("wafer_*.png"):
        earlier.unlink()
    save(drawn, folder)
    return [folder] if drawn else []


def _table(folder: Path, header: list[str], rows: list[list[object]]) -> Path:
    path = folder / TABLE
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
    return path
