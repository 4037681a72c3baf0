"""Prediction beside the tool: whole commands in processes of their own, and a student's file in one thread."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from waferlab.commands.bench.process import output_of, require_peak
from waferlab.commands.bench.timing import seconds_to
from waferlab.commands.bench.workload import student_workload
from waferlab.config import MixedTypeConfig
from waferlab.data.ragged import RaggedMaps
from waferlab.deploy.formats import FORMATS, Name, Source
from waferlab.deploy.peak import PEAK
from waferlab.edge.model import OnnxModel
from waferlab.experiment.compose import checked, compose_overrides
from waferlab.formats import store
from waferlab.formats.block import WAFERS_AT_ONCE, Block
from waferlab.models.card import card_of

ZOO = "zoo/mixed"
#: The student of 21 KB, with weights in int8.
STUDENT = {"width": 16, "depths": (2, 3, 3)}
#: Maps that show its batch norms, and its int8 form, which values occur.
SHOWN = 256
_PREDICT = f"""{PEAK}
import sys
from waferlab.cli import main

if code := main(["predict", *sys.argv[1:]]):
    raise SystemExit(code)
if heavy := {{"torch", "hydra"}} & set(sys.modules):
    raise SystemExit(f"predicting took {{', '.join(sorted(heavy))}}")
print(peak())
"""


class Cost(NamedTuple):
    """What a process took, from its start to its end: seconds, and resident memory in MB (1e6 bytes) at its peak."""

    seconds: float
    megabytes: float


def cost_of_predicting(maps: Path) -> Cost:
    """What ``waferlab predict`` with a model of the zoo takes for all maps of a file, without torch and Hydra.

    Raises:
        WaferlabError: it fails, or this system doesn't say how much memory a process took (Linux does).
    """
    require_peak("edge")
    said = list[str]()
    with tempfile.TemporaryDirectory() as folder:
        arguments = (f"model={ZOO}", f"input={maps}", f"output={Path(folder, 'found.csv')}")
        seconds = seconds_to(lambda: said.append(output_of(_PREDICT, *arguments)))
    return Cost(seconds, int(said[0].splitlines()[-1]) * 1024 / 1e6)


def many_sizes(maps: int) -> RaggedMaps:
    """Simulated maps of the sizes that WM-811K has most of."""
    config = checked(MixedTypeConfig, compose_overrides("train", ["dataset=many_sizes", f"dataset.maps={maps}"]))
    native = config.dataset.build("dataset").wafers.native
    assert isinstance(native, RaggedMaps)
    return native


@contextmanager
def stored(maps: RaggedMaps, count: int) -> Iterator[Path]:
    """A compact store of so many maps, the given ones again and again, for as long as it is used."""

    def block(start: int) -> Block:
        rows = np.arange(start, min(start + WAFERS_AT_ONCE, count))
        return Block([str(row) for row in rows], maps.only(rows % len(maps)))

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "maps")
        store.write(map(block, range(0, count, WAFERS_AT_ONCE)), path)
        yield path


def student_source(maps: int) -> tuple[Source, NDArray[np.uint8]]:
    """The student of 21 KB, untrained, with the statistics of simulated maps; and so many maps of its size."""
    work = student_workload("compact", maps)
    model = replace(work, network=work.network.model_copy(update=STUDENT)).model()
    shown = np.asarray(work.dataset.part("train").maps[:SHOWN])
    with torch.no_grad():
        model.train()(torch.from_numpy(shown))
    fused = model.eval().fused()
    return Source(fused, card_of(fused), shown), np.asarray(work.dataset.wafers.maps)


def exported(source: Source, name: Name) -> OnnxModel:
    """The model as a file of this format, in one thread."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"student{FORMATS[name].suffix}")
        path.write_bytes(FORMATS[name].make(source))
        return OnnxModel(path)


def seconds_in_batches(model: OnnxModel, maps: NDArray[np.uint8]) -> float:
    """Seconds to answer all maps, in such batches as the model makes of them."""
    model.answer(maps[:SHOWN])  # warm-up
    return seconds_to(partial(model.answer, maps))


def seconds_one_by_one(model: OnnxModel, maps: NDArray[np.uint8]) -> float:
    """Seconds to answer all maps, each by itself."""
    model.answer(maps[:1])  # warm-up
    return seconds_to(lambda: [model.answer(maps[row : row + 1]) for row in range(len(maps))])
