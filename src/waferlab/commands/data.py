"""``waferlab data``: what a data set holds, and how it is split."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
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
    """Print the facts of a data set, and a row for every pattern, or class of images."""
    dataset: Dataset = checked(DataConfig, composed).dataset.build("dataset")
    wafers, console = dataset.wafers, Console()
    height, width, *channels = wafers.maps.shape[1:]
    what = (
        f"images of {height}x{width} pixels and {channels[0]} channels"
        if channels
        else f"maps of {height}x{width} dies"
    )
    console.print(f"{dataset.name}: {len(wafers):,} {what}", highlight=False)
    for name, fact in ({"fingerprint": dataset.fingerprint} | dataset.facts).items():
        console.print(f"  {name}: {fact}", highlight=False)
    console.print(_patterns(dataset))


def _patterns(dataset: Dataset) -> Table:
    wafers = dataset.wafers
    rows, which = np.unique(wafers.labels, axis=0, return_inverse=True)
    table = Table("class" if wafers.are_images else "pattern", *PARTS, "left out")
    fails = None if wafers.are_images else _failing(wafers.maps)
    if fails is not None:
        table.add_column("failing dies")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in pattern_order(rows):
        mine = which.ravel() == row
        cells = [f"{(dataset.split[mine] == side).sum()}" for side in (0, 1, 2, -1)]
        if fails is not None:
            cells.append(f"{100 * np.median(fails[mine]):.1f} %")
        table.add_row(pattern_name(rows[row], wafers.classes) if wafers.classes else "without a label", *cells)
    return table


def _failing(maps: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(N,) share of each map's dies."""
    share: NDArray[np.float64] = (maps == FAIL).sum((1, 2)) / np.maximum((maps != NO_DIE).sum((1, 2)), 1)
    return share
