"""Exported models: answers of each kind, any number of maps, and files that are none."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from tiny import SIZE, anomaly, broken, classes, patterns

from waferlab.edge.card import Card
from waferlab.edge.model import Anomalies, Moved, OnnxModel, Patterns
from waferlab.errors import WaferlabError


def maps(*shares: float) -> np.ndarray:
    """Maps of which these shares of the places fail."""
    flat = np.ones((len(shares), SIZE[0] * SIZE[1]), np.uint8)
    for row, share in enumerate(shares):
        flat[row, : round(share * flat.shape[1])] = 2
    return flat.reshape(-1, *SIZE)


class TestAnswers:
    def test_of_patterns_are_the_signs_of_the_logits_and_their_logistic_function(self, tmp_path: Path) -> None:
        answer = OnnxModel(patterns(tmp_path / "m.onnx")).answer(maps(0, 0.25, 0.375, 0.75))
        assert isinstance(answer, Patterns)
        assert answer.bits.tolist() == [[0, 1], [0, 0], [0, 0], [1, 0]]
        assert answer.probabilities.dtype == np.float32
        expected = 1 / (1 + np.exp(-np.array([-50, -25, -12.5, 25])))
        assert answer.probabilities[:, 0] == pytest.approx(expected, rel=1e-4)

    def test_of_one_class_are_as_the_graph_gives_them(self, tmp_path: Path) -> None:
        answer = OnnxModel(classes(tmp_path / "m.onnx")).answer(maps(0.25, 0.75))
        assert isinstance(answer, Patterns)
        assert answer.bits.tolist() == [[1, 0], [0, 1]]
        assert answer.probabilities.tolist() == [[0.75, 0.25], [0.25, 0.75]]

    def test_of_anomalies_are_scores_and_die_maps(self, tmp_path: Path) -> None:
        shown = maps(0.25, 0.75)
        answer = OnnxModel(anomaly(tmp_path / "m.onnx")).answer(shown)
        assert isinstance(answer, Anomalies)
        assert answer.scores.tolist() == [0.25, 0.75]
        assert answer.die_maps is not None
        assert (answer.die_maps == (shown == 2)).all()

    @pytest.mark.parametrize("count", [0, 1, 256, 600])
    def test_come_for_any_number_of_maps(self, count: int, tmp_path: Path) -> None:
        shown = np.random.default_rng(0).integers(0, 3, (count, *SIZE), np.uint8)
        scores = OnnxModel(anomaly(tmp_path / "m.onnx")).predict(shown)[1]
        np.testing.assert_allclose(scores, (shown == 2).mean((1, 2)), rtol=1e-6)

    def test_in_python_are_bits_or_die_maps_and_scores(self, tmp_path: Path) -> None:
        assert OnnxModel(patterns(tmp_path / "p.onnx")).predict(maps(0.75)).tolist() == [[1, 0]]
        die_maps, scores = OnnxModel(anomaly(tmp_path / "a.onnx")).predict(maps(0.75))
        assert die_maps.shape == (1, *SIZE)
        assert scores.tolist() == [0.75]

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            (np.zeros((2, 5, 8), np.uint8), r"not \(2, 5, 8\) uint8"),
            (np.zeros((2, *SIZE)), r"not \(2, 6, 8\) float64"),
            (np.full((2, *SIZE), 3, np.uint8), "uint8 up to 3"),
        ],
    )
    def test_are_not_given_of_what_the_model_does_not_read(self, wrong: np.ndarray, said: str, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match=said):
            OnnxModel(patterns(tmp_path / "m.onnx")).answer(wrong)


class TestThresholds:
    @pytest.mark.parametrize(("threshold", "defects"), [(-10, [1, 1]), (0, [0, 1]), (1, [0, 1]), (10, [0, 0])])
    def test_of_one_class_move_between_normal_and_defect(
        self, threshold: float, defects: list[int], tmp_path: Path
    ) -> None:
        moved = Moved(OnnxModel(classes(tmp_path / "m.onnx")), threshold)
        answer = moved.answer(maps(0.25, 0.75))  # log odds of -1.1 and 1.1
        assert isinstance(answer, Patterns)
        assert answer.bits[:, 1].tolist() == defects
        assert moved.card.threshold == threshold

    def test_want_a_normal_class(self, tmp_path: Path) -> None:
        card = Card("class", SIZE, ("Center", "Donut"))
        with pytest.raises(WaferlabError, match="none of this model's classes is the normal one"):
            Moved(OnnxModel(classes(tmp_path / "m.onnx", card)), 0)


class TestFiles:
    def test_that_are_missing_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match=r"m\.onnx doesn't exist"):
            OnnxModel(tmp_path / "m.onnx")

    @pytest.mark.parametrize(
        "damage", [lambda whole: b"", lambda whole: whole[: len(whole) // 2], lambda _: b"hello" * 99]
    )
    def test_that_are_damaged_are_named(self, damage: object, tmp_path: Path) -> None:
        path = patterns(tmp_path / "m.onnx")
        path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
        with pytest.raises(WaferlabError, match=r"m\.onnx is no"):
            OnnxModel(path)

    def test_that_give_no_numbers_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match="no finite number; it is damaged"):
            OnnxModel(broken(tmp_path / "m.onnx")).answer(np.ones((2, *SIZE), np.uint8))

    def test_whose_card_has_another_size_are_refused_when_they_run(self, tmp_path: Path) -> None:
        graph = onnx.load(anomaly(tmp_path / "m.onnx"))
        graph.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 5
        onnx.save(graph, tmp_path / "m.onnx")
        with pytest.raises(WaferlabError, match="can't be run"):
            OnnxModel(tmp_path / "m.onnx").answer(np.ones((2, *SIZE), np.uint8))

    def test_whose_card_has_other_classes_than_they_answer_for_are_refused(self, tmp_path: Path) -> None:
        made = patterns(tmp_path / "m.onnx", Card("patterns", SIZE, ("many",)))
        with pytest.raises(WaferlabError, match="says that it has 1 classes, but answers for 2"):
            OnnxModel(made)

    def test_whose_card_and_outputs_disagree_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match="says that it is for 'anomaly', but gives logits"):
            OnnxModel(patterns(tmp_path / "m.onnx", Card("anomaly", SIZE)))
