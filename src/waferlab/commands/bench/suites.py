"""What this project claims of its speed, measured here; each suite yields lines of the table."""

import os
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from waferlab.commands.bench.process import memory_of_run, seconds_of, seconds_of_command
from waferlab.commands.bench.timing import Measurement, ratios, seconds_to, side_by_side
from waferlab.commands.bench.workload import (
    LiveTeacher,
    Workload,
    bare_epoch,
    lightning_epoch,
    student_workload,
    teacher_workload,
)
from waferlab.data.mixedwm38 import MAPS
from waferlab.data.simulator import simulate
from waferlab.distillation.losses import LogitDistillation, Supervised
from waferlab.models.classifier import predict_logits
from waferlab.tasks.fit import device_of
from waferlab.wafer import DEFECTS, pattern_labels

STUDENTS = ("net1", "net2", "compact")
#: A teacher's epoch has this share of a student's maps: it takes far longer for each.
TEACHER_SHARE = 1 / 4


def training(maps: int, repeats: int) -> Iterator[Measurement]:
    """Throughput of the project's training; the reference is plain PyTorch on the same maps and network."""
    works = {name: student_workload(name, maps) for name in STUDENTS}
    works["teacher"] = teacher_workload(int(maps * TEACHER_SHARE))
    for name, work in works.items():
        values = ratios(partial(bare_epoch, work), partial(lightning_epoch, work, Supervised()), repeats)
        yield Measurement(f"{name}: training speed", "bare PyTorch loop", values, limit=0.9, at_least=True)


def distillation(maps: int, repeats: int) -> Iterator[Measurement]:
    """Time of a student's epoch on cached teacher outputs; a live teacher answers in fp32, and once only."""
    teacher = teacher_workload(int(maps * TEACHER_SHARE)).model().eval()
    for name in STUDENTS:
        work = student_workload(name, maps)
        cached = partial(lightning_epoch, work, LogitDistillation())
        values = ratios(cached, partial(lightning_epoch, work, Supervised()), repeats)
        yield Measurement(f"{name}: distilled epoch", "supervised epoch", values, limit=1.1)
        live = LiveTeacher(work.batches(Supervised()), teacher.to(device_of(work.how.trainer)))
        values = ratios(cached, partial(lightning_epoch, work, LogitDistillation(), live), 1)
        yield Measurement(f"{name}: distilled epoch", "live ResNet-18", values)


def precision(maps: int, repeats: int) -> Iterator[Measurement]:
    """Speed of the teacher in bf16."""
    full, lower = (teacher_workload(int(maps * TEACHER_SHARE), name) for name in ("32-true", "bf16-mixed"))
    loss = Supervised()
    values = ratios(partial(lightning_epoch, full, loss), partial(lightning_epoch, lower, loss), repeats)
    yield Measurement("teacher: bf16 training", "fp32", values)
    values = ratios(partial(_inference, full), partial(_inference, lower), repeats)
    yield Measurement("teacher: bf16 inference", "fp32", values)


def simulator(maps: int, repeats: int) -> Iterator[Measurement]:
    """Maps that the simulator draws in a second, all 38 patterns alike, on all cores."""
    labels = np.resize(pattern_labels(), (maps, len(DEFECTS)))
    simulate(labels[:640])  # warm-up
    values = tuple(maps / seconds_to(partial(simulate, labels)) for _ in range(repeats))
    yield Measurement("simulator, 52x52 dies", f"{os.cpu_count()} threads", values, "maps/s", 10_000, at_least=True)


def startup(_: int, repeats: int) -> Iterator[Measurement]:
    """Seconds until the command line has answered."""
    for question in ("--help", "--cfg job"):
        answer = partial(seconds_of_command, "train", *question.split())
        pairs = side_by_side(answer, partial(seconds_of, "import hydra"), repeats)
        hydra = sorted(reference for _, reference in pairs)[len(pairs) // 2]
        values = tuple(seconds for seconds, _ in pairs)
        yield Measurement(f"waferlab train {question}", f"import hydra {hydra:.2f} s", values, "s", limit=0.8)


def memory(_: int, __: int) -> Iterator[Measurement]:
    """Peak memory of one run on as many maps as MixedWM38 has."""
    values = (memory_of_run(MAPS),)
    yield Measurement(f"peak memory, {MAPS:,} maps", "libraries alone", values, "GB", limit=3)


SUITES: dict[str, Callable[[int, int], Iterator[Measurement]]] = {
    "training": training,
    "distillation": distillation,
    "precision": precision,
    "simulator": simulator,
    "startup": startup,
    "memory": memory,
}


def _inference(work: Workload) -> float:
    model, device = work.model(), device_of(work.how.trainer)
    maps = work.dataset.part("train").maps
    predict_logits(model.to(device), maps[:512], precision=work.how.trainer.precision)  # warm-up
    return seconds_to(partial(predict_logits, model, maps, precision=work.how.trainer.precision))
