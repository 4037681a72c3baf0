"""ExecuTorch programs: the same answers as the model's, in fp32 and in int8, with the card inside."""

import numpy as np
import pytest
from numpy.typing import NDArray

from waferlab.data.dataset import Dataset
from waferlab.deploy.answers import AT_ONCE
from waferlab.deploy.formats import FORMATS, Name, Source
from waferlab.edge.card import KEY, Card
from waferlab.models.anomaly_model import AnomalyModel
from waferlab.models.classifier import Classifier, predict_logits

pytest.importorskip("executorch")


@pytest.fixture(scope="module")
def programs(patterns: Source) -> dict[Name, bytes]:
    return {name: FORMATS[name].make(patterns) for name in ("executorch", "executorch-int8")}


@pytest.fixture
def maps(tiny_dataset: Dataset) -> NDArray[np.uint8]:
    return tiny_dataset.wafers.maps


class TestPrograms:
    @pytest.mark.parametrize("count", [AT_ONCE, 40, 1])
    def test_answer_as_the_model_does_for_one_map_and_for_many(
        self, count: int, programs: dict[Name, bytes], patterns: Source, maps: NDArray[np.uint8]
    ) -> None:
        found = FORMATS["executorch"].answers(programs["executorch"], patterns)(maps[:count])
        expected = predict_logits(patterns.model, maps[:count]).numpy()
        np.testing.assert_allclose(found["logits"], expected, atol=1e-4)

    def test_answer_nearly_so_in_int8(
        self, programs: dict[Name, bytes], patterns: Source, maps: NDArray[np.uint8]
    ) -> None:
        answer = FORMATS["executorch-int8"].answers(programs["executorch-int8"], patterns)
        found, expected = answer(maps[:40])["logits"], predict_logits(patterns.model, maps[:40]).numpy()
        assert 0 < np.abs(found - expected).max() < 0.6 * expected.std()

    @pytest.mark.parametrize("name", ["executorch", "executorch-int8"])
    def test_hold_their_card(self, name: Name, programs: dict[Name, bytes], patterns: Source) -> None:
        from executorch.runtime import Runtime

        method = Runtime.get().load_program(programs[name]).load_method(KEY)
        assert Card.of(bytes(method.execute([])[0].numpy()).decode(), name) == patterns.card

    def test_earlier_answers_outlast_later_ones(
        self, programs: dict[Name, bytes], patterns: Source, maps: NDArray[np.uint8]
    ) -> None:
        answer = FORMATS["executorch"].answers(programs["executorch"], patterns)
        first = answer(maps[:2])["logits"]
        before = first.copy()
        answer(maps[2:4])
        assert np.array_equal(first, before)

    def test_of_a_detector_score_wafers_and_dies(self, detector: Source, maps: NDArray[np.uint8]) -> None:
        found = FORMATS["executorch"].answers(FORMATS["executorch"].make(detector), detector)(maps[:40])
        assert isinstance(detector.model, AnomalyModel)
        die_maps, scores = detector.model.predict(maps[:40])
        assert die_maps is not None
        np.testing.assert_allclose(found["score"], scores, atol=1e-3 * scores.std())
        np.testing.assert_allclose(found["die_map"], die_maps, atol=1e-3 * die_maps.std())

    def test_of_one_class_by_all_views_answer_nearly_so_in_int8(
        self, inspector: Source, maps: NDArray[np.uint8]
    ) -> None:
        name: Name = "executorch-int8"
        found = FORMATS[name].answers(FORMATS[name].make(inspector), inspector)(maps[:40])
        assert isinstance(inspector.model, Classifier)
        np.testing.assert_allclose(found["probabilities"], inspector.model.answer(maps[:40])[1], atol=0.3)
        assert (found["bits"].sum(1) == 1).all()
