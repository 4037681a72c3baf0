"""The benchmark on tiny sizes: it measures what it says. How fast anything is, no test asserts."""

import sys

import pytest
import torch
from rich.console import Console

from waferlab.commands.bench import machine, table
from waferlab.commands.bench.process import memory_of_run, seconds_of, seconds_of_command
from waferlab.commands.bench.suites import SUITES
from waferlab.commands.bench.timing import Measurement, ratios, side_by_side
from waferlab.commands.bench.workload import (
    LiveTeacher,
    bare_epoch,
    lightning_epoch,
    student_workload,
    teacher_workload,
)
from waferlab.distillation.losses import LogitDistillation, Supervised
from waferlab.errors import WaferlabError

MAPS = 200


class TestTiming:
    def test_each_of_a_pair_comes_first_in_turn(self) -> None:
        order: list[str] = []
        side_by_side(lambda: order.append("a") or 1.0, lambda: order.append("b") or 1.0, 3)  # type: ignore[func-returns-value]
        assert "".join(order) == "abbaab"

    def test_ratios_are_first_over_second_in_every_repeat(self) -> None:
        assert ratios(lambda: 3.0, lambda: 2.0, 2) == (1.5, 1.5)

    @pytest.mark.parametrize(
        ("limit", "at_least", "verdict"),
        [(0.9, True, "ok"), (1.1, True, "missed"), (1.1, False, "ok"), (0.9, False, "missed"), (None, False, "")],
    )
    def test_the_median_decides(self, limit: float | None, at_least: bool, verdict: str) -> None:
        measurement = Measurement("", "", (0.1, 1.0, 9.0), limit=limit, at_least=at_least)
        assert (measurement.median, measurement.verdict) == (1.0, verdict)


class TestWorkloads:
    def test_ours_and_the_bare_loop_see_the_same_batches(self) -> None:
        work = student_workload("net2", MAPS)
        first, second = (next(iter(work.batches(Supervised()))) for _ in range(2))
        assert torch.equal(first.maps, second.maps)
        weights = (work.model().parameters(), work.model().parameters())
        assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))

    def test_every_kind_of_epoch_takes_time(self) -> None:
        work = student_workload("net2", MAPS)
        live = LiveTeacher(work.batches(Supervised()), student_workload("net1", MAPS).model().eval())
        loss = LogitDistillation()
        seconds = (
            *(lightning_epoch(work, Supervised()), bare_epoch(work)),
            *(lightning_epoch(work, loss), lightning_epoch(work, loss, live)),
        )
        assert min(seconds) > 0

    def test_a_live_teacher_answers_for_exactly_the_maps_shown(self) -> None:
        teacher = student_workload("net1", MAPS).model().eval()
        batch = next(iter(LiveTeacher(student_workload("net2", MAPS).batches(Supervised()), teacher)))
        assert batch.teacher is not None
        assert torch.allclose(batch.teacher, teacher(batch.maps), atol=1e-5)

    def test_a_teacher_trains_in_the_precision_asked_for(self) -> None:
        assert teacher_workload(MAPS, "bf16-mixed").how.trainer.precision == "bf16-mixed"


class TestProcesses:
    def test_a_command_that_fails_is_no_measurement(self) -> None:
        with pytest.raises(WaferlabError, match="there is no command 'tarin'"):
            seconds_of_command("tarin")

    def test_startup_is_measured_beside_hydra(self) -> None:
        lines = list(SUITES["startup"](0, 1))
        assert [line.what for line in lines] == ["waferlab train --help", "waferlab train --cfg job"]
        assert all(line.median > 0 and "import hydra" in line.reference for line in lines)

    def test_nothing_is_faster_than_sleep(self) -> None:
        assert seconds_of("import time; time.sleep(0.2)") >= 0.2

    @pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
    def test_memory_is_that_of_the_run_alone(self) -> None:
        assert 0 < memory_of_run(MAPS) < 3


class TestTable:
    def test_it_fits_80_columns(self) -> None:
        measured = [
            Measurement("compact: training speed", "bare PyTorch loop", (0.95, 1.01, 1.2), limit=0.9, at_least=True),
            Measurement("compact: distilled epoch", "live ResNet-18", (0.05,)),
            Measurement("waferlab train --cfg job", "import hydra 0.30 s", (0.9, 0.95, 0.99), "s", limit=0.8),
            Measurement("peak memory, 38,015 maps", "libraries alone", (1.5,), "GB", limit=3),
        ]
        console = Console(width=200)
        with console.capture() as capture:
            console.print(table(measured))
        lines = [line.rstrip() for line in capture.get().splitlines()]
        assert max(map(len, lines)) <= 80
        assert lines[1].split()[-1] == "ok"
        assert "1.01 (0.95-1.20)" in lines[1]

    def test_the_machine_is_named(self) -> None:
        assert f"{torch.get_num_threads()} torch threads" in machine()
