"""WM-811K at its full size: a file of 811,457 made-up wafers in the public layout is read in time and in memory.

It writes 4.5 GB to pytest's folder for temporary files and takes some minutes, so it runs only if it is asked for, and
on Linux, which says how much memory a process held:

    WAFERLAB_SCALE=1 pytest tests/data/test_wm811k_scale.py -s

What it prints are the measurements, and how busy the machine was at the time.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from old_pickle import Raw, pieces, plain

from waferlab.wafer import FAIL, NO_DIE, PASS

ROWS, LOTS, SHAPES = 811_457, 46_000, 632
CLASSES = {
    "none": 147_431,
    "Edge-Ring": 9_680,
    "Edge-Loc": 5_189,
    "Center": 4_294,
    "Loc": 3_593,
    "Scratch": 1_193,
    "Random": 866,
    "Donut": 555,
    "Near-full": 149,
}
LABELLED = sum(CLASSES.values())

#: Loads the file in a process of its own, which says how long it took and the most memory that it held.
LOAD = """
import json, re, sys, time
from pathlib import Path
from waferlab.data import wm811k
start = time.monotonic()
dataset = wm811k.load(*sys.argv[1:])
seconds = time.monotonic() - start
most = re.search("VmHWM:(.*)kB", Path("/proc/self/status").read_text())
gigabytes = int(most[1]) * 1024 / 1e9
labels = dict(zip(dataset.classes, dataset.wafers.labels.sum(0).tolist()))
print(json.dumps({"seconds": seconds, "gigabytes": gigabytes, "maps": len(dataset.wafers), "labels": labels}))
"""


pytestmark = pytest.mark.skipif("WAFERLAB_SCALE" not in os.environ, reason="takes minutes; set WAFERLAB_SCALE=1")


def write(file: Path) -> None:
    """As many wafers, lots, sizes and labels as the public file has; only what the maps show is made up."""
    random = np.random.Generator(np.random.PCG64(0))
    lots = np.arange(ROWS) * LOTS // ROWS
    names = np.repeat([*CLASSES, ""], [*CLASSES.values(), ROWS - LABELLED])
    random.shuffle(names)
    sides = np.where(names == "", "", np.where(lots < 0.3 * LOTS, "Training", "Test"))
    nested = {name: Raw(plain(np.array([[name]]) if name else np.zeros((0, 0)))) for name in {*names, *sides}}
    columns = {
        "waferMap": maps(random, lots),
        "dieSize": np.zeros(ROWS),
        "lotName": (f"lot{lot + 1}" for lot in lots),
        "waferIndex": np.arange(ROWS) % 25 + 1.0,
        "trianTestLabel": (nested[side] for side in sides),
        "failureType": (nested[name] for name in names),
    }
    with file.open("wb") as stream:
        for piece in pieces(columns, ROWS):
            stream.write(piece)


def maps(random: np.random.Generator, lots: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
    """Discs of dies that fail independently; a lot's wafers have one size, and few sizes, small ones, are frequent.

    The median map has places for about 1,600 dies, the mean for 2,250, the largest for 27,000.
    """
    across = np.clip(np.exp(random.normal(np.log(26), 0.6, 4 * SHAPES)), 22, 210)
    aspect = np.exp(random.normal(0, 0.06, 4 * SHAPES))
    sizes = np.unique(np.stack([across * aspect, across / aspect], 1).round().astype(int), axis=0)
    sizes = random.permutation(sizes)[:SHAPES]
    often = 1 / np.arange(3, SHAPES + 3) / np.sqrt(sizes.prod(1))
    for wafers in np.bincount(lots):
        height, width = sizes[random.choice(SHAPES, p=often / often.sum())]
        y, x = np.indices((height, width))
        disc = ((y + 0.5) / height - 0.5) ** 2 + ((x + 0.5) / width - 0.5) ** 2 < 0.25
        fails = random.integers(0, 256, (wafers, height, width), np.uint8) < random.integers(8, 100, (wafers, 1, 1))
        yield from np.where(disc, np.where(fails, np.uint8(FAIL), np.uint8(PASS)), np.uint8(NO_DIE))


class Start(NamedTuple):
    """What one start took, and found."""

    seconds: float
    gigabytes: float
    maps: int
    labels: dict[str, int]
    said: str


def start(file: Path) -> Start:
    command = [sys.executable, "-c", LOAD, str(file), str(file.parent / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    made = Start(**json.loads(done.stdout), said=done.stderr)
    busy = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    print(f"\n{made.seconds:.2f} s, {made.gigabytes:.2f} GB; load averages of the machine {busy}\n{made.said}")
    return made


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Start]]:
    """The first and the second start with one file."""
    folder = tmp_path_factory.mktemp("scale")
    write(folder / "LSWMD.pkl")
    yield [start(folder / "LSWMD.pkl") for _ in range(2)]
    shutil.rmtree(folder)


def test_every_labelled_map_is_there_at_each_start(starts: list[Start]) -> None:
    for each in starts:
        assert each.maps == LABELLED
        assert each.labels == {name: count for name, count in CLASSES.items() if name != "none"}


def test_the_first_start_takes_less_than_three_minutes_and_six_gigabytes(starts: list[Start]) -> None:
    assert starts[0].seconds < 180
    assert starts[0].gigabytes < 6


def test_the_first_start_shows_its_progress(starts: list[Start]) -> None:
    for what in ("reading LSWMD.pkl", "writing maps: 811457/811457", "resizing maps to 52x52: 172950/172950"):
        assert what in starts[0].said


def test_the_second_start_takes_less_than_a_second_and_says_nothing(starts: list[Start]) -> None:
    assert starts[1].seconds < 1
    assert starts[1].said == ""
