"""``waferlab export``: a trained model as a file of kilobytes that predicts elsewhere, checked against the model."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from pydantic import Field, model_validator
from rich.console import Console
from rich.table import Table

from waferlab.config import TrackingConfig
from waferlab.data.dataset import TAUGHT, Dataset
from waferlab.deploy.check import Measured, Tolerance, exported, right_if_turned
from waferlab.deploy.formats import FORMATS, Name, Source
from waferlab.deploy.judge import SHARES, judged
from waferlab.errors import ConfigError
from waferlab.experiment.begin import read_dataset
from waferlab.experiment.compose import checked, command_line
from waferlab.experiment.kept import kept_config, sizing, sizing_of
from waferlab.experiment.networks import TrainedModel, labelled_for, require_match
from waferlab.experiment.teachers import dataset_tags
from waferlab.models.anomaly_model import AnomalyModel
from waferlab.models.card import card_of
from waferlab.models.classifier import Classifier
from waferlab.progress import say
from waferlab.schema import Component, Schema
from waferlab.tracking.run import EVALUATION, STUDY
from waferlab.tracking.tracker import Tracker
from waferlab.whole_file import write_whole

#: Points by which a model that knows every orientation may do worse on turned wafers.
_SAME_IF_TURNED: Final = 1.0


class ExportConfig(Schema):
    """What to export, and to what.

    Attributes:
        run, model: a finished model: an MLflow run id, a registered model, or a model file; `model` is what counts.
        format: name in `waferlab.deploy.formats.FORMATS`.
        output: the file, or None for one in the folder ``exported`` that is called by the model and the format.
        dataset: whose validation part it is checked on, or None for the one that the run was trained on.
        calibration: number of training maps that show which values occur.
        most_difference, most_loss, most_disagreement: as in `waferlab.deploy.check.Tolerance`.
        test: judge the file on the test part, too, as an MLflow run beside those of the model's study.
        modules: of your own networks, imported before the model is read.
        tracking, store: where runs lie.
    """

    run: str | None
    model: str
    format: Name
    output: Path | None
    dataset: Component | None = None
    calibration: int = Field(ge=1)
    most_difference: float = Field(ge=0)
    most_loss: float = Field(ge=0)
    most_disagreement: float = Field(ge=0)
    test: bool
    modules: list[str]
    tracking: TrackingConfig
    store: Path

    @model_validator(mode="before")
    @classmethod
    def _names_a_model(cls, values: dict[str, Any]) -> dict[str, Any]:
        if not values.get("model"):
            raise ValueError("run: which model? Give the id of an MLflow run, a registered model, or a model file")
        return values


def run(composed: DictConfig) -> None:
    """Export as composed on the command line, and print what the file came to.

    Raises:
        ConfigError: the configuration doesn't fit, or a package is missing.
        WaferlabError: the model or its data can't be read, it has no such form, or the file is out of tolerance.
    """
    config = checked(ExportConfig, composed)
    file_format = FORMATS[config.format]
    file_format.require()
    if config.dataset is not None:
        config.dataset.checked("dataset")
    tracker = Tracker(config.tracking, config.store)
    trained = _trained(config)
    file, model = trained.read(tracker)
    run_id = trained.run_id(tracker)
    output = config.output or _usual_output(config, run_id or file.stem)
    if output.suffix != file_format.suffix:
        raise ConfigError(f"output={output}: a file of format={config.format} ends in {file_format.suffix}")
    say("reading the data")
    dataset = _dataset(config, model, run_id, tracker)
    require_match(model, dataset, f"model={config.model}")
    if config.test:
        dataset.require("test")
    source, val = _source(config, model, dataset, run_id, tracker), dataset.part("val")
    say("exporting, and checking what was exported")
    tolerance = Tolerance(config.most_difference, config.most_loss, config.most_disagreement)
    content, rows = exported(source, config.format, file.stat().st_size, val, tolerance)
    write_whole(output, content)
    _print(rows, len(val), output, right_if_turned(content, config.format, source, val))
    if config.test:
        _log(config, judged(content, config.format, source, dataset.part("test")), dataset, run_id, tracker)


def _trained(config: ExportConfig) -> TrainedModel:
    return TrainedModel(
        model=config.model, modules=config.modules, precision="32-true", compile=False, tracking=config.tracking,
        store=config.store,
    )  # fmt: skip


def _dataset(config: ExportConfig, model: Classifier | AnomalyModel, run_id: str | None, tracker: Tracker) -> Dataset:
    """The data set that is given, or the run's, with labels as the model has them."""
    if config.dataset is not None:
        dataset: Dataset = config.dataset.build("dataset")
    elif run_id is not None:
        kept = kept_config(run_id, tracker)
        dataset = read_dataset(kept.dataset, "dataset", kept.withhold)
    else:
        raise ConfigError("dataset: a model file doesn't say what it was trained on; give its data: dataset=…")
    return labelled_for(model, dataset)


def _source(
    config: ExportConfig, model: Classifier | AnomalyModel, dataset: Dataset, run_id: str | None, tracker: Tracker
) -> Source:
    """The model with its card, and some training maps, spread evenly, where the format looks at any."""
    calibrates = FORMATS[config.format].calibrates
    dataset.require("val", *(("train",) if calibrates else ()))
    maps = dataset.part(*TAUGHT if calibrates else ("val",)).maps
    given: dict[str, Any] = {} if dataset.wafers.native is None else {"resize": dataset.wafers.resize}
    given |= sizing(config.dataset) if config.dataset else {}
    given |= sizing_of(run_id, tracker) if run_id else {}
    some = np.asarray(maps[:: -(-len(maps) // config.calibration)])
    return Source(model, card_of(model, run_id, **given), some)


def _log(
    config: ExportConfig, found: Mapping[str, float], dataset: Dataset, run_id: str | None, tracker: Tracker
) -> None:
    """As an evaluation of the model: an arm of its own, called by the model's and the format."""
    trained = tracker.find(run_id) if run_id else None
    of_study = {tag: value for tag, value in trained.data.tags.items() if tag in STUDY} if trained else {}
    if "arm" in of_study:
        of_study["arm"] += f" {config.format}"
    command = command_line("export", HydraConfig.get().overrides.task)
    tags = {"role": EVALUATION, "model": run_id or config.model, "command": command, **dataset_tags(dataset)}
    with tracker.run(f"export {config.format}", {**tags, **of_study, **config.tracking.tags}) as opened:
        opened.parameters(config.model_dump(mode="json", by_alias=True))
        opened.metrics({f"test/model/{name}": value for name, value in found.items()})
    right = ", ".join(f"{name} {100 * found[name]:.2f}" for name in SHARES if name in found)
    print(f"test part, percent: {right.replace('_', ' ')}\nrun      {opened.id}")


def _usual_output(config: ExportConfig, stem: str) -> Path:
    _, dash, kind = config.format.partition("-")
    return Path("exported") / f"{stem}{dash}{kind}{FORMATS[config.format].suffix}"


def _print(rows: list[Measured], wafers: int, output: Path, turned: Mapping[str, float]) -> None:
    """What the original and the file came to, where the file is, and what to do with it.

    Args:
        turned: what is right of wafers that lie differently.
    """
    console = Console()
    title = f"validation part, {wafers:,} wafers; percent; one thread"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    for head in (*rows[0].right, "agree", "differs", "bytes", "maps/s", "ms/map"):
        table.add_column(head, justify="right")
    for row in rows:
        right = [f"{share:.2f}" for share in row.right.values()]
        compared = ["", ""] if row is rows[0] else [f"{row.agreement:.2f}", f"{row.difference:.2g}"]
        speed = [f"{row.maps_per_second:,.0f}", f"{row.milliseconds:.3f}"]
        table.add_row(row.name, *right, *compared, f"{row.bytes:,}", *speed)
    console.print(table)
    if len(rows) > 2:
        console.print(_of_speed(rows[-1], rows[-2]), highlight=False)
    for name, share in turned.items():
        console.print(_of_orientation(name, rows[-1].right[name], share), highlight=False)
    console.print(f"wrote {output}\n", highlight=False, soft_wrap=True)
    if output.suffix == FORMATS["onnx"].suffix:
        command = shlex.join(["waferlab", "predict", f"model={output}"])
        console.print(f"{'next':<8} {command} input=… output=…", highlight=False, soft_wrap=True, markup=False)


def _of_orientation(name: str, right: float, turned: float) -> str:
    """Whether the file needs wafers that lie as those that it has learnt from."""
    said = f"turned wafers: {name} {turned:.2f}"
    if right - turned <= _SAME_IF_TURNED:
        return said
    return f"{said}; it knows wafers as they lay in training (trainer.augment=true teaches every orientation)"


def _of_speed(int8: Measured, plain: Measured) -> str:
    """Whether int8 is faster on this machine."""
    batches, single = int8.maps_per_second / plain.maps_per_second, plain.milliseconds / int8.milliseconds
    return f"{int8.name} against {plain.name}: {batches:.2f} times as fast in batches, {single:.2f} for one map"
