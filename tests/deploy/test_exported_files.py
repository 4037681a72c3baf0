"""Exported files as those read them who have neither the model nor torch: every kind of model, every ONNX format."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from waferlab.data.dataset import Dataset
from waferlab.deploy.formats import FORMATS, Name, Source
from waferlab.edge.card import KEY, Card
from waferlab.edge.model import Anomalies, OnnxModel, Patterns
from waferlab.models.classifier import Classifier, predict_logits

ONNX: tuple[Name, ...] = ("onnx", "onnx-int8-weights", "onnx-int8", "onnx-int4-weights")
#: Of a standard deviation of the outputs: how far they may be off.
NEAR = {"onnx": 1e-4, "onnx-int8-weights": 0.2, "onnx-int8": 0.6, "onnx-int4-weights": 2.5}


@pytest.fixture(scope="module")
def maps(tiny_dataset: Dataset) -> NDArray[np.uint8]:
    return tiny_dataset.part("val").maps


def written(source: Source, name: Name, folder: Path) -> OnnxModel:
    """The file, as `waferlab predict` opens it."""
    path = folder / f"model{FORMATS[name].suffix}"
    path.write_bytes(FORMATS[name].make(source))
    return OnnxModel(path)


class TestPatterns:
    @pytest.mark.parametrize("name", ONNX)
    def test_are_those_of_the_model_for_one_map_and_for_many(
        self, name: Name, patterns: Source, classifier: Classifier, maps: NDArray[np.uint8], tmp_path: Path
    ) -> None:
        model, logits = written(patterns, name, tmp_path), predict_logits(classifier, maps).numpy()
        for count in (len(maps), 1):
            found = model.answer(maps[:count])
            assert isinstance(found, Patterns)
            odds = np.log(found.probabilities / (1 - found.probabilities))
            assert np.abs(odds - logits[:count]).max() < NEAR[name] * logits.std()
            is_clear = np.abs(logits[:count]) > NEAR[name] * logits.std()
            assert np.array_equal(found.bits[is_clear], logits[:count][is_clear] > 0)

    def test_files_take_two_kilobytes_beside_their_weights(self, patterns: Source, classifier: Classifier) -> None:
        weights = classifier.fused().parameters_count
        plain, small, static, least = (len(FORMATS[name].make(patterns)) for name in ONNX)
        assert 4 * weights < plain < 4 * weights + 2048
        assert weights < small < weights + 2048
        assert weights < static < weights + 3072
        assert weights / 2 < least < weights / 2 + 3072

    def test_files_are_the_same_each_time(self, patterns: Source) -> None:
        again = replace(patterns)
        for name in ONNX:
            assert FORMATS[name].make(patterns) == FORMATS[name].make(again)


@pytest.mark.parametrize("name", ONNX)
def test_one_class_is_named_by_the_models_own_rule(
    name: Name, inspector: Source, maps: NDArray[np.uint8], tmp_path: Path
) -> None:
    found, model = written(inspector, name, tmp_path).answer(maps), inspector.model
    assert isinstance(found, Patterns)
    assert isinstance(model, Classifier)
    bits, probabilities = model.answer(maps)
    np.testing.assert_allclose(found.probabilities, probabilities, atol=0.5 * NEAR[name])
    assert (found.bits == bits).all(1).mean() > (0.99 if name == "onnx" else 0.8)
    assert (found.bits.sum(1) == 1).all()


class TestAnomalyModels:
    @pytest.mark.parametrize("name", ONNX)
    @pytest.mark.parametrize("kind", ["detector", "normality"])
    def test_score_wafers_and_dies_as_before(
        self, kind: str, name: Name, maps: NDArray[np.uint8], tmp_path: Path, request: pytest.FixtureRequest
    ) -> None:
        source: Source = request.getfixturevalue(kind)
        model = written(source, name, tmp_path)
        for count in (len(maps), 1):
            found, (die_maps, scores) = model.answer(maps[:count]), source.model.predict(maps[:count])
            assert isinstance(found, Anomalies)
            assert found.die_maps is not None
            spread = source.model.predict(maps)[1].std()
            assert np.abs(found.scores - scores).max() < 2 * NEAR[name] * spread
            assert np.abs(found.die_maps - die_maps).mean() < NEAR[name] * die_maps.std()
            assert (found.die_maps[maps[:count] == 0] == 0).all()

    def test_hold_teacher_attention_and_student_in_one_graph(self, detector: Source) -> None:
        weights = sum(parameter.numel() for parameter in detector.model.parameters())
        assert 4 * weights < len(FORMATS["onnx"].make(detector)) < 4 * weights + 20_000


class TestCard:
    def test_of_patterns_names_the_classes_and_the_size(self, patterns: Source, tmp_path: Path) -> None:
        card = written(patterns, "onnx-int8-weights", tmp_path).card
        assert (card.kind, card.size, card.states) == ("patterns", (52, 52), 3)
        assert card.classes == patterns.model.classes
        assert card.version

    def test_of_an_anomaly_model_has_its_thresholds(self, detector: Source, tmp_path: Path) -> None:
        card = written(detector, "onnx", tmp_path).card
        assert (card.kind, card.threshold, card.die_threshold, card.classes) == ("anomaly", 0.25, 0.5, ())

    def test_is_what_the_file_holds_under_its_key(self, patterns: Source) -> None:
        import onnx

        held = onnx.load_from_string(FORMATS["onnx"].make(patterns)).metadata_props
        assert [(each.key, Card.of(each.value, "")) for each in held] == [(KEY, patterns.card)]
