"""``waferlab predict`` with an exported model: tables, pictures, many wafers, and what it needs."""

import csv
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import SIZE, anomaly, classes, patterns

import waferlab
from waferlab.cli import main
from waferlab.edge.command import Request, parse
from waferlab.edge.model import OnnxModel
from waferlab.edge.predict import Batch, Wanted, predict
from waferlab.errors import ConfigError


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with eleven wafers, of which wafer k has k tenths failing dies."""
    monkeypatch.chdir(tmp_path)
    dice = np.random.default_rng(0).permuted(np.tile(np.arange(48), (11, 1)), axis=1)
    np.save("wafers.npy", 1 + (dice < 4.8 * np.arange(11)[:, None]).astype(np.uint8).reshape(-1, *SIZE))


def table(path: str = "found/predictions.csv") -> list[dict[str, str]]:
    return list(csv.DictReader(Path(path).read_text().splitlines()))


class TestTable:
    def test_of_patterns_has_names_bits_and_probabilities(self) -> None:
        patterns(Path("m.onnx"))
        assert main(["predict", "model=m.onnx", "input=wafers.npy", "output=found"]) == 0
        rows = table()
        assert list(rows[0]) == ["wafer", "pattern", "bits", "many", "few"]
        assert [row["wafer"] for row in rows] == [str(row) for row in range(11)]
        assert [row["pattern"] for row in rows] == ["few"] * 3 + ["Normal"] * 3 + ["many"] * 5
        assert rows[0]["bits"] == "01"
        assert float(rows[10]["many"]) == 1

    def test_of_anomalies_has_scores_and_counts_dies(self) -> None:
        anomaly(Path("m.onnx"))
        assert main(["predict", "model=m.onnx", "input=wafers.npy", "output=found.csv", "heat_maps=true"]) == 0
        rows = table("found.csv")
        assert list(rows[0]) == ["wafer", "score", "abnormal", "abnormal_dies"]
        assert [int(row["abnormal"]) for row in rows] == [0] * 5 + [1] * 6
        assert [int(row["abnormal_dies"]) for row in rows] == [round(48 * float(row["score"])) for row in rows]
        assert (np.load("found_heat_maps.npy") == (np.load("wafers.npy") == 2)).all()

    @pytest.mark.parametrize("make", [classes, anomaly])
    def test_draws_the_line_that_is_asked_for(self, make: object) -> None:
        make(Path("m.onnx"))  # type: ignore[operator]
        threshold = "0.85" if make is anomaly else str(np.log(0.85 / 0.15))
        assert main(["predict", "model=m.onnx", "input=wafers.npy", "output=found", f"threshold={threshold}"]) == 0
        key, yes = ("abnormal", "1") if make is anomaly else ("pattern", "Defect")
        assert [row[key] == yes for row in table()] == [False] * 9 + [True] * 2

    def test_counts_what_was_found(self, capsys: pytest.CaptureFixture[str]) -> None:
        patterns(Path("m.onnx"))
        assert main(["predict", "model=m.onnx", "input=wafers.npy", "pictures=0"]) == 0
        said = capsys.readouterr().out.splitlines()
        assert [line.split() for line in said[:3]] == [["many", "5"], ["few", "3"], ["Normal", "3"]]
        assert said[-1] == "wrote predictions/predictions.csv"


class TestPictures:
    def test_show_the_wafers_that_something_is_most_surely_wrong_with(self) -> None:
        anomaly(Path("m.onnx"))
        assert main(["predict", "model=m.onnx", "input=wafers.npy", "output=found", "pictures=3"]) == 0
        drawn = sorted(Path("found/pictures").iterdir())
        assert [path.name for path in drawn] == ["001_10.png", "002_9.png", "003_8.png"]
        picture = np.asarray(Image.open(drawn[0])).astype(int)
        height, width, _ = picture.shape
        reds = (picture[..., 0] - picture[..., 2] > 80).sum(0)
        assert reds[: width // 2].sum() == 0, "the wafer as it is"
        assert reds[width // 2 :].sum() > height * width / 4, "all dies of this one fail"

    def test_replace_earlier_ones(self) -> None:
        anomaly(Path("m.onnx"))
        for count in (3, 1):
            assert main(["predict", "model=m.onnx", "input=wafers.npy", "output=found", f"pictures={count}"]) == 0
        assert len(list(Path("found/pictures").iterdir())) == 1


class TestWhatIsThereAlready:
    @pytest.mark.parametrize(("given", "output"), [("lot.csv", "lot.csv"), ("lots", "lots/found"), ("lots", "lots")])
    def test_of_the_input_is_not_written_over(
        self, given: str, output: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        patterns(Path("m.onnx"))
        Path("lots").mkdir()
        Path("lot.csv").write_text("lot,wafer,x,y,bin\nA,1,0,0,1\n")
        assert main(["predict", "model=m.onnx", f"input={given}", f"output={output}"]) == 2
        assert f"output={output} lies in input={given}, or is it" in capsys.readouterr().err
        assert Path("lot.csv").read_text().startswith("lot,wafer")

    def test_of_other_wafers_does_not_stay_beside_the_table(self) -> None:
        anomaly(Path("m.onnx"))
        assert main(["predict", "model=m.onnx", "input=wafers.npy", "output=found", "heat_maps=true"]) == 0
        assert Path("found/heat_maps.npy").exists()
        assert main(["predict", "model=m.onnx", "input=wafers.npy", "output=found", "pictures=0"]) == 0
        assert [path.name for path in Path("found").rglob("*") if path.is_file()] == ["predictions.csv"]


class TestNotes:
    def said_of(self, maps: np.ndarray, capsys: pytest.CaptureFixture[str]) -> str:
        patterns(Path("m.onnx"))
        np.save("some.npy", maps.astype(np.uint8))
        assert main(["predict", "model=m.onnx", "input=some.npy", "pictures=0"]) == 0
        return " ".join(capsys.readouterr().err.split())

    def test_tell_of_wafers_on_which_no_die_passes(self, capsys: pytest.CaptureFixture[str]) -> None:
        maps = np.full((3, *SIZE), 2)
        maps[0, 0, 0] = 1
        assert "no die passes on 2 of 3 wafers" in self.said_of(maps, capsys)

    def test_tell_of_wafers_that_were_shrunk(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert "larger than the model's 6x8 dies, and shrunk" in self.said_of(np.ones((2, 6, 9)), capsys)

    def test_are_not_made_of_nothing(self, capsys: pytest.CaptureFixture[str]) -> None:
        said = self.said_of(np.ones((2, *SIZE)), capsys)
        assert "passes" not in said
        assert "shrunk" not in said


class TestManyWafers:
    def test_take_no_more_memory_than_few(self) -> None:
        model = OnnxModel(anomaly(Path("m.onnx")))

        def batches(count: int) -> Iterator[Batch]:
            for start in range(count):
                yield Batch([f"{start}/{row}" for row in range(100)], np.ones((100, *SIZE), np.uint8))

        def peak(count: int) -> int:
            tracemalloc.start()
            found = predict(model, batches(count), Wanted(output=Path("found.csv"), pictures=2, heat_maps=True))
            assert found.wafers == 100 * count
            try:
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

        peak(20)
        assert peak(400) < 1.5 * peak(20)

    def test_stay_in_order_in_several_threads(self) -> None:
        model, shares = OnnxModel(anomaly(Path("m.onnx"))), np.random.default_rng(0).random(50)
        batches = (
            Batch([str(row)], (1 + (np.random.default_rng(row).random((1, *SIZE)) < share)).astype(np.uint8))
            for row, share in enumerate(shares)
        )
        predict(model, batches, Wanted(output=Path("found.csv"), threads=4))
        rows = table("found.csv")
        assert [row["wafer"] for row in rows] == [str(row) for row in range(50)]
        assert np.corrcoef([float(row["score"]) for row in rows], shares)[0, 1] > 0.9


class TestRequests:
    def test_are_key_and_value(self) -> None:
        asked = parse(
            ["model=zoo/x", "input=a.csv", "threshold=1e-3", "pass_bins=[1, A]", "heat_maps=True", "threads=null"]
        )
        assert (asked.model, asked.input, asked.threshold) == ("zoo/x", Path("a.csv"), 1e-3)
        assert asked.pass_bins == ("1", "A")
        assert asked.heat_maps is True
        assert asked.threads is None

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            (["input=a"], "model is missing: model="),
            (["model=a.onnx"], "input is missing: input="),
            (["model=a.onnx", "inptu=a"], "Did you mean 'input'?"),
            (["model=a.onnx", "input=a", "pictures=many"], "pictures=many: expected int"),
            (["model=a.onnx", "input=a", "heat_maps=7"], "heat_maps=7: expected true or false"),
            (["model=a.onnx", "input=a", "pictures=-1"], "0 or more"),
            (["model=a.onnx", "input=a", "threads=0"], "at least 1"),
            (["model=a.onnx", "input="], "input= is empty"),
            (["model=a.onnx", "input=a", "threshold=nan"], "threshold=nan is no finite number"),
            (["model=a.onnx", "input=a", "output=a.xlsx"], "a table ends in .csv or .parquet"),
        ],
    )
    def test_that_are_wrong_are_explained(self, wrong: list[str], said: str) -> None:
        with pytest.raises(ConfigError) as error:
            parse(wrong)
        assert said in str(error.value)

    def test_are_explained_where_help_is_asked_for(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["predict", "model=zoo/mixed", "--help"]) == 0
        said = capsys.readouterr().out
        assert {line.split()[0] for line in said.splitlines()[2:]} == {field.name for field in fields(Request)}
        assert max(map(len, said.splitlines())) <= 80

    def test_have_the_same_keys_and_defaults_as_those_of_trained_models(self) -> None:
        from waferlab.experiment.compose import compose_overrides, plain

        composed = plain(compose_overrides("predict", ["model=zoo/x", "input=a"]))
        asked = vars(parse(["model=zoo/x", "input=a"]))
        assert {key: composed[key] for key in asked if key not in ("input", "output")} == {
            key: value for key, value in asked.items() if key not in ("input", "output")
        }


def test_needs_neither_torch_nor_hydra(tmp_path: Path) -> None:
    anomaly(Path("m.onnx"))
    code = (
        "import sys; from waferlab.cli import main; "
        "code = main(['predict', 'model=m.onnx', 'input=wafers.npy', 'pictures=2']); "
        "print(code, *sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr.split()
    needed = set(said) & {
        "torch",
        "hydra",
        "omegaconf",
        "pydantic",
        "scipy",
        "sklearn",
        "pandas",
        "matplotlib",
        "mlflow",
        "onnx",
    }
    assert needed == set()
    assert "0" in said


def test_is_open_from_python() -> None:
    model = waferlab.load(str(anomaly(Path("m.onnx"))))
    assert model.predict(np.load("wafers.npy"))[1].shape == (11,)
