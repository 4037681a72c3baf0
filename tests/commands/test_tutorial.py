"""The tutorial: its commands as they are printed, smaller, and its pictures."""

import re
import shlex
from pathlib import Path

import pytest

from waferlab.cli import COMMANDS, main

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
SMALL = ("dataset.maps=300", "backbone.width=8", "teacher.trainer.max_epochs=1", "trainer.max_epochs=1")


def printed() -> list[list[str]]:
    """The words of every command."""
    whole = TUTORIAL.read_text(encoding="utf-8").replace("\\\n", " ")
    return [shlex.split(line) for line in re.findall(r"^    waferlab (.+)$", whole, re.MULTILINE)]


def test_it_goes_from_the_sweep_over_its_ui_and_its_best_trial_to_the_report() -> None:
    assert [words[0] for words in printed()] == ["train", "train", "ui", "train", "report"]
    assert {words[0] for words in printed()} <= set(COMMANDS)


def test_its_pictures_are_there() -> None:
    named = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", TUTORIAL.read_text(encoding="utf-8"))
    assert len(named) == 4
    assert all((TUTORIAL.parent / name).stat().st_size < 200_000 for name in named)


def test_its_sweep_its_best_trial_and_its_report_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sweep, more, _, best, report = printed()
    assert main([*sweep, *SMALL, "hydra.sweeper.n_trials=1"]) == 0
    assert main([*more, *SMALL, "hydra.sweeper.n_trials=2"]) == 0
    assert main([*best, *SMALL]) == 0
    assert main(report) == 0
    page = (tmp_path / "experiments" / "net2_weights" / "report.html").read_text()
    assert "Results of net2_weights" in page
    assert "2 complete" in page
