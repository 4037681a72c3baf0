"""Normal vectors as a Gaussian, a point, or a memory: known answers, and what is left where they hardly vary."""

from itertools import combinations
from typing import Literal, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import OAS
from torch import Tensor, nn

from waferlab.models.normality import Density, Gaussian, Neighbours, Prototype
from waferlab.models.normality.features import Features
from waferlab.models.normality.gaussian import Moments, oas
from waferlab.models.normality.neighbours import coreset

#: Channels that vary together.
MIX = np.random.default_rng(1).normal(size=(4, 4))


class Wide(nn.Module):
    """As wide as features are, which is all that a density asks of them where it is given vectors."""

    of = "wafer"

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width


def wide(width: int) -> Features:
    return cast(Features, Wide(width))


def fitted(measure: Density, *batches: Tensor, seed: int = 0) -> Density:
    measure.begin(seed)
    for batch in batches:
        measure.add(batch)
    measure.finish()
    return measure


def vectors(count: int = 200, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(count, 4)) @ MIX + [0, 3, 0, -1]


class TestGaussian:
    @given(cuts=st.lists(st.integers(0, 40), max_size=6), mean=st.sampled_from([0.0, 1.0, 1e4]))
    def test_has_the_moments_of_all_vectors_wherever_these_are_split(self, cuts: list[int], mean: float) -> None:
        all_of_them = vectors(40) + mean
        moments = Moments(4)
        for part in np.split(all_of_them, sorted(cuts)):
            moments.add(torch.from_numpy(part))
        np.testing.assert_allclose(moments.mean, all_of_them.mean(0), rtol=1e-12)
        np.testing.assert_allclose(moments.covariance, np.cov(all_of_them.T, bias=True), rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize("mean", [0, 1000])
    def test_measures_as_mahalanobis_does(self, mean: float) -> None:
        normal, others = (torch.from_numpy(vectors(200, seed) + mean).float() for seed in (0, 1))
        found = fitted(Gaussian(wide(4), shrinkage=0), *normal.split(64)).distances(others)
        exact = normal.double().numpy()
        inverse = np.linalg.inv(np.cov(exact.T, bias=True))
        expected = [mahalanobis(each, exact.mean(0), inverse) for each in others.double().numpy()]
        np.testing.assert_allclose(found, expected, rtol=2e-3)

    @pytest.mark.parametrize("count", [3, 10, 400])
    def test_shrinks_as_far_as_scikit_learns_oas(self, count: int) -> None:
        values = vectors(count)
        expected = OAS().fit(values)
        share = oas(torch.from_numpy(np.cov(values.T, bias=True)), count)
        assert share == pytest.approx(expected.shrinkage_)
        whitening = fitted(Gaussian(wide(4)), torch.from_numpy(values)).whitening.double()  # type: ignore[operator]
        np.testing.assert_allclose((whitening.T @ whitening).inverse(), expected.covariance_, rtol=1e-3, atol=1e-4)

    def test_of_a_whole_share_measures_euclids_distance(self) -> None:
        normal = torch.from_numpy(vectors()).float()
        found = fitted(Gaussian(wide(4), shrinkage=1.0), normal)
        apart = (normal - normal.mean(0)).square()
        np.testing.assert_allclose(found.distances(normal), (apart.sum(1) / apart.mean()).sqrt(), rtol=1e-4)

    def test_without_a_share_makes_normal_vectors_white(self) -> None:
        normal = torch.from_numpy(vectors()).float()
        found = fitted(Gaussian(wide(4), shrinkage=0.0), normal)
        white = (normal - found.mean) @ found.whitening.T  # type: ignore[operator]
        np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(4), atol=1e-3)

    @pytest.mark.parametrize("shrinkage", [0.0, "oas", 1.0])
    @pytest.mark.parametrize(
        "normal",
        [
            torch.from_numpy(vectors(50)) * torch.tensor([1, 0, 1, 1]),
            torch.ones(50, 4),
            torch.ones(1, 4),
            torch.zeros(2, 4),
            torch.from_numpy(vectors(3)),
            torch.from_numpy(vectors(50)) * 1e-20,
        ],
        ids=["constant channel", "all alike", "one vector", "nothing but zeros", "fewer than dimensions", "tiny"],
    )
    def test_of_vectors_that_hardly_vary_still_tells_others_from_them(
        self, normal: Tensor, shrinkage: float | Literal["oas"]
    ) -> None:
        found = fitted(Gaussian(wide(4), shrinkage), normal.float())
        own, others = found.distances(normal.float()), found.distances(normal.float() + 10)
        assert own.isfinite().all()
        assert others.isfinite().all()
        assert others.min() > own.max()

    @pytest.mark.parametrize("shrinkage", [-0.1, 1.1, float("nan")])
    def test_refuses_what_is_no_share(self, shrinkage: float) -> None:
        with pytest.raises(ValueError, match="is a share: from 0 to 1, or oas"):
            Gaussian(wide(4), shrinkage)


def test_a_prototype_is_the_mean_of_all_vectors_and_the_distance_euclids() -> None:
    found = fitted(Prototype(wide(2)), torch.tensor([[0.0, 0], [2, 0]]), torch.tensor([[1.0, 6]]))
    assert found.distances(torch.tensor([[1.0, 2], [4, 6]])).tolist() == [0, 5]


class TestNeighbours:
    @pytest.mark.parametrize(("nearest", "expected"), [(1, [0, 1]), (2, [2.5, 2]), (3, [5, 4])])
    def test_are_the_nearest_vectors_kept_on_average(self, nearest: int, expected: list[float]) -> None:
        kept = torch.tensor([[0.0, 0], [3, 4], [-6, 8]])
        found = fitted(Neighbours(wide(2), memory=3, drawn=3, nearest=nearest), kept)
        others = torch.tensor([[0.0, 0], [0, 0]])
        others[1] = torch.tensor([3.0, 3])
        by_hand = (others[:, None] - kept).square().sum(2).sqrt().sort(1).values[:, :nearest].mean(1)
        np.testing.assert_allclose(found.distances(others), by_hand, atol=1e-5)
        assert float(by_hand[0]) == expected[0]

    def test_are_as_near_wherever_all_of_them_lie(self) -> None:
        normal, others = torch.from_numpy(vectors()).float(), torch.from_numpy(vectors(20, 1)).float()
        here, there = (
            fitted(Neighbours(wide(4), 30, 200), normal + shift).distances(others + shift) for shift in (0, 1000)
        )
        np.testing.assert_allclose(there, here, rtol=1e-3)

    def test_of_fewer_vectors_than_memory_are_all_of_them(self) -> None:
        normal, others = torch.from_numpy(vectors(5)).float(), torch.from_numpy(vectors(20, 1)).float()
        found = fitted(Neighbours(wide(4), memory=13, drawn=100), normal)
        np.testing.assert_allclose(found.distances(others), torch.cdist(others, normal).amin(1), rtol=1e-4)

    def test_are_drawn_evenly_from_all_vectors_and_never_more_than_wanted(self) -> None:
        values, measure, found = torch.arange(1000.0)[:, None], Neighbours(wide(1), 10, drawn=100), []
        for seed in range(30):
            measure.begin(seed)
            for batch in values.split([1, 499, 7, 93, 400]):
                measure.add(batch)
                assert len(measure.sample) <= 100
            found.append(measure.sample[:, 0])
        assert all(len(set(each.tolist())) == 100 for each in found)
        fifths = torch.cat(found).histc(5, 0, 1000)
        assert (fifths - 600).abs().max() < 90, "more than four standard deviations"

    def test_are_others_by_another_seed_alone(self) -> None:
        normal = torch.from_numpy(vectors()).float()
        one, same, other = (
            fitted(Neighbours(wide(4), 20, 100), *normal.split(50), seed=seed).kept for seed in (0, 0, 1)
        )
        assert torch.equal(one, same)  # type: ignore[arg-type]
        assert not torch.equal(one, other)  # type: ignore[arg-type]

    @pytest.mark.parametrize(("memory", "drawn", "nearest"), [(0, 5, 1), (5, 4, 1), (5, 5, 6), (5, 5, 0)])
    def test_refuse_more_than_there_can_be(self, memory: int, drawn: int, nearest: int) -> None:
        with pytest.raises(ValueError, match="each at least 1 and at most the next"):
            Neighbours(wide(2), memory, drawn, nearest)


class TestCoreset:
    @given(seed=st.integers(0, 1000), shift=st.sampled_from([0, 1000]))
    def test_leaves_no_vector_farther_than_twice_the_best_choice_does(self, seed: int, shift: float) -> None:
        values = torch.from_numpy(np.random.default_rng(seed).normal(size=(9, 2))).float()
        apart = torch.cdist(values, values)
        farthest = {chosen: float(apart[:, list(chosen)].amin(1).max()) for chosen in combinations(range(9), 3)}
        chosen = coreset(values + shift, 3, torch.Generator().manual_seed(seed))
        assert float(apart[:, chosen].amin(1).max()) <= 2 * min(farthest.values()) + 1e-3

    def test_takes_no_vector_twice_even_where_several_are_alike(self) -> None:
        values = torch.tensor([[0.0], [0], [0], [1], [1]])
        chosen = coreset(values, 5, torch.Generator().manual_seed(0))
        assert sorted(chosen.tolist()) == [0, 1, 2, 3, 4]
        assert values[chosen[:2], 0].sum() == 1, "the farthest first"
