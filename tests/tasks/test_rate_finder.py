"""Which rate is suggested: the one whose step has the loss fall fastest, however noisy batches are."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from waferlab.data.batches import Batches
from waferlab.data.dataset import Dataset
from waferlab.experiment.compose import compose_overrides, configuration
from waferlab.tasks.rate_finder import RateTest, rates_tested
from waferlab.tasks.task import Task

RATES = np.geomspace(1e-7, 1, 100)
CURVATURE = 40.0


def parabola(rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Exact losses before gradient descent's steps at these rates from 1, down a parabola of this curvature."""
    left = np.cumprod(np.concatenate([[1.0], 1 - rates * CURVATURE]))[:-1]
    return CURVATURE / 2 * left**2


class Descent(Task):
    """Gradient descent down the parabola."""

    monitor = "val/none"

    def __init__(self, noise: float = 0.0, worst: float = math.inf) -> None:
        overrides = [
            "task=transfer",
            "optimizer=sgd",
            "optimizer.momentum=0",
            "optimizer.nesterov=false",
            "trainer.precision=32-true",
        ]
        super().__init__(configuration(compose_overrides("train", overrides)).fit, 0)
        self.place, self.random, self.noise, self.worst = (
            nn.Parameter(torch.ones(1)),
            np.random.default_rng(0),
            noise,
            worst,
        )

    def training_step(self, batch: Any, _: int) -> Tensor:
        loss = CURVATURE / 2 * self.place.square().sum() + self.noise * self.random.normal()
        return self.noted(loss if float(self.place.detach().abs()) < self.worst else loss * math.inf)


@pytest.fixture
def tested(tiny_dataset: Dataset) -> Callable[..., RateTest]:
    batches = Batches(tiny_dataset.part("val"), 16)
    config = configuration(compose_overrides("train", ["task=transfer", "trainer.precision=32-true"])).trainer

    def test(task: Task, highest: float = 1.0) -> RateTest:
        return rates_tested(task, batches, config.model_copy(update={"gradient_clip": None}), 1e-7, highest, 100)

    return test


@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
def test_is_the_one_that_is_known(noise: float, tested: Callable[..., RateTest]) -> None:
    exact = parabola(RATES)
    known = RATES[np.argmax(exact[:-1] - exact[1:])]
    found = tested(Descent(noise)).suggested
    assert found is not None
    assert found == pytest.approx(known, rel=0.5)


def test_leaves_the_weights_as_they_were(tested: Callable[..., RateTest]) -> None:
    task = Descent()
    tested(task)
    assert task.place.item() == 1


def test_survives_a_loss_that_is_no_longer_finite(tested: Callable[..., RateTest]) -> None:
    found = tested(Descent(worst=1.5), highest=100.0)
    assert 30 < len(found.losses) == len(found.rates) < 100
    assert found.suggested is not None


def test_is_known_however_far_the_loss_blows_up_at_the_end() -> None:
    exact = parabola(RATES)
    assert exact[-1] > 100 * exact[0]
    known = RATES[np.argmax(exact[:90] - exact[1:91])]
    assert RateTest.of(RATES, exact).suggested == pytest.approx(known, rel=0.5)


def test_ends_where_the_loss_blows_up(tested: Callable[..., RateTest]) -> None:
    assert len(tested(Descent(), highest=1000.0).losses) < 100


def test_is_none_where_the_loss_does_not_fall() -> None:
    assert RateTest.of(RATES, np.linspace(1, 2, 100)).suggested is None
    assert RateTest.of([1e-7], [1.0]).suggested is None
    assert RateTest.of([], []).suggested is None
    noise = np.random.default_rng(0).normal(1, 0.1, 100)
    assert RateTest.of(RATES, noise).suggested is None


def test_is_not_beyond_the_lowest_loss() -> None:
    losses = np.concatenate([np.linspace(2, 1, 50), np.linspace(1, 8, 25), np.linspace(8, 3, 25)])
    assert (RateTest.of(RATES, losses).suggested or 1) < RATES[50]
