"""A detector: a frozen teacher, what is asked of the student, and a file that holds them all."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from waferlab.config import DetectorConfig
from waferlab.data.dataset import Dataset
from waferlab.errors import ConfigError, WaferlabError
from waferlab.models.classifier import Classifier
from waferlab.models.detector import Detector, build_detector
from waferlab.models.files import (
    load_any,
    load_detector,
    load_model,
    save_detector,
    save_model,
)
from waferlab.models.trust import require_detector_saveable
from waferlab.wafer import DEFECTS, NO_DIE

SIZE = (52, 52)


def config(attention: str | None = None, training: str = "frozen", distance: str = "unit") -> DetectorConfig:
    module = {"_target_": f"waferlab.models.attention.{attention}"} if attention else None
    backbone = {"_target_": "waferlab.models.students.Compact", "width": 4, "depths": [1, 1, 1], "encoding": "die_fail"}
    parts = {
        "backbone": backbone,
        "pyramid": {"levels": [0, 1, 2], "input_size": None, "distance": distance, "cache_gb": 0},
        "attention": {
            "module": module, "training": training, "layer_norm": bool(module), "fidelity": 1, "pretrain_epochs": 1,
        },
        "score": {"_target_": "waferlab.models.scoring.Scoring", "calibration": "level", "conditional": True},
    }  # fmt: skip
    return DetectorConfig.model_validate(parts)


def detector(attention: str | None = None, training: str = "frozen", distance: str = "unit") -> Detector:
    torch.manual_seed(0)
    return build_detector(config(attention, training, distance), DEFECTS, SIZE)


@pytest.fixture
def maps(tiny_dataset: Dataset) -> NDArray[np.uint8]:
    return tiny_dataset.part("val").maps


class TestTraining:
    @pytest.mark.parametrize(("training", "learns"), [("frozen", False), ("joint", True), ("pretrained", True)])
    def test_the_attention_learns_only_where_that_is_asked_for(self, training: str, learns: bool) -> None:
        found = detector("DualAttention", training)
        assert any(parameter.requires_grad for parameter in found.targets.parameters()) == learns

    @pytest.mark.parametrize("distance", ["unit", "standard"])
    def test_the_teacher_never_learns_and_keeps_its_statistics(self, distance: str, maps: NDArray[np.uint8]) -> None:
        found = detector(distance=distance).train()
        assert not any(parameter.requires_grad for parameter in found.teacher.parameters())
        before = [buffer.clone() for buffer in found.teacher.buffers()]
        found(torch.from_numpy(maps[:4]))
        assert all(torch.equal(*pair) for pair in zip(before, found.teacher.buffers(), strict=True))

    def test_standard_features_have_mean_0_and_variance_1_on_the_wafers_they_are_standardised_on(
        self, maps: NDArray[np.uint8]
    ) -> None:
        found = detector(distance="standard")
        raw = found.teacher.pyramid(torch.from_numpy(maps))
        found.standardise(maps)
        for level, before in zip(found.features(torch.from_numpy(maps)), raw, strict=True):
            variance, mean = torch.var_mean(before, (0, 2, 3), correction=0)
            expected = (before - mean[:, None, None]) / (variance[:, None, None] + 1e-3).sqrt()
            assert torch.allclose(level, expected, atol=1e-4)

    def test_every_wafer_counts_as_much_for_the_standard_as_any_other(self, maps: NDArray[np.uint8]) -> None:
        found, again = detector(distance="standard"), detector(distance="standard")
        many = np.concatenate([maps] * 7)[:257]  # two batches, one of a single wafer
        found.standardise(many)
        again.standardise(many[::-1].copy())
        for one, other in zip(found.teacher.buffers(), again.teacher.buffers(), strict=True):
            assert torch.allclose(one.float(), other.float(), atol=1e-5)

    def test_cached_features_are_the_teachers(self, maps: NDArray[np.uint8]) -> None:
        found, some = detector().eval(), torch.from_numpy(maps[:4])
        features = found.features(some)
        cached = torch.cat([level.flatten(1) for level in features], 1)
        assert all(torch.equal(*pair) for pair in zip(found.features(some, cached), features, strict=True))


class TestPredict:
    def test_a_student_that_equals_its_teacher_finds_nothing(self, maps: NDArray[np.uint8]) -> None:
        found = detector()
        found.student.pyramid.load_state_dict(found.teacher.pyramid.state_dict())
        assert all(level.abs().max() < 1e-5 for level in found.eval()(torch.from_numpy(maps)))

    def test_says_nothing_of_places_without_a_die(self, maps: NDArray[np.uint8]) -> None:
        found = detector()
        found.calibrate(maps)
        die_maps, scores = found.predict(maps)
        assert die_maps.shape == maps.shape
        assert scores.shape == (len(maps),)
        assert (die_maps[maps == NO_DIE] == 0).all()

    def test_the_wafers_it_was_calibrated_on_look_usual(self, maps: NDArray[np.uint8]) -> None:
        found = detector()
        found.calibrate(maps)
        scores = found.predict(maps)[1]
        assert abs(scores.mean()) < 0.05
        assert 0.5 < scores.std() < 3

    @pytest.mark.parametrize(
        "wrong", [np.ones((2, 51, 51), np.uint8), np.ones((2, 52, 52), np.int64), np.full((2, 52, 52), 3, np.uint8)]
    )
    def test_refuses_what_are_no_maps_of_its_size(self, wrong: NDArray[np.uint8]) -> None:
        with pytest.raises(WaferlabError, match=r"this model reads maps \(N, 52, 52\)"):
            detector().predict(wrong)

    def test_a_wafer_without_a_die_has_a_score_like_any_other(self, maps: NDArray[np.uint8]) -> None:
        found = detector()
        with_one = np.concatenate([maps, np.zeros_like(maps[:1])])
        found.calibrate(with_one)
        assert np.isfinite(found.predict(with_one)[1]).all()


class TestFile:
    @pytest.mark.parametrize("distance", ["unit", "standard"])
    @pytest.mark.parametrize("attention", [None, "DualAttention"])
    def test_gives_the_same_detector_back(
        self, attention: str | None, distance: str, maps: NDArray[np.uint8], tmp_path: Path
    ) -> None:
        found = detector(attention, distance=distance)
        found.standardise(maps)
        found.calibrate(maps)
        found.thresholds.copy_(torch.tensor([0.25, 0.5]))
        again = load_any(
            save_detector(found, config(attention, distance=distance), DEFECTS, tmp_path / "model.safetensors")
        )
        assert isinstance(again, Detector)
        assert again.thresholds.tolist() == [0.25, 0.5]
        for one, other in zip(again.predict(maps), found.predict(maps), strict=True):
            assert np.array_equal(one, other)

    @pytest.mark.parametrize("part", ["score", "attention"])
    def test_of_parts_that_no_file_may_name_is_refused_before_training(self, part: str) -> None:
        named = config("DualAttention").model_dump(mode="json", by_alias=True)
        place = named["attention"]["module"] if part == "attention" else named["score"]
        place["_target_"] = "functools.partial"
        with pytest.raises(ConfigError, match=rf"{part}\S*\._target_=functools.partial: give a subclass"):
            require_detector_saveable(DetectorConfig.model_validate(named))

    def test_is_no_classifiers(self, tmp_path: Path) -> None:
        file = save_detector(detector(), config(), DEFECTS, tmp_path / "detector.safetensors")
        with pytest.raises(WaferlabError, match="the model file of a detector"):
            load_model(file)
        classifier = Classifier(config().backbone, DEFECTS, SIZE)
        file = save_model(classifier, tmp_path / "classifier.safetensors")
        with pytest.raises(WaferlabError, match="the model file of a classifier"):
            load_detector(file)

    @pytest.mark.parametrize(
        ("part", "target"),
        [
            ("score", "os.system"),
            ("score", "waferlab.models.students.Net2"),
            ("backbone", "os.system"),
            ("attention", "os.system"),
        ],
    )
    def test_that_names_other_code_is_refused(self, part: str, target: str, tmp_path: Path) -> None:
        named = config().model_dump(mode="json", by_alias=True)
        place = named["attention"] if part == "attention" else named
        place["module" if part == "attention" else part] = {"_target_": target, "encoding": "die_fail"}
        hostile = DetectorConfig.model_validate(named)
        file = save_detector(detector(), hostile, DEFECTS, tmp_path / "model.safetensors")
        with pytest.raises(WaferlabError, match=f"refused, it names '{target}'"):
            load_detector(file)
