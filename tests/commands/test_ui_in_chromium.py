"""What a person sees of a sweep in `waferlab ui`: its trials below it, their comparison, their curves, its figures."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow_pages import CHROMIUM, Sweep, SweepPages, opened, served

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

TRIALS, EPOCHS = 3, 3
TINY = ("dataset.maps=300", "teacher.trainer.max_epochs=1", "student=net2", "backbone=compact", "backbone.width=8")
SEARCH = (
    "sweep=optuna", "distillation.alpha=interval(0,1)", "optimizer.lr=tag(log,interval(1e-3,1e-1))",
    f"hydra.sweeper.n_trials={TRIALS}", "hydra.sweeper.seed=0", "hydra.sweeper.study_name=small",
    "hydra.sweeper.objective=val/macro_f1", f"trainer.max_epochs={EPOCHS}",
)  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a sweep of three trials."""
    folder = tmp_path_factory.mktemp("sweep")
    command = [sys.executable, "-m", "waferlab.cli", "train", "-m", *SEARCH, *TINY, f"store={folder / 'store'}"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "store"


@pytest.fixture(scope="module")
def pages(store: Path) -> Iterator[SweepPages]:
    with served(store) as address, opened() as page:
        yield SweepPages(page, address, Sweep.read(store))


def test_the_table_has_the_trials_below_their_sweep_with_what_was_chosen(pages: SweepPages) -> None:
    shown = " ".join(pages.table().all_inner_texts())
    for name in ("small", "teacher", *(f"trial {number}" for number in range(TRIALS))):
        assert name in shown
    for trial in pages.sweep.trials:
        assert trial.data.params["optimizer.lr"] in shown
        assert trial.data.params["distillation.alpha"] in shown
    assert shown.count("complete") == TRIALS


def test_parallel_coordinates_lead_from_what_was_searched_to_the_objective(pages: SweepPages) -> None:
    drawn = pages.comparison()
    assert drawn["type"] == "parcoords"
    lines = {axis["label"]: axis["values"] for axis in drawn["dimensions"]}
    assert list(lines) == ["distillation.alpha", "optimizer.lr", "best/macro_f1"]
    for key in pages.sweep.searched:
        chosen = [float(trial.data.params[key]) for trial in pages.sweep.trials]
        assert lines[key] == pytest.approx(chosen, rel=1e-6)
    found = [trial.data.metrics["best/macro_f1"] for trial in pages.sweep.trials]
    assert lines["best/macro_f1"] == pytest.approx(found, rel=1e-6)
    assert pages.page.locator(".parcoords .axis-title").all_text_contents() == list(lines)


def test_the_curves_of_a_metric_have_a_line_for_each_trial_and_a_point_for_each_epoch(
    pages: SweepPages, store: Path
) -> None:
    client = MlflowClient(f"sqlite:///{store / 'mlflow.db'}")
    drawn = pages.curves("val/macro_f1")
    assert list(drawn) == [trial.info.run_name for trial in pages.sweep.trials]
    for trial in pages.sweep.trials:
        history = client.get_metric_history(trial.info.run_id, "val/macro_f1")
        line = drawn[str(trial.info.run_name)]
        assert line["x"] == [value.step for value in history] == list(range(EPOCHS))
        assert line["y"] == pytest.approx([value.value for value in history])


@pytest.mark.parametrize("name", ["history", "parallel_coordinates", "slices", "learning_curves"])
def test_the_figures_of_the_search_are_shown_with_the_sweep(name: str, pages: SweepPages) -> None:
    width = pages.figure(name).evaluate("async image => { await image.decode(); return image.naturalWidth }")
    assert width > 500
