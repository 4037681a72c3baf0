"""From the grammar of sweeps to parameters and back."""

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FixedTrial

from hydra_plugins.resumable_optuna_sweeper._space import Space


def space(*overrides: str, **conditions: dict[str, object]) -> Space:
    return Space.of(OverridesParser.create().parse_overrides(list(overrides)), conditions)


@pytest.mark.parametrize(
    ("override", "distribution"),
    [
        ("a=1,2,3", CategoricalDistribution(("1", "2", "3"))),
        ("a=choice(x,'y z')", CategoricalDistribution(("x", "y\\ z"))),
        ("+a=choice(true,false)", CategoricalDistribution(("True", "False"))),
        ("a=range(1,6,2)", IntDistribution(1, 5, step=2)),
        ("a=range(3,0,-1)", IntDistribution(1, 3)),
        ("a=range(0,1,0.25)", FloatDistribution(0, 0.75, step=0.25)),
        ("a=interval(0,1)", FloatDistribution(0, 1)),
        ("a=int(interval(1,8))", IntDistribution(1, 8)),
        ("a=tag(log,interval(1e-4,1e-1))", FloatDistribution(1e-4, 1e-1, log=True)),
        ("a=tag(log,int(interval(1,64)))", IntDistribution(1, 64, log=True)),
    ],
)
def test_the_grammar_of_sweeps(override: str, distribution: BaseDistribution) -> None:
    trial = optuna.create_study().ask()
    space(override).suggest(trial)
    assert trial.distributions == {"a": distribution}


def test_overrides_stand_in_the_order_of_the_command_line() -> None:
    trial = FixedTrial({"group": "file2", "a": 0.5})
    assert space("group=file1,file2", "b=3", "~c", "+a=interval(0,1)").suggest(trial) == [
        "group=file2",
        "b=3",
        "~c",
        "+a=0.5",
    ]


def test_of_one_key_the_last_override_counts() -> None:
    assert space("a=1,2", "b=1", "a=3").suggest(FixedTrial({})) == ["a=3", "b=1"]


class TestConditions:
    def test_a_key_counts_where_its_condition_holds(self) -> None:
        student = space("student=net1,compact", "width=8,16", width={"student": "compact"})
        assert student.suggest(FixedTrial({"student": "compact", "width": "8"})) == ["student=compact", "width=8"]
        assert student.suggest(FixedTrial({"student": "net1"})) == ["student=net1"]

    def test_conditions_may_look_forward_and_depend_on_each_other(self) -> None:
        chain = space("c=1,2", "b=1,2", "a=1,2", c={"b": [1]}, b={"a": [2]})
        assert chain.suggest(FixedTrial({"a": "2", "b": "1", "c": "2"})) == ["c=2", "b=1", "a=2"]
        assert chain.suggest(FixedTrial({"a": "1"})) == ["a=1"]

    def test_a_circle_is_refused(self) -> None:
        with pytest.raises(HydraException, match="depends on"):
            space("a=1,2", "b=1,2", a={"b": [1]}, b={"a": [1]}).suggest(FixedTrial({}))

    def test_a_key_that_is_not_swept_is_refused(self) -> None:
        with pytest.raises(HydraException, match="depth isn't swept; these are: student, width"):
            space("student=a,b", "width=8,16", width={"depth": 1})


class TestGrid:
    def test_the_last_key_changes_first(self) -> None:
        assert space("a=x,y", "n=range(1,3)").grid() == [
            {"a": "x", "n": 1},
            {"a": "x", "n": 2},
            {"a": "y", "n": 1},
            {"a": "y", "n": 2},
        ]

    def test_what_a_condition_makes_alike_stands_once(self) -> None:
        assert space("a=x,y", "n=1,2", n={"a": "y"}).grid() == [{"a": "x"}, {"a": "y", "n": "1"}, {"a": "y", "n": "2"}]

    def test_without_a_sweep_there_is_one_point(self) -> None:
        assert space("a=3").grid() == [{}]

    def test_an_interval_has_none(self) -> None:
        with pytest.raises(HydraException, match="an interval has no grid"):
            space("a=interval(0,1)").grid()
