"""Models in MLflow: what `mlflow.pyfunc` and `mlflow models serve` answer, and that neither needs torch or us."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import Request

import numpy as np
import pytest
import torch
import yaml
from local_servers import first_answer, free_port
from numpy.typing import NDArray

from waferlab.config import DetectorConfig, ModelConfig, TrackingConfig
from waferlab.data.dataset import Dataset
from waferlab.errors import WaferlabError
from waferlab.experiment.compose import compose_overrides, configuration
from waferlab.models.classifier import Classifier, predict_logits
from waferlab.models.detector import Detector, build_detector
from waferlab.models.files import save_detector, save_model
from waferlab.tracking.mlflow_model import keep_model
from waferlab.tracking.registry import register, registered
from waferlab.tracking.run import MODEL_FILE
from waferlab.tracking.tracker import Tracker

#: Loads an MLflow model where none of these can be imported, and says what it answers.
PREDICTS = """
import sys
for missing in ("torch", "waferlab", "lightning", "timm", "hydra", "optuna", "torchvision"):
    sys.modules[missing] = None
import mlflow.pyfunc, numpy
answers = mlflow.pyfunc.load_model(sys.argv[1]).predict(numpy.load(sys.argv[2]))
numpy.savez(sys.argv[3], **answers)
"""


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Tracker:
    return Tracker(TrackingConfig(uri=None, experiment="test", tags={}), tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def maps(tiny_dataset: Dataset) -> NDArray[np.uint8]:
    return tiny_dataset.wafers.maps[:5]


@pytest.fixture(scope="module")
def classifier(tiny_dataset: Dataset) -> Classifier:
    torch.manual_seed(0)
    given = {"_target_": "waferlab.models.students.Net2", "encoding": "die_fail"}
    return Classifier(ModelConfig.model_validate(given), tiny_dataset.classes, tiny_dataset.wafers.size).eval()


@pytest.fixture(scope="module")
def detector(tiny_dataset: Dataset) -> tuple[Detector, DetectorConfig]:
    torch.manual_seed(0)
    config = configuration(compose_overrides("train", ["task=anomaly", "backbone=compact"])).detector
    made = build_detector(config, tiny_dataset.classes, tiny_dataset.wafers.size)
    made.standardise(tiny_dataset.wafers.maps)
    made.calibrate(tiny_dataset.wafers.maps)
    made.thresholds.copy_(torch.tensor([0.5, 0.5]))
    return made, config


@pytest.fixture(scope="module")
def kept(tracker: Tracker, classifier: Classifier, maps: NDArray[np.uint8]) -> str:
    """The run of a kept classifier."""
    with tracker.run("test", {}) as run:
        file = save_model(classifier, tracker.store / run.id / MODEL_FILE)
        keep_model(run, classifier, file, maps[:1], file.parent)
    return run.id


def answers(tracker: Tracker, run_id: str, maps: NDArray[np.uint8], folder: Path) -> dict[str, NDArray[np.generic]]:
    """What `mlflow.pyfunc` answers in a process without torch and without this project."""
    model = tracker.client.download_artifacts(run_id, "model")
    np.save(folder / "maps.npy", maps)
    given = [model, str(folder / "maps.npy"), str(folder / "answers.npz")]
    subprocess.run([sys.executable, "-c", PREDICTS, *given], check=True, capture_output=True)
    with np.load(folder / "answers.npz") as found:
        return dict(found)


class TestPyfunc:
    def test_of_a_classifier_gives_bits_and_probabilities(
        self, tracker: Tracker, kept: str, classifier: Classifier, maps: NDArray[np.uint8], tmp_path: Path
    ) -> None:
        found = answers(tracker, kept, maps, tmp_path)
        assert np.array_equal(found["bits"], classifier.predict(maps))
        expected = predict_logits(classifier, maps).sigmoid().numpy()
        np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)

    def test_of_a_detector_gives_decisions_scores_and_die_maps(
        self,
        tracker: Tracker,
        detector: tuple[Detector, DetectorConfig],
        maps: NDArray[np.uint8],
        tiny_dataset: Dataset,
        tmp_path: Path,
    ) -> None:
        model, config = detector
        with tracker.run("test", {}) as run:
            file = save_detector(model, config, tiny_dataset.classes, tmp_path / MODEL_FILE)
            keep_model(run, model, file, maps[:1], tmp_path)
        found = answers(tracker, run.id, maps, tmp_path)
        die_maps, scores = model.predict(maps)
        np.testing.assert_allclose(found["score"], scores, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(found["die_map"], die_maps, rtol=1e-3, atol=1e-3)
        assert np.array_equal(found["abnormal"], found["score"] >= 0.5)

    def test_has_a_signature_an_example_and_the_names_of_its_classes(
        self, tracker: Tracker, kept: str, classifier: Classifier
    ) -> None:
        folder = Path(tracker.client.download_artifacts(kept, "model"))
        described = yaml.safe_load((folder / "MLmodel").read_text())
        assert described["metadata"]["classes"] == list(classifier.classes)
        assert json.loads(described["signature"]["inputs"])[0]["tensor-spec"] == {
            "dtype": "uint8",
            "shape": [-1, 52, 52],
        }
        assert (folder / "input_example.json").is_file()
        assert (folder / "requirements.txt").read_text().count("==") == 4

    def test_is_left_out_where_a_network_has_no_onnx_form(
        self, tracker: Tracker, classifier: Classifier, maps: NDArray[np.uint8], tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        file = save_model(classifier, tmp_path / MODEL_FILE)

        def cannot(*_: object, **__: object) -> None:
            raise RuntimeError("no such operator")

        monkeypatch.setattr(torch.onnx, "export", cannot)
        with tracker.run("test", {}) as run:
            keep_model(run, classifier, file, maps[:1], tmp_path)
        assert [kept.path for kept in tracker.client.list_artifacts(run.id, "model")] == [f"model/{MODEL_FILE}"]
        assert "can't be exported to ONNX: no such operator" in capsys.readouterr().err
        with pytest.raises(WaferlabError, match="kept no MLflow model"):
            register(tracker, run.id, "wafers", None)


class TestRegistered:
    def test_versions_count_and_an_alias_moves_to_the_newest(self, tracker: Tracker, kept: str) -> None:
        assert [register(tracker, kept, "counted", "champion") for _ in range(2)] == [1, 2]
        assert tracker.client.get_model_version_by_alias("counted", "champion").version == 2
        assert registered(tracker, "models:/counted@champion") == registered(tracker, "models:/counted/1") == kept

    @pytest.mark.parametrize("reference", ["models:/nobody@champion", "models:/nobody/1", "models:/nobody"])
    def test_one_that_is_not_there_is_a_sentence(self, reference: str, tracker: Tracker) -> None:
        with pytest.raises(WaferlabError, match=rf"{reference} is no registered model at sqlite"):
            registered(tracker, reference)

    def test_is_served_and_answers_a_wafer_map(
        self, tracker: Tracker, kept: str, classifier: Classifier, maps: NDArray[np.uint8]
    ) -> None:
        register(tracker, kept, "served", "champion")
        port = free_port()
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # it starts uvicorn
        command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/served@champion"]
        server = subprocess.Popen(
            [*command, "--env-manager", "local", "--port", str(port)],
            stderr=subprocess.DEVNULL,
            env=os.environ | {"MLFLOW_TRACKING_URI": tracker.uri, "PATH": path},
            start_new_session=True,
        )
        request = Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps({"inputs": maps.tolist()}).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            said = json.loads(first_answer(server, request))["predictions"]
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        assert said["bits"] == classifier.predict(maps).tolist()
        assert np.shape(said["probabilities"]) == (5, 8)
