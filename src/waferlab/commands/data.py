"""``waferlab data``: what a data set holds, and how it is split."""

from pathlib import Path

import numpy as np
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from waferlab.data.dataset import PARTS, Dataset
from waferlab.experiment.compose import checked
from waferlab.schema import Component, Schema
from waferlab.wafer import FAIL, NO_DIE, pattern_name, pattern_order


class DataConfig(Schema):
    """Which data set to describe.

    Attributes:
        store: where a data set may keep what it made of its file.
    """

    dataset: Component
    store: Path


def run(composed: DictConfig) -> None:
    """Print the facts of a data set, and a row for every pattern."""
    dataset: Dataset = checked(DataConfig, composed).dataset.build("dataset")
    wafers, console = dataset.wafers, Console()
    console.print(f"{dataset.name}: {len(wafers):,} maps of {wafers.size[0]}x{wafers.size[1]} dies", highlight=False)
    for name, fact in ({"fingerprint": dataset.fingerprint} | dataset.facts).items():
        console.print(f"  {name}: {fact}", highlight=False)
    console.print(_patterns(dataset))


def _patterns(dataset: Dataset) -> Table:
    wafers = dataset.wafers
    rows, which = np.unique(wafers.labels, axis=0, return_inverse=True)
    fails = (wafers.maps == FAIL).sum((1, 2)) / np.maximum((wafers.maps != NO_DIE).sum((1, 2)), 1)
    table = Table("pattern", *(f"{part}" for part in (*PARTS, "left out", "failing dies")))
    for column in table.columns[1:]:
        column.justify = "right"
    for row in pattern_order(rows):
        mine = which.ravel() == row
        counts = [int((dataset.split[mine] == side).sum()) for side in (0, 1, 2, -1)]
        name = pattern_name(rows[row], wafers.classes)
        table.add_row(name, *map(str, counts), f"{100 * np.median(fails[mine]):.1f} %")
    return table
