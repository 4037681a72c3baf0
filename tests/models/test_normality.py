"""A model of normality: what it learns from, its scores, and its file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from waferlab.config import NormalityModelConfig
from waferlab.data.dataset import Dataset
from waferlab.errors import ConfigError, WaferlabError
from waferlab.models.classifier import Classifier
from waferlab.models.files import load_any, load_detector, load_model, save_normality
from waferlab.models.normality import Boosting, Drawing, Gathering, Normality, build_normality
from waferlab.models.trust import require_normality_saveable
from waferlab.wafer import DEFECTS, NO_DIE

SIZE = (52, 52)
OURS = "waferlab.models.normality"
MEASURES: dict[str, tuple[dict[str, Any], str | None]] = {
    "gaussian": ({"_target_": f"{OURS}.gaussian.Gaussian"}, "wafer"),
    "gaussian of places": ({"_target_": f"{OURS}.gaussian.Gaussian", "shrinkage": 0.1}, "place"),
    "prototype": ({"_target_": f"{OURS}.gaussian.Prototype"}, "wafer"),
    "neighbours": ({"_target_": f"{OURS}.neighbours.Neighbours", "memory": 7, "drawn": 300}, "place"),
    "vae": ({"_target_": f"{OURS}.autoencoders.Vae", "latent": 2, "width": 2}, None),
    "gan": ({"_target_": f"{OURS}.autoencoders.Gan", "latent": 2, "width": 2}, None),
    "discriminator": (
        {"_target_": f"{OURS}.autoencoders.Gan", "latent": 2, "width": 2, "score": "discriminator"},
        None,
    ),
    "boosting": ({"_target_": f"{OURS}.boosting.Boosting", "scale": 1, "angles": 1, "rounds": 3}, None),
}
#: Those that know nothing of dies.
BLIND = {"gaussian", "prototype", "discriminator", "boosting"}


def config(name: str, **changed: Any) -> NormalityModelConfig:
    normality, of = MEASURES[name]
    parts: dict[str, Any] = {
        "normality": normality | changed,
        "score": {"_target_": "waferlab.models.scoring.Scoring", "calibration": "level", "conditional": True},
    }
    if of is not None:
        compact = {"_target_": "waferlab.models.students.Compact", "width": 4, "depths": [1, 1, 1]}
        parts["backbone"] = {**compact, "encoding": "die_fail"}
        parts["features"] = {"levels": [0, 1], "input_size": None, "of": of, "standard": True}
    return NormalityModelConfig.model_validate(parts)


def made(name: str) -> Normality:
    torch.manual_seed(0)
    return build_normality(config(name), DEFECTS, SIZE)


def learnt(name: str, dataset: Dataset) -> Normality:
    """A model that has learnt from 40 wafers, half of them taken for normal."""
    model, maps = made(name), dataset.part("train").maps[:40]
    if isinstance(model.measure, Drawing):
        model.measure.loss(torch.from_numpy(maps[:20]))  # which moves its batch norms
    else:
        model.gather(maps, np.arange(40) >= 20, seed=0)
    model.calibrate(maps[:20])
    return model


@pytest.fixture
def maps(tiny_dataset: Dataset) -> NDArray[np.uint8]:
    return tiny_dataset.part("val").maps[:15]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


class TestPredict:
    @pytest.mark.parametrize("name", MEASURES)
    def test_scores_wafers_and_dies_where_it_knows_of_them(
        self, name: str, tiny_dataset: Dataset, maps: NDArray[np.uint8]
    ) -> None:
        model = learnt(name, tiny_dataset)
        die_maps, scores = model.predict(maps)
        assert model.knows_dies == (name not in BLIND)
        assert scores.shape == (15,)
        assert np.isfinite(scores).all()
        assert scores.std() > 0
        if die_maps is None:
            assert name in BLIND
        else:
            assert die_maps.shape == maps.shape
            assert (die_maps[maps == NO_DIE] == 0).all()

    @pytest.mark.parametrize("name", ["gaussian", "neighbours", "vae", "boosting"])
    def test_of_a_wafer_without_a_die_is_a_number(
        self, name: str, tiny_dataset: Dataset, maps: NDArray[np.uint8]
    ) -> None:
        assert np.isfinite(learnt(name, tiny_dataset).predict(np.zeros_like(maps[:1]))[1]).all()

    def test_learns_the_same_again_from_the_same_wafers(self, tiny_dataset: Dataset, maps: NDArray[np.uint8]) -> None:
        for name in ("gaussian", "neighbours", "boosting"):
            once, twice = learnt(name, tiny_dataset), learnt(name, tiny_dataset)
            twice.gather(tiny_dataset.part("train").maps[:40], np.arange(40) >= 20, seed=0)
            twice.calibrate(tiny_dataset.part("train").maps[:20])
            np.testing.assert_allclose(twice.predict(maps)[1], once.predict(maps)[1], rtol=1e-5)


class TestCalibration:
    def test_wafers_it_was_calibrated_on_look_usual(self, tiny_dataset: Dataset) -> None:
        scores = learnt("prototype", tiny_dataset).predict(tiny_dataset.part("train").maps[:20])[1]
        assert abs(scores.mean()) < 0.05
        assert 0.5 < scores.std() < 3

    def test_of_what_has_learnt_normal_wafers_by_heart_changes_nothing(
        self, tiny_dataset: Dataset, maps: NDArray[np.uint8]
    ) -> None:
        model = learnt("boosting", tiny_dataset)
        distances = model.measure(torch.from_numpy(maps))
        np.testing.assert_allclose(model.predict(maps)[1], distances, rtol=1e-6)


class TestFile:
    @pytest.mark.parametrize("name", MEASURES)
    def test_gives_exactly_the_same_model_back(
        self, name: str, tiny_dataset: Dataset, maps: NDArray[np.uint8], file: Path
    ) -> None:
        model = learnt(name, tiny_dataset)
        model.thresholds.copy_(torch.tensor([0.25, 0.5]))
        again = load_any(save_normality(model, config(name), DEFECTS, file))
        assert isinstance(again, Normality)
        assert not again.training
        assert again.thresholds.tolist() == [0.25, 0.5]
        for one, other in zip(again.predict(maps), model.predict(maps), strict=True):
            assert (one is None and other is None) or np.array_equal(one, other)

    def test_asks_for_no_initial_weights(self, file: Path) -> None:
        with_weights = config("prototype").model_copy(
            update={"backbone": config("prototype").backbone.model_copy(update={"weights": "imagenet"})}  # type: ignore[union-attr]
        )
        assert isinstance(load_any(save_normality(made("prototype"), with_weights, DEFECTS, file)), Normality)

    def test_says_what_it_is_where_another_kind_is_needed(self, file: Path) -> None:
        save_normality(made("gaussian"), config("gaussian"), DEFECTS, file)
        for load, needed in ((load_model, "a classifier's"), (load_detector, "a detector's")):
            with pytest.raises(WaferlabError, match=f"the model file of a model of normality, and {needed} is needed"):
                load(file)

    @pytest.mark.parametrize(
        ("part", "target"),
        [
            ("normality", "os.system"),
            ("normality", "waferlab.models.students.Net2"),
            ("normality", "waferlab.models.normality.Gaussian"),
            ("normality", "waferlab.models.normality.measure.Measure.forward"),
            ("score", "os.system"),
            ("score", "waferlab.models.normality.gaussian.Gaussian"),
            ("backbone", "os.system"),
        ],
    )
    def test_that_names_other_code_is_refused(self, part: str, target: str, file: Path) -> None:
        named = config("gaussian").model_dump(mode="json", by_alias=True)
        named[part] = {"_target_": target, "encoding": "die_fail"}
        hostile = NormalityModelConfig.model_validate(named)
        save_normality(made("gaussian"), hostile, DEFECTS, file)
        with pytest.raises(WaferlabError, match=f"refused, it names '{target}'"):
            load_any(file)
        if part != "backbone":
            with pytest.raises(ConfigError, match=r"_target_|can't be imported"):
                require_normality_saveable(hostile)

    @pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
    @pytest.mark.parametrize("name", ["gaussian", "vae", "boosting"])
    def test_cut_short_is_said_to_be_damaged(self, name: str, share: float, file: Path) -> None:
        whole = save_normality(made(name), config(name), DEFECTS, file).read_bytes()
        file.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(WaferlabError, match=r"model\.safetensors: .*damaged"):
            load_any(file)

    @pytest.mark.parametrize(
        ("name", "changed"),
        [
            ("vae", {"latent": 3}),
            ("vae", {"latent": 10**12}),
            ("gan", {"width": 10**12}),
            ("gan", {"discriminator": "opinion"}),
            ("boosting", {"rounds": 10**15}),
            ("boosting", {"scale": 10**12}),
            ("boosting", {"leaves": 10**18}),
            ("neighbours", {"memory": 10**15, "drawn": 10**15}),
            ("gaussian", {"features": {"levels": [0]}}),
            ("gaussian", {"shrinkage": 7}),
        ],
    )
    def test_that_describes_another_network_is_refused_and_nothing_large_made(
        self, name: str, changed: dict[str, Any], file: Path
    ) -> None:
        save_normality(made(name), config(name, **changed), DEFECTS, file)
        with pytest.raises(WaferlabError, match=r"model\.safetensors: its weights don't fit"):
            load_any(file)

    @pytest.mark.parametrize("size", [(30, 30), (0, 0), (-8, 52), (10**18, 10**18), (10**40, 10**40)])
    @pytest.mark.parametrize("name", ["vae", "gan", "boosting"])
    def test_of_maps_of_another_size_is_refused(self, name: str, size: tuple[int, int], file: Path) -> None:
        model = made(name)
        model.size = size
        save_normality(model, config(name, **({"scale": 5} if name == "boosting" else {})), DEFECTS, file)
        if name == "boosting" and min(size) >= 32:
            return  # its weights are as many for maps of any size
        with pytest.raises(WaferlabError, match=r"model\.safetensors: its weights don't fit"):
            load_any(file)

    def test_without_its_features_is_refused(self, file: Path) -> None:
        bare = config("gaussian").model_copy(update={"features": None})
        save_normality(made("gaussian"), bare, DEFECTS, file)
        with pytest.raises(WaferlabError, match=r"model\.safetensors: its weights don't fit .*'normality\.features'"):
            load_any(file)

    @pytest.mark.parametrize("buffer", ["feature", "following"])
    @pytest.mark.parametrize("wrong", [-1.0, 0.5, 1e9, float("nan"), float("inf")])
    def test_of_trees_that_no_learning_grows_is_refused(
        self, buffer: str, wrong: float, tiny_dataset: Dataset, file: Path
    ) -> None:
        model = learnt("boosting", tiny_dataset)
        assert isinstance(model.measure, Boosting)
        trees: Tensor = getattr(model.measure, buffer)
        trees.view(-1)[3] = wrong
        save_normality(model, config("boosting"), DEFECTS, file)
        with pytest.raises(WaferlabError, match=r"model\.safetensors: its weights don't fit .*its trees"):
            load_any(file)


@pytest.mark.parametrize("name", [name for name in MEASURES if name != "boosting"])
def test_only_what_is_supervised_says_so(name: str) -> None:
    assert not made(name).measure.is_supervised
    assert made("boosting").measure.is_supervised
    assert isinstance(made(name).measure, Drawing | Gathering)


def test_a_network_that_has_no_levels_is_a_mistake_of_the_configuration() -> None:
    flat = {"_target_": "waferlab.models.students.Net2", "encoding": "die_fail"}
    named = config("gaussian").model_dump(mode="json", by_alias=True) | {"backbone": flat}
    with pytest.raises(ConfigError, match="Net2 has no feature levels"):
        build_normality(NormalityModelConfig.model_validate(named), DEFECTS, SIZE)


def test_the_network_given_is_the_one_that_it_measures_by(maps: NDArray[np.uint8]) -> None:
    parts = config("gaussian")
    assert parts.backbone is not None
    network = Classifier(parts.backbone, DEFECTS, SIZE).eval()
    model = build_normality(parts, DEFECTS, SIZE, network)
    other = build_normality(parts, DEFECTS, SIZE)
    found = model.measure.features(torch.from_numpy(maps))  # type: ignore[operator]
    assert torch.equal(found, build_normality(parts, DEFECTS, SIZE, network).measure.features(torch.from_numpy(maps)))  # type: ignore[operator]
    assert not torch.equal(found, other.measure.features(torch.from_numpy(maps)))  # type: ignore[operator]
