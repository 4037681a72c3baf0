"""Learning rates over time: how they begin, turn and end, and that they never leave 0 to 1."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waferlab.tasks.schedules import Constant, Cosine

shares = st.floats(0, 1)


@given(shares)
def test_constant_is_always_the_whole_rate(progress: float) -> None:
    assert Constant()(progress) == 1


def test_warm_up_rises_linearly_to_the_whole_rate() -> None:
    schedule = Cosine(warmup=0.2)
    assert schedule(0.05) == pytest.approx(0.25)
    assert schedule(0.1) == pytest.approx(0.5)
    assert schedule(0.2) == pytest.approx(1)


def test_the_first_step_is_small_but_not_lost() -> None:
    assert 0 < Cosine(warmup=0.2)(0) <= 0.001


def test_without_warm_up_the_whole_rate_comes_first() -> None:
    assert Cosine(warmup=0)(0) == 1


@pytest.mark.parametrize(("warmup", "final"), [(0, 0), (0.1, 0.01), (0.5, 0.3), (0.99, 1)])
def test_the_end_is_the_rest_and_the_middle_of_the_cosine_the_mean(warmup: float, final: float) -> None:
    schedule = Cosine(warmup, final)
    assert schedule(1) == pytest.approx(final)
    assert schedule((1 + warmup) / 2) == pytest.approx((1 + final) / 2)


@given(st.floats(0, 0.99), shares, shares)
def test_factors_stay_between_0_and_1(warmup: float, final: float, progress: float) -> None:
    assert 0 <= Cosine(warmup, final)(progress) <= 1


@given(st.floats(0, 0.9), shares, st.floats(0, 1), st.floats(0, 1))
def test_the_rate_never_rises_after_warm_up(warmup: float, final: float, one: float, other: float) -> None:
    early, late = (warmup + (1 - warmup) * share for share in sorted((one, other)))
    schedule = Cosine(warmup, final)
    assert schedule(early) >= schedule(late) - 1e-12


def test_a_step_beyond_the_end_keeps_the_rest() -> None:
    assert Cosine(final=0.2)(1.5) == pytest.approx(0.2)


@pytest.mark.parametrize("warmup", [-0.1, 1.0, 2.0])
def test_a_warm_up_that_never_ends_is_refused(warmup: float) -> None:
    with pytest.raises(ValueError, match=f"warmup={warmup}"):
        Cosine(warmup=warmup)


@pytest.mark.parametrize("final", [-0.1, 1.1])
def test_a_rest_outside_0_to_1_is_refused(final: float) -> None:
    with pytest.raises(ValueError, match=f"final={final}"):
        Cosine(final=final)
