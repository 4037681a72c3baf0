"""Which rate is suggested."""

import numpy as np

from waferlab.tasks.rate_finder import steepest

RATES = np.geomspace(1e-7, 1, 100)


def test_is_where_the_loss_falls_fastest_on_a_scale_of_factors() -> None:
    losses = 2 - 1 / (1 + np.exp(-3 * (np.log10(RATES) + 3)))  # falls around 1e-3
    assert 5e-4 < (steepest(list(RATES), list(losses)) or 0) < 2e-3


def test_is_none_where_the_loss_never_falls() -> None:
    assert steepest(list(RATES), list(np.linspace(1, 2, 100))) is None
    assert steepest([1e-7], [1.0]) is None


def test_is_not_among_the_first_steps() -> None:
    losses = np.concatenate([np.linspace(9, 2, 5), np.linspace(2, 1, 95)])
    assert (steepest(list(RATES), list(losses)) or 0) >= RATES[10]
