"""Labels that several models contradict, as a person asks for them."""

import csv
from pathlib import Path

import numpy as np
import pytest

import waferlab
from waferlab.cli import main
from waferlab.data.simulator import load
from waferlab.models.classifier import Classifier
from waferlab.wafer import pattern_name

DATA = ("dataset=simulated", "dataset.maps=200")


@pytest.fixture(scope="module")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two students that have learnt a little."""
    store = tmp_path_factory.mktemp("models")
    given = ["experiment=sim_to_real", "dataset.maps=200", "student.width=4", "student.depths=[1,1,1]", "test=false"]
    tiny = ["trainer.max_epochs=1", "trainer.augment=false", f"store={store}"]
    outcomes = [waferlab.train(*given, *tiny, f"seed={seed}") for seed in (0, 1)]
    return [outcome.model_file for outcome in outcomes]


def asked(tmp_path: Path, *given: str) -> int:
    return main(["doubts", *DATA, f"store={tmp_path}", f"output={tmp_path / 'out'}", *given])


def test_of_a_model_and_itself_are_all_that_it_gets_wrong(
    model_files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = model_files[0]
    assert asked(tmp_path, f"model=[{file},{file}]", "part=train") == 0
    model, dataset = waferlab.load(file), load(maps=200)
    assert isinstance(model, Classifier)
    answers, labels = model.predict(dataset.wafers.maps), dataset.wafers.labels
    rows = np.flatnonzero((answers != labels).any(1) & dataset.within("train"))
    with (tmp_path / "out" / "doubts.csv").open() as table:
        found = {int(row["wafer"]): (row["labelled"], row["answered"]) for row in csv.DictReader(table)}
    names = dataset.classes
    assert found == {row: (pattern_name(labels[row], names), pattern_name(answers[row], names)) for row in rows}
    assert len(rows)
    assert (tmp_path / "out" / "doubts.png").stat().st_size
    assert f"against the label {len(rows)} " in " ".join(capsys.readouterr().out.split())


def test_of_two_models_need_both(model_files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(tmp_path, f"model=[{','.join(map(str, model_files))}]", "part=train") == 0
    dataset, both = load(maps=200), [waferlab.load(file) for file in model_files]
    part = dataset.part("train")
    first, second = (model.predict(part.maps) for model in both)
    alike = (first == second).all(1) & (first != part.labels).any(1)
    assert f"against the label {alike.sum()} " in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["model=[{file}]"], "model"),
        (["model=[{file},nowhere]"], "'nowhere' is neither a file that exists"),
        (["model=[{file},{file}]", "dataset.size=26"], "26x26"),
        (["model=[{file},{file}]", "part=unlabelled"], "no map is in its unlabelled part"),
    ],
)
def test_that_nobody_can_have_are_refused(
    model_files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], said: str
) -> None:
    assert asked(tmp_path, *(each.format(file=model_files[0]) for each in given)) > 0
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
