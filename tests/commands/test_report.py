"""The report of a study: which runs count, what the rows say, and that the same runs give the same bytes."""

import base64
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from rich.console import Console

from waferlab.commands import markdown
from waferlab.commands.report import _printed, run, write_report
from waferlab.commands.report_page import page, write_page
from waferlab.commands.sweep_report import write_sweeps
from waferlab.config import MixedTypeConfig, TrackingConfig
from waferlab.data.dataset import Dataset
from waferlab.errors import ConfigError, WaferlabError
from waferlab.experiment.compose import checked, compose_overrides
from waferlab.models.classifier import Classifier
from waferlab.models.files import save_model
from waferlab.tracking.figures import save
from waferlab.tracking.run import TEACHING, Run
from waferlab.tracking.study import NETWORKS, Row, Spread, read_study, rows
from waferlab.tracking.sweeps import SweepRun, Trial
from waferlab.tracking.teaching import read_teaching
from waferlab.tracking.tracker import Tracker

DATA = {"dataset": "mixedwm38", "dataset.fingerprint": "0123456789abcdef", "dataset.split": "8 train, 1 val, 1 test"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all tests, as MLflow takes seconds to make its tables."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def tracker(store: Path, request: pytest.FixtureRequest) -> Tracker:
    """An MLflow experiment of the test's own."""
    return Tracker(TrackingConfig(uri=None, experiment=request.node.name, tags={}), store)


def log(
    tracker: Tracker,
    accuracies: Mapping[str, float],
    *,
    arm: str | None = "net1",
    seed: int = 0,
    overrides: str = "",
    study: str = "small",
    size: int = 1000,
    **tags: object,
) -> str:
    """One finished run with hand-made results; the accuracies are of the models it tested."""
    network = "student" if "student" in accuracies else "teacher"
    marks = {"study": study, "role": "experiment", "network": network} | DATA | tags
    marks |= {"command": f"waferlab train seed={seed} {overrides} store=here 'dataset.path=my maps/all.npz'"}
    with tracker.run("made", marks | ({"arm": arm} if arm else {})) as opened:
        opened.parameters({"seed": seed, "teacher": {"seed": 7, "trainer": {"max_epochs": 40}}})
        for model, accuracy in accuracies.items():
            values = {"exact_match": accuracy, "macro_f1": accuracy / 2, "parameters": 250}
            if model in NETWORKS:
                values["bytes"] = size * (10 if model == "teacher" else 1)
            opened.metrics({f"test/{model}/{name}": value for name, value in values.items()})
        opened.metrics({"epochs": 30})
    return opened.id


def table(tracker: Tracker, study: str = "small") -> dict[str, Row]:
    return {row.name: row for row in rows(read_study(tracker, study))}


class TestRows:
    def test_an_arm_is_the_mean_and_sample_deviation_over_its_seeds(self, tracker: Tracker) -> None:
        for seed, accuracy in enumerate((0.90, 0.92, 0.97)):
            log(tracker, {"student": accuracy}, seed=seed, claim=93.33, reach=94.5)
        row = table(tracker)["net1"]
        assert row.metrics["exact_match"].mean == pytest.approx(0.93)
        assert row.metrics["exact_match"].deviation == pytest.approx(0.036055512754)
        assert row.metrics["macro_f1"].mean == pytest.approx(0.465)
        assert (row.seeds, row.parameters, row.bytes, row.claim, row.reach) == (3, 250, 1000, 93.33, 94.5)

    def test_one_seed_has_no_deviation(self, tracker: Tracker) -> None:
        log(tracker, {"student": 0.9})
        assert table(tracker)["net1"].metrics["exact_match"] == Spread(0.9, None)

    def test_of_a_seed_the_newest_finished_run_counts(self, tracker: Tracker) -> None:
        log(tracker, {"student": 0.5}, seed=1)
        log(tracker, {"student": 0.9}, seed=1)
        failed = log(tracker, {"student": 0.1}, seed=1)
        tracker.client.set_terminated(failed, "FAILED")
        row = table(tracker)["net1"]
        assert (row.seeds, row.metrics["exact_match"].mean) == (1, 0.9)

    def test_students_of_one_teacher_give_it_one_row_without_their_claim(self, tracker: Tracker) -> None:
        for seed in (0, 1):
            log(tracker, {"student": 0.9, "teacher": 0.98}, seed=seed, claim=93, **{"teacher.file": "a"})
        teacher = table(tracker)["teacher"]
        assert (teacher.seeds, teacher.metrics["exact_match"], teacher.claim) == (1, Spread(0.98, None), None)

    def test_a_teacher_that_is_an_arm_has_one_row_with_its_claim(self, tracker: Tracker) -> None:
        log(tracker, {"teacher": 0.98}, arm="teacher", claim=98, **{"teacher.file": "a"})
        log(tracker, {"student": 0.9, "teacher": 0.98}, **{"teacher.file": "a"})
        made = rows(read_study(tracker, "small"))
        assert [(row.name, row.claim) for row in made] == [("teacher", 98), ("net1", None)]

    def test_a_teachers_own_training_is_no_result(self, tracker: Tracker) -> None:
        log(tracker, {"student": 0.9})
        log(tracker, {}, role="teacher", seed=5)
        assert table(tracker)["net1"].seeds == 1

    def test_trivial_baselines_stand_last_without_seeds_and_bytes(self, tracker: Tracker) -> None:
        for seed in (0, 1):
            log(tracker, {"student": 0.9, "majority": 0.05, "zone_density": 0.4}, seed=seed)
        made = rows(read_study(tracker, "small"))
        assert [(row.name, row.seeds, row.bytes) for row in made[1:]] == [
            ("majority", None, None),
            ("zone_density", None, None),
        ]

    def test_arms_that_nobody_named_are_named_by_what_they_do_not_share(self, tracker: Tracker) -> None:
        for width, accuracy in ((8, 0.8), (16, 0.9)):
            for seed in (0, 1):
                overrides = f"student=compact student.width={width}"
                log(tracker, {"student": accuracy}, arm=None, seed=seed, overrides=overrides, size=width)
        found = {name: (row.seeds, row.metrics["exact_match"].mean) for name, row in table(tracker).items()}
        assert found == {"student.width=16": (2, 0.9), "student.width=8": (2, 0.8)}

    def test_arms_stand_by_size(self, tracker: Tracker) -> None:
        for arm, size in (("small", 10), ("large", 1000), ("middle", 100)):
            log(tracker, {"student": 0.9}, arm=arm, size=size)
        assert list(table(tracker)) == ["large", "middle", "small"]


class TestEvaluations:
    def test_an_evaluation_of_some_seeds_or_in_more_views_stands_beside_the_training(self, tracker: Tracker) -> None:
        trained = [log(tracker, {"student": 0.8}, seed=seed) for seed in range(3)]
        log(tracker, {"model": 0.8}, arm=None, role="evaluation", model=trained[1])
        views = log(tracker, {"model": 0.9}, arm=None, role="evaluation", model=trained[0])
        Run(tracker.client, views, tracker.uri).metrics({"test/model/views": 8})
        found = rows(read_study(tracker, "small"))
        assert [(row.name, row.views, row.seeds) for row in found] == [("net1", 1, 3), ("net1", 8, 1)]
        assert [row.metrics["exact_match"].mean for row in found] == pytest.approx([0.8, 0.9])

    def test_an_evaluation_belongs_to_the_arm_and_seed_of_its_model(self, tracker: Tracker) -> None:
        for seed in (3, 4):
            trained = log(tracker, {"student": 0.99}, arm="simulated", seed=seed, dataset="simulated")
            log(tracker, {"model": 0.8 + seed / 100}, arm=None, seed=0, role="evaluation", model=trained, reach=90)
        runs = [found for found in read_study(tracker, "small") if found.data[0] == "mixedwm38"]
        assert [(found.arm, found.seed) for found in runs] == [("simulated", "3"), ("simulated", "4")]
        assert {found.epochs for found in runs} == {30}
        assert rows(runs)[0].metrics["exact_match"].mean == pytest.approx(0.835)

    def test_an_evaluated_teacher_has_the_seed_and_epochs_of_its_training(self, tracker: Tracker) -> None:
        training = log(tracker, {}, role="teacher", seed=5)
        teacher = log(tracker, {"teacher": 0.98}, seed=1, dataset="simulated", **{"teacher.run_id": training})
        log(tracker, {"model": 0.9}, arm=None, seed=0, role="evaluation", model=teacher)
        (found,) = [found for found in read_study(tracker, "small") if found.data[0] == "mixedwm38"]
        assert (found.network, found.seed, found.epochs) == ("model", "7", 30)

    def test_data_sets_have_tables_of_their_own(self, tracker: Tracker, tmp_path: Path) -> None:
        trained = log(tracker, {"student": 0.99}, arm="simulated", dataset="simulated")
        log(tracker, {"model": 0.8}, arm=None, role="evaluation", model=trained)
        text = write_report("small", read_study(tracker, "small"), tmp_path)[0].read_text()
        real, simulated = text.index("## mixedwm38"), text.index("## simulated")
        assert "80.00" in text[real:simulated]
        assert "99.00" in text[simulated:]


class TestFiles:
    def test_the_table_says_what_was_measured_and_how(self, tracker: Tracker, tmp_path: Path) -> None:
        for seed, accuracy in enumerate((0.90, 0.92, 0.97)):
            log(tracker, {"student": accuracy, "majority": 0.05}, seed=seed, claim=93.33, reach=94.5)
        text = write_report("small", read_study(tracker, "small"), tmp_path / "out")[0].read_text()
        assert "| net1 | 3 | 93.00 ± 3.61 | 46.50 ± 1.80 | 250 | 1,000 | 93.33 | 94.5 |" in text
        assert "| majority |  | 5.00 | 2.50 | 250 |  |  |  |" in text
        assert "8 train, 1 val, 1 test" in text
        assert "0123456789abcdef" in text
        assert "epochs: net1 30" in text
        assert "waferlab train seed=2  # net1, seed 2" in text  # without the store's place

    def test_the_same_runs_give_the_same_bytes(self, tracker: Tracker, tmp_path: Path) -> None:
        log(tracker, {"student": 0.9, "teacher": 0.98, "majority": 0.05}, claim=93.33)
        written = [
            [path.read_bytes() for path in write_report("small", read_study(tracker, "small"), tmp_path / folder)]
            for folder in ("one", "two")
        ]
        assert written[0] == written[1]
        assert len(written[0][1]) < 200_000

    def test_a_figure_is_drawn_where_there_are_sizes_to_compare(self, tracker: Tracker, tmp_path: Path) -> None:
        log(tracker, {"student": 0.9}, size=1000)
        assert [path.name for path in write_report("small", read_study(tracker, "small"), tmp_path)] == ["results.md"]
        log(tracker, {"student": 0.8}, size=500, arm="net2")
        written = write_report("small", read_study(tracker, "small"), tmp_path)
        assert [path.name for path in written] == ["results.md", "accuracy_by_size.png"]

    def test_of_many_sizes_the_smallest_good_ones_are_named(self, tracker: Tracker, tmp_path: Path) -> None:
        for size, accuracy in enumerate((0.5, 0.91, 0.93, 0.96, 0.95, 0.97), 1):
            log(tracker, {"student": accuracy}, arm=f"size {size}", size=1000 * size)
        text = write_report("small", read_study(tracker, "small"), tmp_path)[0].read_text()
        assert "- smallest with 90 % or more: size 2, 2,000 bytes\n" in text
        assert "- smallest with 95 % or more: size 4, 4,000 bytes\n" in text
        assert "- smallest with 98 % or more: none\n" in text

    def test_the_printed_table_fits_80_columns(self) -> None:
        spread = {"exact_match": Spread(0.98765, 0.01234), "macro_f1": Spread(0.98765, 0.01234)}
        console = Console(width=200, record=True, file=StringIO())
        console.print(_printed("small", [Row("compact_248kb", 3, spread, 11_180_616, 44_737_352, 93.33, 94.5)]))
        lines = [line.rstrip() for line in console.export_text().splitlines()]
        assert max(map(len, lines)) <= 80
        assert "98.77±1.23" in lines[-1]

    def test_the_command_writes_into_its_output_folder(
        self, tracker: Tracker, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        log(tracker, {"student": 0.9})
        experiment = tracker.client.get_experiment(tracker.experiment_id).name
        overrides = ["study=small", f"store={store}", f"tracking.experiment={experiment}", f"output={tmp_path}"]
        run(compose_overrides("report", overrides))
        assert (tmp_path / "results.md").is_file()
        assert "<td>net1</td>" in (tmp_path / "report.html").read_text()
        assert "90.00" in capsys.readouterr().out


class Seen(HTMLParser):
    """What a browser would make of a page: its elements and their attributes, and its words."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


#: Names that Markdown or HTML would make something of.
STRANGE = (
    "<script>alert(1)</script>", "a|b", "*a*", "__a__", "_a_", "`a`", "``", "[a](https://example.org)",
    "![a](https://example.org/a.png)", "<https://example.org>", "a\\|b", "&lt;b&gt;", "~~a~~", "x\n\n# y",
    "a #", "'\">",
)  # fmt: skip


class TestPage:
    def sweep(self, folder: Path, name: str = "search") -> SweepRun:
        """One trial and a figure."""
        drawn = save({"history": Figure(figsize=(2, 1))}, folder)
        trial = Trial(0, {"student.width": "8"}, (0.5,), seconds=60)
        states = {"complete": 1, "pruned": 3}
        return SweepRun(name, ("val/exact_match",), ("waferlab train seed=1",), states, 120, {}, [trial], drawn)

    def written(self, tracker: Tracker, folder: Path) -> Path:
        results = write_report("small", read_study(tracker, "small"), folder)
        sweeps = write_sweeps("small", [self.sweep(folder / "from")], folder)
        return write_page("small", [*results, *sweeps], folder)

    def test_holds_results_and_sweeps_with_their_figures(self, tracker: Tracker, tmp_path: Path) -> None:
        log(tracker, {"student": 0.9})
        log(tracker, {"student": 0.8}, size=500, arm="net2")
        seen = Seen(self.written(tracker, tmp_path).read_text())
        for words in ("Results of small", "Sweeps of small", "90.00", "val/exact_match", "waferlab train seed=1"):
            assert words in seen.words
        assert "2 min, 50 % of what as many complete ones would take, at their mean of 60 s" in seen.words
        prefix = "data:image/png;base64,"
        inside = [base64.b64decode(str(image["src"]).removeprefix(prefix)) for image in seen.all("img")]
        assert inside == [(tmp_path / name).read_bytes() for name in ("accuracy_by_size.png", "search_history.png")]
        assert [image["alt"] for image in seen.all("img")] == ["accuracy by size", "search history"]

    def test_is_made_of_the_same_bytes_each_time(self, tracker: Tracker, tmp_path: Path) -> None:
        log(tracker, {"student": 0.9, "teacher": 0.98})
        one, two = (self.written(tracker, tmp_path / name).read_bytes() for name in ("one", "two"))
        assert one == two

    def test_loads_nothing_from_elsewhere_and_runs_nothing(self, tracker: Tracker, tmp_path: Path) -> None:
        log(tracker, {"student": 0.9})
        html = self.written(tracker, tmp_path).read_text()
        seen = Seen(html)
        assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in seen.elements}
        sources = [value for _, attributes in seen.elements for name, value in attributes.items() if name == "src"]
        assert all(str(source).startswith("data:") for source in sources)
        assert not re.search(r"url\(|@import|https?:", html)
        policy = next(meta for meta in seen.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
        assert str(policy["content"]).startswith("default-src 'none'")

    def test_its_contents_lead_to_every_heading(self, tracker: Tracker, tmp_path: Path) -> None:
        log(tracker, {"student": 0.9})
        seen = Seen(self.written(tracker, tmp_path).read_text())
        headings = [attributes["id"] for tag, attributes in seen.elements if tag in ("h1", "h2")]
        assert [link["href"] for link in seen.all("a")] == [f"#{heading}" for heading in headings]
        assert len(set(headings)) == 5  # results, their data, commands; sweeps, the sweep

    @pytest.mark.parametrize("name", STRANGE)
    def test_a_name_is_shown_as_it_was_written(self, name: str) -> None:
        kept = " ".join(name.split())
        for made in (
            [markdown.text(name)],
            ["# " + markdown.text(name)],
            ["- of: " + markdown.text(name)],
            ["said: " + markdown.code(name)],
            markdown.table(["a", "b"], [[markdown.text(name), "1"]]),
        ):
            seen = Seen(page("small", ["\n".join(made)], {}).partition("<main>")[2])
            assert kept in seen.words
            assert not {"script", "img", "em", "strong", "a", "s"} & {tag for tag, _ in seen.elements}
        block = Seen(page("small", ["\n".join(markdown.code_block([name, "```", "end"]))], {}).partition("<main>")[2])
        assert block.words.strip() == f"{name}\n```\nend"

    def test_an_image_that_is_no_figure_of_the_report_is_left_out(self) -> None:
        seen = Seen(page("small", ["![far](https://example.org/a.png) ![near](../b.png)"], {"a.png": b"a"}))
        assert not seen.all("img")
        assert "far near" in seen.words

    def test_figures_of_a_sweep_with_a_strange_name_lie_beside_it(self, tmp_path: Path) -> None:
        sweep = self.sweep(tmp_path / "from", name="../a b/<c>")
        written = write_sweeps("small", [sweep], tmp_path / "out")
        assert {path.parent for path in written} == {tmp_path / "out"}
        seen = Seen(write_page("small", written, tmp_path / "out").read_text())
        assert len(seen.all("img")) == 1
        assert "../a b/<c>" in seen.words


class TestFewLabels:
    def write(self, tracker: Tracker, folder: Path) -> str:
        """The report of a student whose teacher saw all labels, and of one whose teacher saw a tenth."""
        for share, wrong in (("1", [0.3, 0.2, 0.1]), ("0.1", [0.4, 0.2, 0.2])):
            marks = {"teacher.file": share, "dataset.fingerprint": share}
            marks |= {} if share == "1" else {"dataset.labelled": share}
            run_id = log(tracker, {"student": 0.9, "teacher": 0.8}, arm=f"unsupervised, labels {share}", **marks)
            run = Run(tracker.client, run_id, tracker.uri)
            run.metrics(
                {
                    f"{TEACHING}exact_match": 0.8,
                    f"{TEACHING}prediction_entropy": 0.0123,
                    f"{TEACHING}expected_calibration_error": 0.05,
                }
            )
            for step, value in zip((25, 50, 75), wrong, strict=True):
                curves = {"per_map": value, "per_bit": value / 10}
                run.metrics({f"{TEACHING}pseudo_label_error/{name}": error for name, error in curves.items()}, step)
        runs = read_study(tracker, "small")
        return write_report("small", runs, folder, read_teaching(tracker, runs))[0].read_text()

    def test_have_tables_of_their_own_and_a_figure_over_the_shares(self, tracker: Tracker, tmp_path: Path) -> None:
        text = self.write(tracker, tmp_path)
        assert "## mixedwm38\n" in text
        assert "## mixedwm38, 10 % of the labels\n" in text
        assert (tmp_path / "accuracy_by_labels.png").stat().st_size > 5000

    def test_say_how_wrong_the_teachers_are_where_they_teach(self, tracker: Tracker, tmp_path: Path) -> None:
        text = self.write(tracker, tmp_path)
        assert "| mixedwm38, 100 % of the labels | 20.00 | 10.00 | 0.75 | 2.00 | 0.0123 | 5.00 |" in text
        assert "| mixedwm38, 10 % of the labels | 20.00 | 20.00 | 0.5 | 2.00 | 0.0123 | 5.00 |" in text
        assert "(pseudo_label_error.png)" in text


class TestDetectors:
    FOUND = {"image/auroc": 0.98, "pixel/auroc": 0.97, "pixel/aupr": 0.96, "pixel/aupro": 0.95, "pixel/f1": 0.94}

    def detected(self, tracker: Tracker, seed: int, mask: str = "fail", arm: str = "wm811k") -> None:
        tags = {"study": "found", "arm": arm, "network": "detector", "role": "experiment", "mask": mask}
        with tracker.run("made", tags | DATA) as opened:
            opened.parameters({"seed": seed, "teacher": {"seed": 0}})
            for name, worse in (("detector", 0.01 * seed), ("teacher", 0.1), ("fail_share", 0.4)):
                values = {metric: value - worse for metric, value in self.FOUND.items()} | {"parameters": 10}
                opened.metrics({f"test/{name}/{metric}": value for metric, value in values.items()})
                if name != "fail_share":
                    opened.metrics({f"test/{name}/bytes": 1000})

    def test_have_the_metrics_of_wafers_and_dies_beside_the_trivial_scores(
        self, tracker: Tracker, tmp_path: Path
    ) -> None:
        for seed in (0, 1):
            self.detected(tracker, seed)
        table, figure = write_report("found", read_study(tracker, "found"), tmp_path)
        text = table.read_text()
        assert "|  | n | image AUROC | AUROC | AUPR | AUPRO | F1 | parameters | bytes |" in text
        assert "| wm811k | 2 | 97.50 ± 0.71 | 96.50 ± 0.71 |" in text
        assert "| fail share |  | 58.00 | 57.00 |" in text
        assert figure.name == "auroc_by_arm.png"

    def test_have_a_table_for_each_mask(self, tracker: Tracker, tmp_path: Path) -> None:
        for mask in ("fail", "pattern"):
            self.detected(tracker, 0, mask)
        text = write_report("found", read_study(tracker, "found"), tmp_path)[0].read_text()
        assert "## mixedwm38, mask fail" in text
        assert "## mixedwm38, mask pattern" in text

    def test_say_how_well_a_withheld_pattern_is_found(self, tracker: Tracker, tmp_path: Path) -> None:
        tags = {"study": "unseen", "network": "detector", "role": "experiment", "dataset.withheld": "Scratch"} | DATA
        with tracker.run("made", tags) as opened:
            for name, auroc in (("detector", 0.9), ("teacher", 0.7), ("fail_share", 0.3), ("fail_density", 0.8)):
                values = {"image/auroc/Scratch": auroc, "image/auroc": 0.99, "parameters": 1}
                opened.metrics({f"test/{name}/{metric}": value for metric, value in values.items()})
        text = write_report("unseen", read_study(tracker, "unseen"), tmp_path)[0].read_text()
        assert "| Scratch (mixedwm38) | 90.00 | 70.00 | 80.00 (fail density) |" in text

    def test_are_printed_in_80_columns(self) -> None:
        spread = {metric: Spread(value, 0.01234) for metric, value in self.FOUND.items()}
        console = Console(width=200, record=True, file=StringIO())
        console.print(_printed("found", [Row("density_at_fails", 3, spread, 11_180_616, 44_737_352)]))
        lines = [line.rstrip() for line in console.export_text().splitlines()]
        assert max(map(len, lines)) <= 80
        assert lines[-1].startswith("density at fails ")


class TestMistakes:
    def test_an_unknown_study_is_answered_with_the_known_ones(self, tracker: Tracker) -> None:
        log(tracker, {"student": 0.9}, study="capacity")
        with pytest.raises(WaferlabError, match=r"study=small has no finished run .* studies there: capacity"):
            read_study(tracker, "small")

    def test_without_any_study_the_answer_says_how_to_tag_a_run(self, tracker: Tracker) -> None:
        with pytest.raises(WaferlabError, match=r"\+tracking\.tags\.study=NAME"):
            read_study(tracker, "small")

    def test_a_name_that_is_no_folder_name_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="study"):
            run(compose_overrides("report", ["study='../other'"]))


class TestPresets:
    ARMS = ("teacher", "net1", "net2", "compact_248kb", "compact_21kb")

    def composed(self, experiment: str) -> MixedTypeConfig:
        return checked(MixedTypeConfig, compose_overrides("train", [f"experiment={experiment}"]))

    @pytest.mark.parametrize("arm", ARMS)
    def test_all_arms_of_mixed_type_kd_share_the_teacher_of_mixedwm38(self, arm: str) -> None:
        base, preset = self.composed("mixedwm38"), self.composed(f"mixed_type_kd/{arm}")
        assert (preset.teacher, preset.backbone, preset.dataset) == (base.teacher, base.backbone, base.dataset)
        assert preset.tracking.tags["study"] == "mixed_type_kd"
        assert preset.tracking.tags["arm"] == arm

    @pytest.mark.parametrize(("arm", "limit"), [("compact_248kb", 248_000), ("compact_21kb", 21_000)])
    def test_compact_students_keep_the_size_in_their_name(
        self, arm: str, limit: int, tiny_dataset: Dataset, tmp_path: Path
    ) -> None:
        student = self.composed(f"mixed_type_kd/{arm}").student
        assert student is not None
        model = Classifier(student, tiny_dataset.classes, tiny_dataset.wafers.size).fused()
        assert save_model(model, tmp_path / "model.safetensors").stat().st_size <= limit

    def test_the_student_of_sim_to_real_sees_simulated_maps_and_no_teacher(self) -> None:
        config = self.composed("sim_to_real")
        assert config.dataset.target == "waferlab.data.simulator.load"
        assert config.distillation.target.endswith("Supervised")


class TestInspections:
    def test_have_columns_and_a_figure_of_their_own(self, tracker: Tracker, tmp_path: Path) -> None:
        for arm, f1 in (("head only", 0.7), ("all layers", 0.9)):
            run_id = log(tracker, {"classifier": 0.0, "majority": 0.0}, arm=arm)
            run = Run(tracker.client, run_id, tracker.uri)
            for name, value in (("classifier", f1), ("majority", 0.1)):
                metrics = {"accuracy": value, "macro_f1": value, "auroc": value, "fpr_at_tpr/99": 1 - value}
                run.metrics({f"test/{name}/{metric}": each for metric, each in metrics.items()})
            run.metrics({"test/classifier/one_view/macro_f1": f1 - 0.05})
        found, figure = write_report("small", read_study(tracker, "small"), tmp_path)
        text = found.read_text()
        assert "|  | n | accuracy | macro F1 | AUROC | FPR at 99 | of one view | parameters | bytes |" in text
        assert "| all layers | 1 | 90.00 | 90.00 | 90.00 | 10.00 | 85.00 |" in text
        assert "FPR at 99 the share of good maps" in text
        assert figure.name == "macro_f1_by_arm.png"
