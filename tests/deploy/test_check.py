"""What an exported model is measured by, and when it is refused: with formats whose answers are made by hand."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from waferlab.data.dataset import Dataset, Wafers
from waferlab.deploy import check
from waferlab.deploy.answers import Outputs, own_answer
from waferlab.deploy.check import Measured, Tolerance, exported
from waferlab.deploy.formats import FORMATS, Format, Source
from waferlab.edge.card import Card
from waferlab.errors import ConfigError, WaferlabError
from waferlab.models.classifier import Classifier, predict_logits

STRICT = Tolerance(difference=0, loss=0)
LAX = Tolerance(difference=np.inf, loss=100)
Change = Callable[[Outputs], Outputs]


@pytest.fixture(autouse=True)
def _in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "_LONG_ENOUGH", 0)


@pytest.fixture
def val(tiny_dataset: Dataset, classifier: Classifier) -> Wafers:
    """Validation wafers that the classifier is right about."""
    wafers = tiny_dataset.part("val")
    return replace(wafers, labels=classifier.predict(wafers.maps))


@pytest.fixture
def source(classifier: Classifier, val: Wafers) -> Source:
    return Source(classifier, Card("patterns", classifier.size, classifier.classes), val.maps)


def export(
    source: Source,
    val: Wafers,
    change: Change,
    tolerance: Tolerance,
    monkeypatch: pytest.MonkeyPatch,
    is_int8: bool = False,
) -> list[Measured]:
    """Export to a format that answers as the model does, but for a change."""
    own = own_answer(source.model)
    fake = Format(
        ".x", lambda _: b"12345", lambda *_: lambda maps: change(own(maps)), "executorch" if is_int8 else None
    )
    monkeypatch.setitem(FORMATS, "executorch", Format(".x", lambda _: b"1234567", lambda *_: own))
    monkeypatch.setitem(FORMATS, "onnx", fake)
    content, rows = exported(source, "onnx", 99, val, tolerance)
    assert content == b"12345"
    return rows


def unchanged(outputs: Outputs) -> Outputs:
    return outputs


def with_one_wrong(outputs: Outputs) -> Outputs:
    """Of each batch, the first map has the opposite of its first defect."""
    logits = outputs["logits"].copy()
    logits[0, 0] *= -1
    return {"logits": logits}


class TestMeasured:
    def test_the_same_is_right_as_often_and_does_not_differ(
        self, source: Source, val: Wafers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        original, made = export(source, val, unchanged, STRICT, monkeypatch)
        assert (original.name, original.bytes, made.name, made.bytes) == ("model", 99, "onnx", 5)
        for row in (original, made):
            assert row.right == {"exact match": 100}
            assert (row.agreement, row.difference) == (100, 0)
            assert row.maps_per_second > 0
            assert row.milliseconds > 0

    def test_one_map_of_forty_that_is_decided_otherwise(
        self, source: Source, val: Wafers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = export(source, val, with_one_wrong, LAX, monkeypatch)[1]
        assert len(val) <= 64, "one batch"
        assert made.agreement == made.right["exact match"] == pytest.approx(100 - 100 / len(val))
        first = abs(float(predict_logits(source.model, val.maps[:1])[0, 0]))
        assert made.difference == pytest.approx(2 * first, rel=1e-4)

    def test_int8_stands_below_the_same_in_fp32(
        self, source: Source, val: Wafers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = export(source, val, unchanged, STRICT, monkeypatch, is_int8=True)
        assert [(row.name, row.bytes) for row in rows] == [("model", 99), ("executorch", 7), ("onnx", 5)]


class TestRefused:
    def test_a_difference_in_fp32_beyond_the_tolerance(
        self, source: Source, val: Wafers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def shifted(outputs: Outputs) -> Outputs:
            return {"logits": outputs["logits"] + np.float32(0.25)}

        with pytest.raises(WaferlabError, match=r"differs by 0\.25 .* most_difference=0\.2 is allowed; nothing was"):
            export(source, val, shifted, Tolerance(0.2, 100), monkeypatch)
        assert export(source, val, shifted, Tolerance(0.3, 0), monkeypatch)

    def test_decisions_of_int8_that_are_others_though_as_often_right(
        self, source: Source, val: Wafers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wrong = replace(val, labels=1 - val.labels)
        with pytest.raises(WaferlabError, match=r"% of the maps are decided otherwise, and most_disagreement=2 is"):
            export(source, wrong, with_one_wrong, Tolerance(0, 0, 2), monkeypatch, is_int8=True)
        assert export(source, wrong, with_one_wrong, Tolerance(0, 0, 3), monkeypatch, is_int8=True)

    def test_a_loss_in_int8_beyond_the_tolerance(
        self, source: Source, val: Wafers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        share = 100 - 100 / len(val)
        with pytest.raises(
            WaferlabError, match=rf"exact match falls from 100\.00 to {share:.2f} %, and most_loss=2 points"
        ):
            export(source, val, with_one_wrong, Tolerance(0, 2), monkeypatch, is_int8=True)
        assert export(source, val, with_one_wrong, Tolerance(0, 3), monkeypatch, is_int8=True)

    @pytest.mark.parametrize("is_int8", [True, False])
    @pytest.mark.parametrize("number", [np.nan, np.inf])
    def test_outputs_that_are_no_numbers(
        self, number: float, is_int8: bool, source: Source, val: Wafers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(outputs: Outputs) -> Outputs:
            return {"logits": np.full_like(outputs["logits"], number)}

        with pytest.raises(WaferlabError, match="no finite numbers"):
            export(source, val, broken, LAX, monkeypatch, is_int8)

    def test_a_model_without_such_a_form_in_a_sentence_that_says_why(
        self, source: Source, val: Wafers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(_: Source) -> bytes:
            try:
                raise ValueError("no such operator: frobnicate\nand a page more")
            except ValueError as error:
                raise RuntimeError("export failed") from error

        monkeypatch.setitem(FORMATS, "onnx", Format(".x", fails, lambda *_: own_answer(source.model)))
        with pytest.raises(
            WaferlabError, match=r"format=onnx: this model can't be exported to it: no such operator: frob\w+$"
        ):
            exported(source, "onnx", 99, val, LAX)

    def test_a_package_that_is_not_there(self) -> None:
        with pytest.raises(ConfigError, match=r"pip install 'waferlab\[train,frobnicator\]'"):
            Format(".x", lambda _: b"", lambda *_: own_answer, package="frobnicator").require()


class TestAnomalies:
    """Four wafers, of which the last two are abnormal; the model's scores are 1, 3, 2 and 4."""

    SCORES = np.array([1, 3, 2, 4], np.float32)

    @pytest.fixture
    def four(self, val: Wafers) -> Wafers:
        labels = np.zeros((4, len(val.classes)), np.uint8)
        labels[2:, 0] = 1
        return replace(val[:4], labels=labels)

    def rows(
        self, wafers: Wafers, threshold: float | None, made: NDArray[np.float32], tolerance: Tolerance,
        source: Source, monkeypatch: pytest.MonkeyPatch,
    ) -> list[Measured]:  # fmt: skip
        scored = replace(source, card=Card("anomaly", source.card.size, threshold=threshold))
        monkeypatch.setattr(check, "own_answer", lambda _: lambda maps: {"score": self.SCORES[: len(maps)]})
        plain = Format(".x", lambda _: b"", lambda *_: lambda maps: {"score": self.SCORES[: len(maps)]})
        monkeypatch.setitem(FORMATS, "executorch", plain)
        fake = Format(".x", lambda _: b"", lambda *_: lambda maps: {"score": made[: len(maps)]}, "executorch")
        monkeypatch.setitem(FORMATS, "onnx", fake)
        return exported(scored, "onnx", 99, wafers, tolerance)[1]

    def test_are_right_by_rank_and_by_threshold(
        self, four: Wafers, source: Source, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = np.array([1, 2.5, 2, 4], np.float32)
        rows = self.rows(four, 2.8, made, LAX, source, monkeypatch)
        assert rows[0].right == {"AUROC": 75, "accuracy": 50}
        assert rows[2].right == {"AUROC": 75, "accuracy": 75}
        assert rows[2].agreement == 75
        assert rows[2].difference == pytest.approx(0.5 / self.SCORES.std())

    def test_a_loss_by_threshold_alone_is_one(
        self, four: Wafers, source: Source, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(WaferlabError, match=r"accuracy falls from 75\.00 to 50\.00 %"):
            self.rows(four, 3.5, self.SCORES - 1, STRICT, source, monkeypatch)

    def test_without_a_threshold_rank_alone_counts(
        self, four: Wafers, source: Source, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert self.rows(four, None, self.SCORES + 7, STRICT, source, monkeypatch)[2].right == {"AUROC": 75}
        with pytest.raises(WaferlabError, match=r"AUROC falls from 75\.00 to 50\.00 %"):
            self.rows(four, None, np.array([1, 4, 2, 3], np.float32), STRICT, source, monkeypatch)

    def test_of_one_kind_and_without_a_threshold_nothing_can_be_right_or_wrong(
        self, four: Wafers, source: Source, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        normal = replace(four, labels=np.zeros_like(four.labels))
        assert self.rows(normal, None, self.SCORES + 7, STRICT, source, monkeypatch)[2].right == {}
