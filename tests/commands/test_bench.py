"""The benchmark on tiny sizes: it measures what it says. How fast anything is, no test asserts."""

import sys
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from waferlab.commands.bench import anomaly, edge, machine, sweeps, table, value
from waferlab.commands.bench.anomaly import (
    JOINT,
    NATIVE,
    PAPER,
    DetectorWorkload,
    answers_per_second,
    bare_detector_epoch,
    detector_workload,
    lightning_detector_epoch,
)
from waferlab.commands.bench.aupro import (
    Scored,
    all_metrics,
    anomalibs_aupro,
    aupro_by_definition,
    closed_form_aupro,
    simulated_scores,
)
from waferlab.commands.bench.edge import (
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
from waferlab.commands.bench.suites import SUITES
from waferlab.commands.bench.sweeps import idle_share, seconds_between
from waferlab.commands.bench.timing import Epoch, Measurement, ratios, side_by_side, threads
from waferlab.commands.bench.workload import (
    LiveTeacher,
    bare_epoch,
    lightning_epoch,
    student_workload,
    teacher_workload,
)
from waferlab.data.batches import Batch
from waferlab.data.masks import Truth
from waferlab.deploy.formats import FORMATS
from waferlab.distillation.losses import LogitDistillation, Supervised
from waferlab.edge.model import Patterns
from waferlab.errors import WaferlabError
from waferlab.formats import read
from waferlab.tasks.anomaly import Anomaly

MAPS = 200
SMALL = ("backbone.width=8",)


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


def losses(work: DetectorWorkload, monkeypatch: pytest.MonkeyPatch) -> tuple[float, float]:
    """Of the bare loop, and of the project's own training step, for the same weights and maps."""
    seen: dict[str, Any] = {}

    def no_loop(how: object, model: torch.nn.Module, maps: torch.Tensor, _: object, loss: Any, answer: Any) -> Epoch:
        seen.update(model=model.eval(), maps=maps[:8], loss=loss(maps[:8], torch.arange(8)), answer=answer(maps[:8]))
        return Epoch(0, 0)

    monkeypatch.setattr(anomaly, "bare_loop", no_loop)
    bare_detector_epoch(work)
    config = work.config
    truth = Truth.of(work.dataset.part("val"), "exact")
    loss = config.distillation.build("distillation")
    task = Anomaly(seen["model"], loss, config.fit, config.attention, truth, config.task.select, seed=0)
    expected = torch.cat([level.flatten(1) for level in seen["model"](seen["maps"])], 1)
    torch.testing.assert_close(seen["answer"], expected)
    return seen["loss"].item(), task.training_step(Batch(seen["maps"], None, None), 0).item()


class TestDetectors:
    @pytest.mark.parametrize(
        "overrides",
        [SMALL, JOINT, (*PAPER, NATIVE, "distillation.reduction=mean"), (*SMALL, "pyramid.input_size=64")],
    )
    def test_the_bare_loop_computes_our_loss(self, overrides: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
        bare, ours = losses(detector_workload(MAPS, *overrides), monkeypatch)
        assert bare == pytest.approx(ours, rel=1e-5)

    def test_every_kind_of_epoch_takes_time(self) -> None:
        work = detector_workload(MAPS, *SMALL)
        ours = (lightning_detector_epoch(work, work.batches(cached)) for cached in (False, True))
        assert all(0 < epoch.steps < epoch.whole for epoch in (bare_detector_epoch(work), *ours))

    def test_a_cache_brings_what_the_teacher_says(self) -> None:
        work = detector_workload(MAPS, *SMALL, "trainer.precision=32-true")
        batch, detector = next(iter(work.batches(cached=True))), work.detector().eval()
        levels = detector.features(batch.maps)
        torch.testing.assert_close(detector.features(batch.maps, batch.teacher), levels)
        assert next(iter(work.batches())).teacher is None

    def test_they_learn_from_normal_wafers_and_are_validated_on_both_kinds(self) -> None:
        dataset = detector_workload(MAPS, *SMALL).dataset
        assert not dataset.part("train").labels.any()
        assert set(dataset.part("val").labels.any(1)) == {True, False}

    def test_answers_are_counted_on_the_threads_asked_for(self) -> None:
        before, work = torch.get_num_threads(), detector_workload(MAPS, *SMALL)
        with threads(1):
            assert torch.get_num_threads() == 1
            assert answers_per_second(work.detector(), work.dataset.wafers.maps[:32]) > 0
        assert torch.get_num_threads() == before


class TestAupro:
    def test_its_definition_by_hand(self) -> None:
        scores, mask = [0.9, 0.5, 0.7, 0.3, 0.2, 0.1], [True, True, False, False, False, False]
        scored = Scored(np.array([[scores]], np.float32), np.array([[mask]]))
        by_hand = (0.25 * 0.5 + 0.05 * 1) / 0.3  # half of the region at once, all of it at a rate of 1/4
        assert aupro_by_definition(scored) == pytest.approx(by_hand, abs=1e-12)

    @pytest.mark.parametrize("ties", [False, True])
    def test_ours_is_the_definition(self, ties: bool) -> None:
        scored = simulated_scores(6)
        scored = scored.rounded() if ties else scored
        assert closed_form_aupro(scored) == pytest.approx(aupro_by_definition(scored), abs=1e-6)
        assert all_metrics(scored)["pixel/aupro"] == closed_form_aupro(scored)

    def test_without_anomalib_the_rest_is_measured(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for module in ("anomalib", "anomalib.metrics"):
            monkeypatch.setitem(sys.modules, module, None)
        lines = list(SUITES["aupro"](MAPS, 1))
        assert [(line.what, line.verdict) for line in lines] == [("AUPRO: error", "ok"), ("AUPRO, ties: error", "ok")]
        assert "`uv pip install --group bench` installs it" in capsys.readouterr().err

    def test_anomalib_finds_the_same(self) -> None:
        pytest.importorskip("anomalib")
        scored = simulated_scores(6)
        assert anomalibs_aupro(scored) == pytest.approx(closed_form_aupro(scored), abs=1e-5)
        assert [line.what for line in SUITES["aupro"](MAPS, 1)][-2:] == ["AUPRO: speed", "all metrics: speed"]


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


class TestSweeps:
    def test_the_sweeper_is_measured_beside_hydras_own(self) -> None:
        ours, hydras = seconds_between(3)
        assert ours > 0
        assert hydras > 0

    def test_waiting_is_a_share_of_the_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sweeps, "SECONDS", (0.2, 0.8))
        assert 0 < idle_share(6, workers=2) < 1


class TestPruning:
    def test_two_searches_find_one_teacher_and_are_timed(self) -> None:
        found = searches(300, trials=2, epochs=1, seed=0)
        assert found.teacher > 0
        assert min(found.whole, found.pruned) > 0
        assert found.best_of_whole == found.best_of_pruned, "two trials are too few to prune any"


class TestLogging:
    def test_its_share_of_a_training_is_measured(self) -> None:
        whole, writing, exporting = logging_shares(300, epochs=1)
        assert whole > 0
        assert 0 < writing < 1
        assert 0 < exporting < 1


class TestEdge:
    def test_a_store_holds_the_same_maps_again_and_again(self) -> None:
        maps = many_sizes(MAPS)
        with stored(maps, 2 * MAPS + 3) as path:
            blocks = list(read(path))
        assert not path.exists()
        found = [(name, each) for block in blocks for name, each in block]
        assert [name for name, _ in found] == [str(row) for row in range(2 * MAPS + 3)]
        assert len({each.shape for _, each in found}) == 6
        assert all(np.array_equal(each, maps[row % MAPS]) for row, (_, each) in enumerate(found))

    @pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
    def test_what_a_process_takes_is_that_of_predicting_alone(self) -> None:
        with stored(many_sizes(MAPS), MAPS) as path:
            cost = cost_of_predicting(path)
        assert cost.seconds > 0
        assert 30 < cost.megabytes < 200, "torch alone takes more"

    def test_a_process_that_imports_torch_is_no_measurement(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(edge, "_PREDICT", f"import torch\n{edge._PREDICT}")
        with stored(many_sizes(MAPS), 1) as path, pytest.raises(WaferlabError, match="predicting took torch"):
            cost_of_predicting(path)

    def test_a_student_of_21_kilobytes_answers_as_its_file_does(self) -> None:
        source, maps = student_source(MAPS)
        assert maps.shape == (MAPS, 52, 52)
        assert len(FORMATS["onnx-int8-weights"].make(source)) < 21.5e3
        model = exported(source, "onnx")
        answer = model.answer(maps)
        assert isinstance(answer, Patterns)
        np.testing.assert_allclose(answer.probabilities, source.model.answer(maps)[1], atol=1e-4)
        assert min(seconds_in_batches(model, maps), seconds_one_by_one(model, maps[:5])) > 0

    @pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
    def test_limits_for_all_of_wm811k_are_none_for_fewer_maps(self) -> None:
        lines = list(SUITES["edge"](MAPS, 1))
        assert [(line.what, line.reference, line.limit) for line in lines] == [
            ("predict: one map", "zoo/mixed", 1),
            ("predict: peak", "200 maps", 120),
            ("21 KB: in batches", "one thread", 20_000),
            ("21 KB: one map", "one thread", 0.2),
            ("21 KB: int8 speed", "fp32", None),
            ("predict: time", "20,400 maps", None),
            ("predict: peak", "20,400 maps", None),
            ("predict: memory", "for a tenth", None),
        ]
        assert all(line.median > 0 for line in lines)
        assert [line.at_least for line in lines].index(True) == 2


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

    @pytest.mark.parametrize(
        ("values", "text"),
        [
            ((4e-16,), "4e-16 s"),
            ((0.0,), "0.00 s"),
            ((1.0, 2.0, 3.0), "2.00 (1.00-3.00) s"),
            ((4000.0,), "4,000 s"),
        ],
    )
    def test_figures_keep_the_digits_they_deserve(self, values: tuple[float, ...], text: str) -> None:
        assert value(Measurement("", "", values, "s")) == text

    def test_the_machine_is_named(self) -> None:
        assert f"{torch.get_num_threads()} torch threads" in machine()
