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
from waferlab.data.ragged import Resize
from waferlab.edge.card import Card
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

    def test_has_classes_that_are_called_as_its_own_columns_are(self) -> None:
        patterns(Path("m.onnx"), Card("patterns", SIZE, ("pattern", "few")))
        assert main(["predict", "model=m.onnx", "input=wafers.npy", "output=found"]) == 0
        assert list(table()[0]) == ["wafer", "pattern", "bits", "pattern (class)", "few"]

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


class TestWafersWithoutDies:
    @pytest.fixture(autouse=True)
    def _wafers(self) -> None:
        np.save("some.npy", np.stack([np.zeros(SIZE, np.uint8), np.full(SIZE, 2, np.uint8)]))

    def test_have_no_pattern_no_bits_and_no_probabilities(self) -> None:
        patterns(Path("m.onnx"))
        assert main(["predict", "model=m.onnx", "input=some.npy", "output=found.csv"]) == 0
        empty, full = table("found.csv")
        assert list(empty.values()) == ["0", "no dies", "", "", ""]
        assert list(full.values())[:3] == ["1", "many", "10"]
        assert len(list(Path("found_pictures").iterdir())) == 1

    def test_have_no_score_and_are_neither_normal_nor_abnormal(self, capsys: pytest.CaptureFixture[str]) -> None:
        anomaly(Path("m.onnx"))
        assert main(["predict", "model=m.onnx", "input=some.npy", "output=found.csv", "threshold=-1"]) == 0
        empty, _ = table("found.csv")
        assert list(empty.values()) == ["0", "", "0", "0"]
        said = capsys.readouterr()
        assert [line.split()[:2] for line in said.out.splitlines()[:2]] == [["no", "dies"], ["abnormal", "1"]]
        assert "without any die, and so without an answer: 1 of 2 wafers" in " ".join(said.err.split())

    def test_keep_the_types_of_columns(self) -> None:
        pyarrow = pytest.importorskip("pyarrow.parquet")
        for make in (patterns, anomaly):
            make(Path("m.onnx"))
            assert main(["predict", "model=m.onnx", "input=some.npy", "output=found.parquet"]) == 0
            found = pyarrow.read_table("found.parquet")
            assert {str(each) for each in found.schema.types} <= {"string", "double", "bool", "int64"}


class TestAbnormalDies:
    @pytest.mark.parametrize("resize", ["keep", "nearest", "area"])
    @pytest.mark.parametrize("scale", [1, 3])
    def test_are_those_of_the_wafer_as_it_came_whatever_the_models_grid(self, resize: Resize, scale: int) -> None:
        anomaly(Path("m.onnx"), Card("anomaly", SIZE, threshold=0.5, die_threshold=0.5, resize=resize))
        small = np.ones(SIZE, np.uint8)
        small[0, 0], small[2, 3:5] = 0, 2
        np.save("some.npy", small.repeat(scale, 0).repeat(scale, 1))
        assert main(["predict", "model=m.onnx", "input=some.npy", "output=found.csv"]) == 0
        assert table("found.csv")[0]["abnormal_dies"] == str(2 * scale**2)


class TestFolders:
    @pytest.fixture(autouse=True)
    def _lots(self) -> None:
        patterns(Path("m.onnx"))
        Path("lots/retest").mkdir(parents=True)
        for file in ("lots/a.csv", "lots/retest/a.csv"):
            Path(file).write_text("lot,wafer,x,y,bin\nL,1,0,0,1\n")

    def test_have_the_file_of_each_wafer_in_the_table(self) -> None:
        assert main(["predict", "model=m.onnx", "input=lots", "output=found.csv"]) == 0
        assert [(row["wafer"], row["file"]) for row in table("found.csv")] == [
            ("L/1", "a.csv"),
            ("L/1", "retest/a.csv"),
        ]

    def test_with_bad_files_are_refused_unless_these_are_to_be_skipped(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("lots/b.npy").write_bytes(b"broken")
        assert main(["predict", "model=m.onnx", "input=lots", "output=found.csv"]) == 1
        assert "lots/b.npy is damaged" in capsys.readouterr().err
        assert not Path("found.csv").exists()
        assert main(["predict", "model=m.onnx", "input=lots", "output=found.csv", "bad=skip"]) == 0
        assert "skipped, as they can't be read: 1 file (b.npy)" in capsys.readouterr().err
        assert len(table("found.csv")) == 2


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

    def test_are_titled_by_the_row_where_a_name_cannot_be_drawn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model, titles = OnnxModel(anomaly(Path("m.onnx"))), list[str]()
        real = waferlab.edge.predict.picture
        monkeypatch.setattr(
            "waferlab.edge.predict.picture", lambda title, *rest: titles.append(title) or real(title, *rest)
        )
        found = Batch(["plain", "晶圆/7"], np.full((2, *SIZE), 2, np.uint8))
        predict(model, [found], Wanted(output=Path("found")))
        assert titles == ["plain: abnormal, 1", "row 2: abnormal, 1"]
        assert sorted(path.name for path in Path("found/pictures").iterdir()) == ["001_plain.png", "002_晶圆_7.png"]

    def test_replace_earlier_ones(self) -> None:
        anomaly(Path("m.onnx"))
        for count in (3, 1):
            assert main(["predict", "model=m.onnx", "input=wafers.npy", "output=found", f"pictures={count}"]) == 0
        assert len(list(Path("found/pictures").iterdir())) == 1


class TestWhatIsThereAlready:
    @pytest.mark.parametrize(
        ("given", "output"),
        [
            ("lot.csv", "lot.csv"),
            ("lots", "lots/found"),
            ("lots", "lots"),
            ("lots/predictions.csv", "lots"),
            ("found_pictures", "found.csv"),
            ("found_heat_maps.npy", "found.csv"),
            ("lots/pictures", "lots"),
            ("lot.csv", "same.csv"),
        ],
    )
    def test_of_the_input_is_not_written_over(
        self, given: str, output: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        patterns(Path("m.onnx"))
        Path("lots/pictures").mkdir(parents=True)
        Path("found_pictures").mkdir()
        np.save("found_heat_maps.npy", np.ones((1, *SIZE), np.uint8))
        Path("lot.csv").write_text("lot,wafer,x,y,bin\nA,1,0,0,1\n")
        Path("same.csv").hardlink_to("lot.csv")
        Path("lots/predictions.csv").write_text("lot,wafer,x,y,bin\nA,1,0,0,1\n")
        assert main(["predict", "model=m.onnx", f"input={given}", f"output={output}"]) == 2
        assert f"would be written over input={given}, or into it" in capsys.readouterr().err
        assert Path("lot.csv").read_text().startswith("lot,wafer")
        assert Path("lots/predictions.csv").read_text().startswith("lot,wafer")

    def test_of_somebody_elses_stays(self) -> None:
        anomaly(Path("m.onnx"))
        Path("pictures").mkdir()
        Image.new("RGB", (2, 2)).save("pictures/2024_holiday.png")
        Path("pictures/001_notes.png").write_text("no picture")
        np.save("heat_maps.npy", np.zeros(3))
        assert main(["predict", "model=m.onnx", "input=wafers.npy", "output=.", "pictures=1"]) == 0
        assert {path.name for path in Path("pictures").iterdir()} == {
            "001_10.png",
            "001_notes.png",
            "2024_holiday.png",
        }
        assert Path("heat_maps.npy").exists()

    def test_is_named_where_it_is_no_folder(self, capsys: pytest.CaptureFixture[str]) -> None:
        patterns(Path("m.onnx"))
        Path("found").write_text("notes")
        assert main(["predict", "model=m.onnx", "input=wafers.npy", "output=found"]) == 2
        assert "output=found: found is there already, and is no folder" in capsys.readouterr().err

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

    @pytest.mark.parametrize(
        ("make", "keys", "idle"),
        [
            (patterns, ("threshold=1", "die_threshold=1", "heat_maps=true"), (True, True, True)),
            (classes, ("threshold=1", "die_threshold=1", "heat_maps=true"), (False, True, True)),
            (anomaly, ("threshold=1", "die_threshold=1", "heat_maps=true"), (False, False, False)),
            (patterns, ("bad=skip", "pass_bins=[1]", "pictures=0"), (True, True, False)),
        ],
    )
    def test_tell_of_keys_without_effect(
        self, make: object, keys: tuple[str, ...], idle: tuple[bool, ...], capsys: pytest.CaptureFixture[str]
    ) -> None:
        make(Path("m.onnx"))  # type: ignore[operator]
        assert main(["predict", "model=m.onnx", "input=wafers.npy", *keys]) == 0
        said = capsys.readouterr().err
        found = tuple(any(f"note: {name} has no effect" in said for name in (key, key.split("=")[0])) for key in keys)
        assert found == idle

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
            (["model=a.onnx", "input=a", "pictures=many"], "pictures=many: expected a whole number"),
            (["model=a.onnx", "input=a", "threshold=high"], "threshold=high: expected a number"),
            (["model=a.onnx", "input=a", "bad=ignore"], "bad=ignore: expected refuse or skip"),
            (["model=a.onnx", "input=a", "pass_bins=[1.5]"], "pass_bins=[1.5]: say which bins pass"),
            (["model=a.onnx", "input=a", "pass_bins=[]"], "pass_bins=[]: say which bins pass"),
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
        assert main(["predict", "--help"]) == 0
        said = capsys.readouterr().out
        keys = {line.split()[0] for line in said.splitlines() if line.startswith("  ")}
        assert keys == {field.name for field in fields(Request)}
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


def test_does_the_same_from_python(capsys: pytest.CaptureFixture[str]) -> None:
    patterns(Path("m.onnx"))
    found = waferlab.predict("model=m.onnx", "input=wafers.npy", "output=found.csv", "pictures=0")
    assert found.wafers == 11
    assert dict(found.patterns) == {"few": 3, "Normal": 3, "many": 5}
    assert found.written == [Path("found.csv")]
    assert capsys.readouterr().out == ""
