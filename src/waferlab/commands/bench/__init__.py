"""``waferlab bench``: the speed figures that this project claims, as ratios measured side by side on this machine."""

import os
import platform
import sys
from pathlib import Path
from typing import Literal

from omegaconf import DictConfig
from pydantic import Field
from rich.console import Console
from rich.table import Table

from waferlab.commands.bench.timing import Measurement
from waferlab.experiment.compose import checked
from waferlab.schema import Schema

Suite = Literal[
    "all",
    "training",
    "distillation",
    "precision",
    "detection",
    "aupro",
    "simulator",
    "sweeps",
    "pruning",
    "logging",
    "startup",
    "memory",
    "edge",
]


class BenchConfig(Schema):
    """What to measure, and how long.

    Attributes:
        suite: one of the suites, or all of them.
        maps: simulated maps that students train on; teachers and detectors get a quarter, and `edge` predicts
            each up to 102 times.
        repeats: pairs measured of each comparison.
    """

    suite: Suite
    maps: int = Field(ge=200)
    repeats: int = Field(ge=1)


def run(composed: DictConfig) -> None:
    """Measure as composed on the command line, and print the table."""
    from waferlab.commands.bench.suites import SUITES

    config = checked(BenchConfig, composed)
    console = Console()
    console.print(machine(), highlight=False)
    measured = []
    for name in SUITES if config.suite == "all" else [config.suite]:
        for measurement in SUITES[name](config.maps, config.repeats):
            measured.append(measurement)
            print(f"{name}: {measurement.what} {value(measurement)}", file=sys.stderr)
    console.print(table(measured))


def machine() -> str:
    """One line on what the figures were measured on."""
    import torch

    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    torch_says = f"{torch.get_num_threads()} torch threads, torch {torch.__version__}"
    return f"{_cpu_name()}, {os.cpu_count()} cores, {torch_says}{gpu}"


def table(measured: list[Measurement]) -> Table:
    """Measurements as a table of at most 80 columns."""
    made = Table("what", "reference", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("median (min-max)", "limit"):
        made.add_column(column, justify="right", no_wrap=True)
    made.add_column("")
    for one in measured:
        limit = "" if one.limit is None else f"{'≥' if one.at_least else '≤'} {one.limit:,g}"
        made.add_row(one.what, one.reference, value(one), limit, one.verdict)
    return made


def value(measurement: Measurement) -> str:
    """Median and range, with the unit."""
    low, high = (_number(edge, measurement.median) for edge in (min(measurement.values), max(measurement.values)))
    spread = f" ({low}-{high})" if len(measurement.values) > 1 else ""
    return f"{_number(measurement.median, measurement.median)}{spread} {measurement.unit}".rstrip()


def _number(number: float, beside: float) -> str:
    """As many digits as the number beside it deserves."""
    if 0 < beside < 0.001:
        return f"{number:.0e}"
    return f"{number:,.{2 if beside < 100 else 0}f}"


def _cpu_name() -> str:
    information = Path("/proc/cpuinfo")
    for line in information.read_text().splitlines() if information.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
