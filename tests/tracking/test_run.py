"""MLflow runs: how they end, who may write to them, and what is said when MLflow doesn't answer."""

import multiprocessing
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest
from mlflow.exceptions import MlflowException
from sqlalchemy import Engine

from waferlab.config import TrackingConfig
from waferlab.errors import Interrupted, WaferlabError
from waferlab.tracking.registry import model_file
from waferlab.tracking.run import MODEL_FILE, MODEL_FOLDER
from waferlab.tracking.tracker import Tracker


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


def test_an_interruption_does_not_cut_a_write_in_two(tracker: Tracker) -> None:
    did = []

    def half_and_half(*_: object) -> None:
        did.append("half")
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)
        did.append("whole")

    with pytest.raises(KeyboardInterrupt), tracker.run("test", {}) as run:
        run.write(half_and_half)
    assert did == ["half", "whole"]
    assert status(tracker, run.id) == "KILLED"


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

    def test_does_not_hide_what_went_wrong_before(
        self, tracker: Tracker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(tracker.client, "set_terminated", refuses)
        with pytest.raises(WaferlabError, match="the disk is full"), tracker.run("test", {}) as run:
            raise WaferlabError("the disk is full")
        assert capsys.readouterr().err == (
            f"waferlab: run {run.id} can't be marked FAILED in MLflow: database is locked\n"
        )

    def test_database_says_it_in_one_line(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        tracker = Tracker(TrackingConfig(uri=None, experiment="test", tags={}), tmp_path)

        def logs_without_a_table() -> None:
            with tracker.run("test", {}) as run:
                with sqlite3.connect(tmp_path / "mlflow.db") as database:
                    database.execute("ALTER TABLE metrics RENAME TO gone")
                run.metrics({"a": 1})

        with pytest.raises(WaferlabError, match=r"doesn't answer as it should: no such table: metrics$"):
            logs_without_a_table()
        assert capsys.readouterr().err == ""

    def test_at_the_end_is_not_passed_over(self, tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tracker.client, "set_terminated", refuses)
        with pytest.raises(WaferlabError, match="database is locked"), tracker.run("test", {}):
            pass


class TestModelFile:
    def test_lies_where_the_run_keeps_it(self, tracker: Tracker, tmp_path: Path) -> None:
        file = tmp_path / MODEL_FILE
        file.write_bytes(b"model")
        with tracker.run("test", {}) as run:
            run.file(file, MODEL_FOLDER)
        kept = model_file(tracker, run.id)
        assert kept.read_bytes() == b"model"
        assert kept.is_relative_to(tracker.store), "no copy is left elsewhere"

    def test_is_fetched_once_from_elsewhere(self, tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
        fetched = []

        def download(run_id: str, path: str, folder: str) -> str:
            fetched.append(run_id)
            file = Path(folder) / path
            file.parent.mkdir(parents=True)
            file.write_bytes(b"model")
            return str(file)

        with tracker.run("test", {}) as run:
            pass
        elsewhere = SimpleNamespace(info=SimpleNamespace(artifact_uri=f"s3://bucket/{run.id}"))
        monkeypatch.setattr(tracker.client, "get_run", lambda _: elsewhere)
        monkeypatch.setattr(tracker.client, "download_artifacts", download)
        assert model_file(tracker, run.id) == model_file(tracker, run.id)
        assert model_file(tracker, run.id).read_bytes() == b"model"
        assert fetched == [run.id]

    def test_of_a_run_without_one_is_a_sentence(self, tracker: Tracker) -> None:
        with tracker.run("test", {}) as run:
            pass
        for unknown in (run.id, "0" * 32):
            with pytest.raises(WaferlabError, match="is unknown, or it kept no model"):
                model_file(tracker, unknown)


def opens_a_run(store: Path, start: Barrier) -> None:
    start.wait()
    place = Tracker(TrackingConfig(uri=None, experiment="test", tags={}), store)
    with place.run("test", {}) as run:
        run.metrics({"a": 1})


def test_sixteen_runs_that_start_together_in_a_fresh_store_all_arrive(
    tmp_path: Path, makes_tables: Callable[[Engine], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlflow.store.db.utils._initialize_tables", makes_tables)
    fork = multiprocessing.get_context("fork")
    start = fork.Barrier(16)
    processes = [fork.Process(target=opens_a_run, args=(tmp_path, start)) for _ in range(16)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 16
    runs = list(Tracker(TrackingConfig(uri=None, experiment="test", tags={}), tmp_path).search(""))
    assert [(run.info.status, run.data.metrics) for run in runs] == [("FINISHED", {"a": 1})] * 16
