"""From logits to one class: views, temperature, threshold."""

import numpy as np
import pytest

from waferlab.models.decision import Decision

#: Three views of two maps, three classes: the first map is normal by two faint views, defective by a sure one.
VIEWS = np.log([
    [[0.05, 0.9, 0.05], [0.1, 0.2, 0.7]],
    [[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]],
    [[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]],
])  # fmt: skip


@pytest.mark.parametrize(("vote", "classes"), [("mean", [1, 2]), ("majority", [0, 2])])
def test_the_vote_decides(vote: str, classes: list[int]) -> None:
    decision = Decision(all_views=True, vote=vote, normal=0)  # type: ignore[arg-type]
    assert decision.classes(decision.logits(VIEWS)).tolist() == classes


@pytest.mark.parametrize(("threshold", "classes"), [(-5.0, [1, 2]), (0.0, [1, 2]), (1.0, [0, 2]), (9.0, [0, 0])])
def test_above_the_threshold_is_the_most_probable_defect(threshold: float, classes: list[int]) -> None:
    decision = Decision(normal=0, threshold=threshold)
    assert decision.classes(decision.logits(VIEWS)).tolist() == classes


def test_a_threshold_below_even_odds_makes_a_defect_of_what_is_probably_normal() -> None:
    logits = np.log([[0.8, 0.15, 0.05]])
    assert Decision(normal=0).classes(logits).tolist() == [0]
    assert Decision(normal=0, threshold=-2.0).classes(logits).tolist() == [1]


def test_temperature_changes_how_sure_it_is_and_not_what_it_says() -> None:
    sure, cool = (Decision(temperature=temperature) for temperature in (0.1, 10.0))
    probabilities = [each.probabilities(each.logits(VIEWS[1:2])) for each in (sure, cool)]
    assert [each.argmax(1).tolist() for each in probabilities] == [[0, 2], [0, 2]]
    assert probabilities[0].max() > 0.99
    assert probabilities[1].max() < 0.4


def test_comes_back_from_a_file() -> None:
    decision = Decision(1.5, True, "majority", 0, -0.25)
    assert Decision.of(decision.plain(), 3) == decision


@pytest.mark.parametrize(
    "wrong", [{"normal": 3}, {"normal": -1}, {"temperature": 0}, {"vote": "all"}, {"threshold": "high"}, {"colour": 1}]
)
def test_what_is_none_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"decision|validation error|normal"):
        Decision.of(wrong, 3)
