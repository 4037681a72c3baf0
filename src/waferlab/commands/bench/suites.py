"""What this project claims of its speed, measured here; each suite yields lines of the table."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version

import numpy as np

from waferlab.commands.bench.anomaly import (
    JOINT,
    NATIVE,
    PAPER,
    answers_per_second,
    bare_detector_epoch,
    detector_workload,
    lightning_detector_epoch,
)
from waferlab.commands.bench.aupro import (
    all_metrics,
    anomalibs_aupro,
    aupro_by_definition,
    closed_form_aupro,
    simulated_scores,
)
from waferlab.commands.bench.edge import (
    ZOO,
    cost_of_predicting,
    exported,
    many_sizes,
    seconds_in_batches,
    seconds_one_by_one,
    stored,
    student_source,
)
from waferlab.commands.bench.process import memory_of_run, seconds_of, seconds_of_command
from waferlab.commands.bench.pruning import logging_shares, searches
from waferlab.commands.bench.sweeps import idle_share, seconds_between
from waferlab.commands.bench.timing import Measurement, ratios, seconds_to, side_by_side, threads
from waferlab.commands.bench.workload import (
    LiveTeacher,
    Workload,
    bare_epoch,
    lightning_epoch,
    student_workload,
    teacher_workload,
)
from waferlab.data.mixedwm38 import MAPS
from waferlab.data.ragged import RaggedMaps
from waferlab.data.simulator import simulate
from waferlab.distillation.losses import LogitDistillation, Supervised
from waferlab.errors import WaferlabError
from waferlab.formats.block import WAFERS_AT_ONCE
from waferlab.models.classifier import predict_logits
from waferlab.models.inference import Precision, hasten
from waferlab.progress import note
from waferlab.tasks.fit import device_of
from waferlab.wafer import DEFECTS, pattern_labels

STUDENTS = ("net1", "net2", "compact")
#: A teacher's epoch has this share of a student's maps, and so has a detector's: it takes far longer for each.
TEACHER_SHARE = 1 / 4
DETECTORS = {"detector": (), "dual detector": JOINT}
#: Maps per second of the published detector (Hasan, Yu and Khan Mirani, IEEE TSM 37(3), 2024).
PAPERS_SPEED = 3.204
#: So many maps a detector answers in one call.
DETECTED = 256
#: So many trials a timed sweep has.
TRIALS = 40
#: So many a search has, each of so many epochs.
SEARCHED, SEARCH_EPOCHS = 24, 12
#: So many epochs of a student take about two minutes.
LOGGED_EPOCHS = 120
#: As many maps as WM-811K has are predicted at most, and at most so many for each simulated one.
WM811K, COPIES = 811_457, 102


def training(maps: int, repeats: int) -> Iterator[Measurement]:
    """Throughput of the project's training; the reference is plain PyTorch on the same maps and network."""
    works = {name: student_workload(name, maps) for name in STUDENTS}
    works["teacher"] = teacher_workload(int(maps * TEACHER_SHARE))
    for name, work in works.items():
        values = ratios(partial(bare_epoch, work), partial(lightning_epoch, work, Supervised()), repeats)
        yield Measurement(f"{name}: training speed", "bare PyTorch loop", values, limit=0.9, at_least=True)
    for name, overrides in DETECTORS.items():
        detector = detector_workload(int(maps * TEACHER_SHARE), *overrides)
        ours = partial(lightning_detector_epoch, detector, detector.batches())
        pairs = side_by_side(partial(bare_detector_epoch, detector), ours, repeats)
        values = tuple(bare.steps / our.steps for bare, our in pairs)
        yield Measurement(f"{name}: training speed", "bare PyTorch loop", values, limit=0.9, at_least=True)
        values = tuple(bare.whole / our.whole for bare, our in pairs)
        yield Measurement(f"{name}: with metrics", "bare without metrics", values)


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
    detector = detector_workload(int(maps * TEACHER_SHARE))
    with_cache, without = (partial(lightning_detector_epoch, detector, detector.batches(so)) for so in (True, False))
    values = tuple(one.whole / other.whole for one, other in side_by_side(with_cache, without, repeats))
    yield Measurement("detector: distilled epoch", "live teacher", values)


def precision(maps: int, repeats: int) -> Iterator[Measurement]:
    """Speed of the teacher in bf16."""
    full, lower = (teacher_workload(int(maps * TEACHER_SHARE), name) for name in ("32-true", "bf16-mixed"))
    loss = Supervised()
    values = ratios(partial(lightning_epoch, full, loss), partial(lightning_epoch, lower, loss), repeats)
    yield Measurement("teacher: bf16 training", "fp32", values)
    values = ratios(partial(_inference, full), partial(_inference, lower), repeats)
    yield Measurement("teacher: bf16 inference", "fp32", values)


def detection(_: int, repeats: int) -> Iterator[Measurement]:
    """Maps that a detector answers in a second on two cores: teacher, attention, student and scores."""
    rows: tuple[tuple[str, Sequence[str], Precision, bool], ...] = (
        ("256x256", PAPER, "32-true", False),
        ("256x256, bf16", PAPER, "bf16-mixed", False),
        ("256x256, compiled", PAPER, "32-true", True),
        ("256x256, bf16, compiled", PAPER, "bf16-mixed", True),
        ("52x52", (*PAPER, NATIVE), "32-true", False),
        ("default, 52x52", (), "32-true", False),
    )
    for name, overrides, precision, compiled in rows:
        work = detector_workload(DETECTED, *overrides)
        detector = work.detector().cpu()
        hasten(detector, precision, compiled)
        with threads(2):
            values = tuple(answers_per_second(detector, work.dataset.wafers.maps) for _ in range(repeats))
        limit = 10 * PAPERS_SPEED if overrides == PAPER else None
        yield Measurement(name, f"paper: {PAPERS_SPEED}", values, "maps/s", limit, at_least=True)


def aupro(maps: int, repeats: int) -> Iterator[Measurement]:
    """The area under the per-region overlap: its time beside anomalib's, and its distance from the definition."""
    many, few = simulated_scores(maps // 8), simulated_scores(max(maps // 400, 2))
    for what, scored in (("AUPRO", few), ("AUPRO, ties", many.rounded())):
        error = abs(closed_form_aupro(scored) - aupro_by_definition(scored))
        yield Measurement(f"{what}: error", f"definition, {len(scored.masks)} maps", (error,), limit=1e-6)
    try:
        error = abs(anomalibs_aupro(few) - aupro_by_definition(few))
    except WaferlabError as missing:
        note(str(missing))
        return
    anomalib = f"anomalib {version('anomalib')}"
    yield Measurement(f"{anomalib}: error", f"definition, {len(few.masks)} maps", (error,))
    theirs = partial(seconds_to, partial(anomalibs_aupro, many))
    values = ratios(theirs, partial(seconds_to, partial(closed_form_aupro, many)), repeats)
    yield Measurement("AUPRO: speed", anomalib, values, limit=5, at_least=True)
    values = ratios(theirs, partial(seconds_to, partial(all_metrics, many)), repeats)
    yield Measurement("all metrics: speed", f"{anomalib}'s AUPRO", values)


def simulator(maps: int, repeats: int) -> Iterator[Measurement]:
    """Maps that the simulator draws in a second, all 38 patterns alike, on all cores."""
    labels = np.resize(pattern_labels(), (maps, len(DEFECTS)))
    simulate(labels[:640])  # warm-up
    values = tuple(maps / seconds_to(partial(simulate, labels)) for _ in range(repeats))
    yield Measurement("simulator, 52x52 dies", f"{os.cpu_count()} threads", values, "maps/s", 10_000, at_least=True)


def sweeps(_: int, repeats: int) -> Iterator[Measurement]:
    """What the sweeper adds to each of Hydra's jobs, and the time that its workers wait."""
    between = [seconds_between(TRIALS) for _ in range(repeats)]
    theirs = 1000 * sum(hydra for _, hydra in between) / repeats
    values = tuple(1000 * (ours - hydra) for ours, hydra in between)
    yield Measurement("sweeper, a trial", f"beyond Hydra's {theirs:.0f} ms", values, "ms", 50)
    values = tuple(100 * idle_share(TRIALS, workers=4) for _ in range(repeats))
    yield Measurement("four workers: idle", "trials of 2 to 8 s", values, "%", 5)


def pruning(maps: int, repeats: int) -> Iterator[Measurement]:
    """What pruning saves of a search on a cached teacher's answers, and what it costs in the result."""
    found = [searches(maps, SEARCHED, SEARCH_EPOCHS, seed) for seed in range(repeats)]
    what = f"{SEARCHED} pruned trials"
    yield Measurement(what, "as many whole ones", tuple(one.pruned / one.whole for one in found), "", 2 / 3)
    values = tuple(one.pruned / (one.teacher + one.whole) for one in found)
    yield Measurement(what, "teacher, as many whole ones", values)
    values = tuple(100 * (one.best_of_whole - one.best_of_pruned) for one in found)
    yield Measurement("best of them: worse by", "best of whole ones", values, "points", 1)


def logging(maps: int, repeats: int) -> Iterator[Measurement]:
    """What writing to MLflow takes of a training of about two minutes, and its model's export at the end."""
    found = [logging_shares(maps, LOGGED_EPOCHS) for _ in range(repeats)]
    seconds = sum(whole for whole, _, _ in found) / repeats
    run = f"a run of {seconds:.0f} s"
    yield Measurement("logging to MLflow", run, tuple(100 * writing for _, writing, _ in found), "%", 3)
    yield Measurement("model's export to ONNX", run, tuple(100 * exporting for _, _, exporting in found), "%")


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


def edge(maps: int, repeats: int) -> Iterator[Measurement]:
    """Exported models: what a process that predicts takes, for few maps and for many, and a small student's speed."""
    simulated = many_sizes(maps)
    yield from _few_maps(simulated, repeats)
    yield from _small_student(maps, repeats)
    yield from _many_maps(simulated, repeats)


SUITES: dict[str, Callable[[int, int], Iterator[Measurement]]] = {
    "training": training,
    "distillation": distillation,
    "precision": precision,
    "detection": detection,
    "aupro": aupro,
    "simulator": simulator,
    "sweeps": sweeps,
    "pruning": pruning,
    "logging": logging,
    "startup": startup,
    "memory": memory,
    "edge": edge,
}


def _few_maps(maps: RaggedMaps, repeats: int) -> Iterator[Measurement]:
    count = min(len(maps), WAFERS_AT_ONCE)
    with stored(maps, 1) as one, stored(maps, count) as some:
        pairs = side_by_side(partial(cost_of_predicting, one), partial(cost_of_predicting, some), repeats)
    yield Measurement("predict: one map", ZOO, tuple(least.seconds for least, _ in pairs), "s", limit=1)
    values = tuple(more.megabytes for _, more in pairs)
    yield Measurement("predict: peak", f"{count:,} maps", values, "MB", limit=120)


def _small_student(maps: int, repeats: int) -> Iterator[Measurement]:
    source, shown = student_source(maps)
    student, plain, int8 = (exported(source, name) for name in ("onnx-int8-weights", "onnx", "onnx-int8"))
    values = tuple(maps / seconds_in_batches(student, shown) for _ in range(repeats))
    yield Measurement("21 KB: in batches", "one thread", values, "maps/s", limit=20_000, at_least=True)
    values = tuple(1000 * seconds_one_by_one(student, shown) / maps for _ in range(repeats))
    yield Measurement("21 KB: one map", "one thread", values, "ms", limit=0.2)
    values = ratios(partial(seconds_in_batches, plain, shown), partial(seconds_in_batches, int8, shown), repeats)
    yield Measurement("21 KB: int8 speed", "fp32", values)


def _many_maps(maps: RaggedMaps, repeats: int) -> Iterator[Measurement]:
    count = min(WM811K, COPIES * len(maps))
    with stored(maps, count) as whole, stored(maps, count // 10) as tenth:
        pairs = side_by_side(partial(cost_of_predicting, whole), partial(cost_of_predicting, tenth), repeats)
    most, peak, growth = (120, 120, 1.2) if count == WM811K else (None, None, None)  # claimed of as many
    what = f"{count:,} maps"
    yield Measurement("predict: time", what, tuple(many.seconds for many, _ in pairs), "s", most)
    yield Measurement("predict: peak", what, tuple(many.megabytes for many, _ in pairs), "MB", peak)
    values = tuple(many.megabytes / few.megabytes for many, few in pairs)
    yield Measurement("predict: memory", "for a tenth", values, "", growth)


def _inference(work: Workload) -> float:
    model, device = work.model(), device_of(work.how.trainer)
    maps = work.dataset.part("train").maps
    predict_logits(model.to(device), maps[:512], precision=work.how.trainer.precision)  # warm-up
    return seconds_to(partial(predict_logits, model, maps, precision=work.how.trainer.precision))
