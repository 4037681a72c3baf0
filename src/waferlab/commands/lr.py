"""``waferlab lr``: which learning rate a training of transfer learning bears, tested in some minutes."""

import tempfile
from pathlib import Path

import numpy as np
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.loggers.logger import DummyLogger
from matplotlib.figure import Figure
from omegaconf import DictConfig
from pydantic import Field
from rich.console import Console

from waferlab.config import FitConfig, TransferConfig
from waferlab.errors import ConfigError
from waferlab.experiment.begin import Begun
from waferlab.experiment.compose import checked, command_line
from waferlab.experiment.transfer import at_rate, fitting, phases, prepare
from waferlab.models.classifier import Classifier
from waferlab.schema import Schema
from waferlab.tasks.fit import fit
from waferlab.tasks.rate_finder import RateTest, rates_tested
from waferlab.tracking.figures import BLUE, VERMILION, save


class Search(Schema):
    """Which rates are tested, in how many steps."""

    lowest: float = Field(gt=0)
    highest: float = Field(gt=0)
    steps: int = Field(ge=10)


class LrConfig(TransferConfig):
    """A training whose rates are looked for."""

    search: Search


def run(composed: DictConfig) -> None:
    """Test the rates of each phase, say what they suggest, and draw them.

    The head is trained at the rate found for it before those of the whole network are tested, as they follow a head
    that knows something.

    Raises:
        ConfigError: the configuration is wrong.
    """
    if composed.task.name != "transfer":
        raise ConfigError(f"waferlab lr tests the rates of task=transfer, not of task={composed.task.name}")
    config = checked(LrConfig, composed)
    begun, model = prepare(config, command_line("lr", HydraConfig.get().overrides.task))
    drawn, console = {}, Console()
    for name, how in phases(config).items():
        task, train, _ = fitting(config, model, begun, how, head_only=name == "head")
        found = rates_tested(task, train, how.trainer, config.search.lowest, config.search.highest, config.search.steps)
        key = "finetuning.head_lr" if name == "head" else "optimizer.lr"
        said = "no rate stands out" if found.suggested is None else f"{key}={found.suggested:.1e}"
        console.print(f"{name:<5} {said}", highlight=False)
        drawn[f"lr_{name}"] = rate_curve(found, name)
        if name == "head" and config.finetuning.body:
            _train_head(config, model, begun, at_rate(how, found.suggested or how.lr))
    for file in save(drawn, config.store):
        console.print(f"wrote {file}", highlight=False, soft_wrap=True)


def _train_head(config: LrConfig, model: Classifier, begun: Begun, how: FitConfig) -> None:
    task, train, val = fitting(config, model, begun, how, head_only=True)
    with tempfile.TemporaryDirectory() as folder:
        fit(task, train, val, how.trainer, Path(folder), "head", DummyLogger())


def rate_curve(found: RateTest, phase: str) -> Figure:
    """The loss against the rate, with the suggestion."""
    figure = Figure(figsize=(6.5, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(found.rates, found.losses, color=BLUE)
    if found.suggested is not None:
        at = int(np.argmin(np.abs(np.array(found.rates) - found.suggested)))
        label = f"falls fastest at {found.suggested:.1e}"
        axes.plot(found.suggested, found.losses[at], "o", color=VERMILION, markersize=8, label=label)
        axes.legend(frameon=False)
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss, smoothed")
    axes.grid(alpha=0.3)
    figure.suptitle(f"Learning rates of the {phase}")
    return figure
