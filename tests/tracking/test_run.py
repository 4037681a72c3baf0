"""MLflow runs: how they end, who may write to them, and what is said when MLflow doesn't answer."""

from typing import NoReturn

import pytest
from mlflow.exceptions import MlflowException

from waferlab.config import TrackingConfig
from waferlab.errors import Interrupted, WaferlabError
from waferlab.tracking.run import Tracker


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Tracker:
    return Tracker(TrackingConfig(uri=None, experiment="test", tags={}), tmp_path_factory.mktemp("store"))


def status(tracker: Tracker, run_id: str) -> str:
    found = tracker.find(run_id)
    assert found is not None
    return str(found.info.status)


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (Interrupted(15), "KILLED"),
        (KeyboardInterrupt(), "KILLED"),
        (WaferlabError("no"), "FAILED"),
        (MemoryError(), "FAILED"),
        (SystemExit(1), "FAILED"),
    ],
    ids=repr,
)
def test_a_run_ends_as_what_ended_it(end: BaseException, said: str, tracker: Tracker) -> None:
    with pytest.raises(type(end)), tracker.run("test", {}) as run:
        raise end
    assert status(tracker, run.id) == said


def test_a_run_that_nothing_ended_is_finished(tracker: Tracker) -> None:
    with tracker.run("test", {"a": 1}) as run:
        assert status(tracker, run.id) == "RUNNING"
    assert status(tracker, run.id) == "FINISHED"


def test_an_open_run_is_not_opened_again(tracker: Tracker) -> None:
    with tracker.run("test", {}) as run:
        with pytest.raises(WaferlabError, match="is open in another process"), tracker.run("again", {}, run.id):
            pass
        assert status(tracker, run.id) == "RUNNING"
    with tracker.run("again", {}, run.id) as again:
        assert again.id == run.id


def refuses(*_: object, **__: object) -> NoReturn:
    raise MlflowException("database is locked")


class TestGone:
    def test_is_a_sentence(self, tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tracker.client, "create_run", refuses)
        with pytest.raises(WaferlabError, match=r"MLflow at sqlite:.* database is locked"), tracker.run("test", {}):
            pass

    def test_in_the_middle_ends_the_run(self, tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
        opened = []

        def logs_to_nobody() -> None:
            with tracker.run("test", {}) as run:
                opened.append(run.id)
                monkeypatch.setattr(tracker.client, "log_batch", refuses)
                run.metrics({"a": 1})

        with pytest.raises(WaferlabError, match="database is locked"):
            logs_to_nobody()
        assert status(tracker, opened[0]) == "FAILED"

    def test_does_not_hide_what_went_wrong_before(self, tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tracker.client, "set_terminated", refuses)
        with pytest.raises(WaferlabError, match="the disk is full"), tracker.run("test", {}):
            raise WaferlabError("the disk is full")

    def test_at_the_end_is_not_passed_over(self, tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tracker.client, "set_terminated", refuses)
        with pytest.raises(WaferlabError, match="database is locked"), tracker.run("test", {}):
            pass
