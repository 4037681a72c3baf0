"""Boosted trees as tensors: LightGBM's own answers, without LightGBM."""

import sys
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from lightgbm import LGBMClassifier
from numpy.typing import NDArray
from torch import Tensor

from waferlab.errors import WaferlabError
from waferlab.models.graph import save_graph
from waferlab.models.normality import Boosting, Normality
from waferlab.models.scoring import Scoring
from waferlab.wafer import FAIL

SIZE = (16, 16)


class Plain(Boosting):
    """Whose features are its maps' rows: the trees alone."""

    def features(self, maps: Tensor) -> Tensor:
        return maps


@pytest.fixture
def lightgbms(monkeypatch: pytest.MonkeyPatch) -> list[LGBMClassifier]:
    """LightGBM's models, as they are grown."""
    seen: list[LGBMClassifier] = []
    fit = LGBMClassifier.fit

    def noted(model: LGBMClassifier, *given: Any) -> LGBMClassifier:
        seen.append(model)
        return fit(model, *given)  # type: ignore[no-any-return]

    monkeypatch.setattr(LGBMClassifier, "fit", noted)
    return seen


def learnt(model: Boosting, maps: Tensor, is_abnormal: Tensor) -> Boosting:
    model.begin(0)
    for batch, kinds in zip(maps.split(150), is_abnormal.split(150), strict=True):
        model.update(batch, kinds)
    model.finish()
    return model


def on_both_sides(model: LGBMClassifier, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """These features with each at each border of its trees, and next to it on either side.

    LightGBM takes values of up to 1e-35 for 0, so that there is nothing beside that.
    """
    rows = []
    table = model.booster_.trees_to_dataframe().dropna(subset=["threshold"])
    for feature, border in zip(table["split_feature"], table["threshold"], strict=True):
        at = np.float32(border)
        if abs(at) < 1e-30:
            continue
        for value in (np.nextafter(at, np.float32(-np.inf)), at, np.nextafter(at, np.float32(np.inf))):
            rows.append(features[len(rows) % len(features)].copy())
            rows[-1][int(feature.removeprefix("Column_"))] = value
    return np.stack(rows)


class TestTrees:
    @pytest.mark.parametrize("leaves", [2, 7])
    @pytest.mark.parametrize("step", [0.0, 0.1], ids=["continuous", "of few values"])
    def test_say_what_lightgbm_says_also_at_their_borders(
        self, step: float, leaves: int, lightgbms: list[LGBMClassifier]
    ) -> None:
        random = np.random.default_rng(0)
        features = random.normal(size=(400, 5)).astype(np.float32)
        if step:
            features = (np.round(features / step) * step).astype(np.float32)
        is_abnormal = features[:, 0] * features[:, 1] > 0.3 * random.normal(size=400)
        found = Plain(SIZE, rounds=20, leaves=leaves)
        learnt(found, torch.from_numpy(features), torch.from_numpy(is_abnormal))
        shown = np.concatenate([features, on_both_sides(lightgbms[0], features)])
        expected = lightgbms[0].booster_.predict(shown, raw_score=True)
        assert len(np.unique(expected)) > 10
        np.testing.assert_allclose(found.grown(torch.from_numpy(shown)), expected, atol=1e-5)

    def test_fewer_than_wanted_say_as_much(self, lightgbms: list[LGBMClassifier]) -> None:
        """Where nothing is left to split, LightGBM stops."""
        features, found = torch.arange(30.0)[:, None], Plain(SIZE, rounds=9, leaves=4)
        learnt(found, features, torch.arange(30) % 3 == 0)
        expected = lightgbms[0].booster_.predict(features.numpy(), raw_score=True)
        np.testing.assert_allclose(found.grown(features), expected, atol=1e-5)

    def test_learnt_anew_know_nothing_of_before(self) -> None:
        torch.manual_seed(0)
        features, is_abnormal = torch.randn(300, 3), torch.rand(300) < 0.5
        once, twice = Plain(SIZE, rounds=5), Plain(SIZE, rounds=5)
        learnt(once, features[:60], is_abnormal[:60])
        learnt(learnt(twice, features, is_abnormal), features[:60], is_abnormal[:60])
        assert all(torch.equal(*pair) for pair in zip(once.buffers(), twice.buffers(), strict=True))

    def test_before_they_are_grown_say_nothing(self) -> None:
        assert (Boosting(SIZE, scale=1, rounds=3).grown(torch.randn(4, 36)) == 0).all()

    @pytest.mark.parametrize("kind", [True, False])
    def test_want_wafers_of_both_kinds(self, kind: bool) -> None:
        with pytest.raises(WaferlabError, match="normal and abnormal wafers, and these are of one kind only"):
            learnt(Plain(SIZE), torch.randn(40, 3), torch.full((40,), kind))

    @pytest.mark.parametrize(
        "wrong",
        [{"scale": 0}, {"scale": 5}, {"scale": 10**12}, {"angles": 0}, {"rounds": 0}, {"leaves": 1}, {"rate": 0.0}],
    )
    def test_refuse_what_makes_none(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r"2\^scale at most the maps' side, leaves at least 2"):
            Boosting(SIZE, **wrong)


class TestScattering:
    @pytest.mark.parametrize(("size", "scale", "angles"), [((16, 16), 4, 1), ((7, 9), 2, 3), ((25, 27), 3, 2)])
    def test_has_so_many_coefficients_on_maps_of_any_size(self, size: tuple[int, int], scale: int, angles: int) -> None:
        found = Boosting(size, scale, angles)
        maps = torch.randint(0, 3, (3, *size), dtype=torch.uint8)
        maps[0] = 0
        count = 1 + scale * angles + angles**2 * scale * (scale - 1) // 2
        assert found.features(maps).shape == (3, 2 * count + 2)
        assert found.features(maps).isfinite().all()

    def test_sees_no_difference_between_wafers_of_which_all_dies_do_the_same(self) -> None:
        found = Boosting(SIZE, scale=2, angles=2)
        passing = torch.ones(1, *SIZE, dtype=torch.uint8)
        one, other = found.features(passing)[0], found.features(FAIL * passing)[0]
        assert torch.allclose(one[:-2], other[:-2], atol=1e-6)
        assert (float(one[-2]), float(other[-2])) == (0, 1)

    def test_is_not_tried_to_be_exported(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Torch would follow it through thousands of operations before it gave up."""

        def tried(*_: object) -> NoReturn:
            pytest.fail("the exporter scatters")

        model = Normality(Boosting(SIZE, scale=1), Scoring(), SIZE)
        monkeypatch.setattr("kymatio.scattering2d.frontend.torch_frontend.ScatteringTorch2D.scattering", tried)
        with pytest.raises(Exception, match=r"export|ONNX"):
            save_graph(model, SIZE, tmp_path / "model.onnx")


def test_answers_need_no_lightgbm(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    maps = torch.randint(0, 3, (80, *SIZE), dtype=torch.uint8)
    found = learnt(Boosting(SIZE, scale=1, angles=2, rounds=4), maps, torch.arange(80) % 2 == 0)
    again = Boosting(SIZE, scale=1, angles=2, rounds=4)
    again.load_state_dict(found.state_dict())
    for name in [name for name in sys.modules if name.partition(".")[0] == "lightgbm"]:
        monkeypatch.setitem(sys.modules, name, None)
    assert torch.equal(again(maps), found(maps))
