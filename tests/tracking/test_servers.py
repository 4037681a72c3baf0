"""A server that is slow, gone, or back: no run is lost, nobody waits, and people are told."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import pytest
from local_servers import first_answer, free_port
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from waferlab.cli import main
from waferlab.config import TrackingConfig
from waferlab.errors import WaferlabError
from waferlab.tracking.run import EXPERIMENT, SWEEP, Run
from waferlab.tracking.sync import Sync
from waferlab.tracking.tracker import UNSENT, Tracker
from waferlab.tracking.trials import sweep_run


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without runs; making one takes seconds."""
    store = tmp_path_factory.mktemp("empty")
    tracker(None, store)
    return store / "mlflow.db"


@pytest.fixture
def server(empty: Path, tmp_path: Path) -> str:
    """The address of what stands for a server, a database that is not the store's; there is a store too."""
    (tmp_path / "store").mkdir()
    for copy in (tmp_path / "server.db", tmp_path / "store" / "mlflow.db"):
        shutil.copyfile(empty, copy)
    return f"sqlite:///{tmp_path / 'server.db'}"


def tracker(uri: str | None, store: Path, spare: bool = False) -> Tracker:
    return Tracker(TrackingConfig(uri=uri, experiment="test", tags={}), store, spare=spare)


def refuses(*_: object, **__: object) -> NoReturn:
    raise MlflowException("connection refused")


def filled(run: Run, folder: Path) -> None:
    """Log a value of every kind."""
    figure = folder / "figure.png"
    figure.write_bytes(b"figure")
    run.parameters({"seed": 1, "trainer": {"max_epochs": 2}})
    run.tags({"study": "test"})
    for epoch in range(3):
        run.metrics({"val/exact_match": epoch / 10}, epoch)
    run.figures([figure])


def whole(client: MlflowClient, run_id: str) -> bool:
    """Whether a run has all that `filled` logs."""
    run = client.get_run(run_id)
    curve = [(metric.step, metric.value) for metric in client.get_metric_history(run_id, "val/exact_match")]
    return (
        run.data.params == {"seed": "1", "trainer.max_epochs": "2"}
        and run.data.tags["study"] == "test"
        and sorted(curve) == [(0, 0.0), (1, 0.1), (2, 0.2)]
        and [file.path for file in client.list_artifacts(run_id, "figures")] == ["figures/figure.png"]
        and [file.path for file in client.list_artifacts(run_id)] == ["config.json", "figures"]
    )


class TestASlowServer:
    def test_is_not_waited_for_before_the_end(
        self, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place, answers = tracker(server, tmp_path / "store", spare=True), threading.Event()
        log_batch = place.client.log_batch

        def slowly(*given: object, **named: object) -> None:
            answers.wait()
            log_batch(*given, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(place.client, "log_batch", slowly)
        with place.run("test", {}) as run:
            filled(run, tmp_path)
            assert not place.client.get_run(run.id).data.metrics, "nothing has arrived, and training goes on"
            answers.set()
        assert whole(place.client, run.id)
        assert place.client.get_run(run.id).info.status == "FINISHED"


class TestAServerThatIsGone:
    def test_in_the_middle_of_a_run_loses_nothing(
        self, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        place = tracker(server, tmp_path / "store", spare=True)
        with monkeypatch.context() as gone, place.run("test", {"role": EXPERIMENT}) as run:
            run.metrics({"val/macro_f1": 0.5}, 0)
            while not place.client.get_run(run.id).data.metrics:
                time.sleep(0.01)
            gone.setattr(place.client, "log_batch", refuses)
            filled(run, tmp_path)
        said = capsys.readouterr().err
        assert said.startswith(f"waferlab: run {run.id}: MLflow at {server} doesn't answer (connection refused); runs")
        assert place.client.get_run(run.id).info.status == "RUNNING", "the server doesn't know better"
        here = tracker(None, tmp_path / "store")
        assert len(list(Sync(here, place).send())) == 1
        assert whole(place.client, run.id)
        assert place.client.get_run(run.id).info.status == "FINISHED"
        assert place.client.get_run(run.id).info.run_name == "test"
        assert list(Sync(here, place).send()) == [], "what was sent is not sent again"

    def test_while_a_run_is_open_keeps_the_next_one_in_the_store(
        self, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place = tracker(server, tmp_path / "store", spare=True)
        there = place.client
        with monkeypatch.context() as gone, place.run("student", {}) as student:
            for call in ("create_run", "log_batch", "set_terminated"):
                gone.setattr(there, call, refuses)
            with place.run("teacher", {}) as teacher:
                filled(teacher, tmp_path)
            student.tags({"teacher.run_id": teacher.id})
        sent = dict(Sync(tracker(None, tmp_path / "store"), tracker(server, tmp_path / "store")).send())
        assert whole(there, sent[teacher.id])
        assert there.get_run(student.id).data.tags["teacher.run_id"] == sent[teacher.id]

    def test_at_the_beginning_leaves_the_run_in_the_store(
        self, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with monkeypatch.context() as gone:
            asked = MlflowClient.get_experiment_by_name
            gone.setattr(
                MlflowClient,
                "get_experiment_by_name",
                lambda client, name: refuses() if client.tracking_uri == server else asked(client, name),
            )
            place = tracker(server, tmp_path / "store", spare=True)
        said = capsys.readouterr().err
        assert said.startswith(f"waferlab: MLflow at {server} doesn't answer (connection refused); runs are kept in")
        assert "`waferlab sync tracking=server` sends them" in said
        with place.run("test", {}) as run:
            filled(run, tmp_path)
        there = tracker(server, tmp_path / "store")
        assert [here for here, _ in Sync(tracker(None, tmp_path / "store"), there).send()] == [run.id]
        (sent,) = there.search("")
        assert whole(there.client, sent.info.run_id)
        assert sent.info.status == "FINISHED"
        assert UNSENT not in sent.data.tags

    def test_ends_a_command_that_only_reads(self, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(MlflowClient, "get_experiment_by_name", refuses)
        with pytest.raises(WaferlabError, match="doesn't answer as it should: connection refused"):
            tracker(server, tmp_path)


class TestSync:
    @pytest.fixture
    def kept(self, server: str, tmp_path: Path) -> Tracker:
        """A store whose runs are meant for the server."""
        place = tracker(None, tmp_path / "store")
        place.tags |= {UNSENT: server}
        return place

    def test_keeps_who_belongs_to_whom(self, kept: Tracker, server: str) -> None:
        sweep = sweep_run(kept, "search", "one", {})
        with kept.run("trial", {"role": EXPERIMENT, "mlflow.parentRunId": sweep, "sweep": "search", "trial": 0}) as run:
            with kept.run("teacher", {}) as teacher:
                pass
            run.tags({"teacher.run_id": teacher.id})
        there = tracker(server, kept.store)
        list(Sync(kept, there).send())
        with kept.run("search", {}, sweep):
            pass
        renamed = dict(Sync(kept, there).send())
        by_name = {run.info.run_name: run for run in there.search("")}
        trial = by_name["trial"].data.tags
        assert trial["teacher.run_id"] == by_name["teacher"].info.run_id
        assert trial["mlflow.parentRunId"] == by_name["search"].info.run_id == renamed[sweep]
        assert by_name["search"].data.tags["role"] == SWEEP

    def test_finds_a_sweep_that_began_on_the_server(self, kept: Tracker, server: str) -> None:
        there = tracker(server, kept.store)
        sweep_run(there, "search", "an earlier one", {})
        began = sweep_run(there, "search", "one", {})
        with kept.run("trial", {"mlflow.parentRunId": sweep_run(kept, "search", "one", {})}):
            pass
        list(Sync(kept, there).send())
        (trial,) = there.search("attributes.run_name = 'trial'")
        assert trial.data.tags["mlflow.parentRunId"] == began

    def test_goes_on_after_an_interruption(
        self, kept: Tracker, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for _ in range(2):
            with kept.run("test", {}) as run:
                filled(run, tmp_path)
        there = tracker(server, kept.store)
        with monkeypatch.context() as gone:
            gone.setattr(there.client, "log_artifacts", refuses)
            with pytest.raises(MlflowException):
                list(Sync(kept, there).send())
        list(Sync(kept, there).send())
        runs = list(there.search(""))
        assert len(runs) == 2
        assert all(whole(there.client, run.info.run_id) for run in runs)

    def test_leaves_a_run_that_was_finished_there_finished(
        self, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place = tracker(server, tmp_path / "store", spare=True)
        with monkeypatch.context() as gone, suppress(KeyboardInterrupt), place.run("test", {}) as run:
            for call in ("log_batch", "set_terminated"):
                gone.setattr(place.client, call, refuses)
            run.metrics({"val/macro_f1": 0.5})
            raise KeyboardInterrupt
        with tracker(server, tmp_path / "store").run("test", {}, resume=run.id):
            pass
        ((_, there),) = Sync(tracker(None, tmp_path / "store"), place).send()
        assert there == run.id
        found = place.client.get_run(run.id)
        assert (found.info.status, found.data.metrics) == ("FINISHED", {"val/macro_f1": 0.5})

    def test_leaves_open_runs_and_sweeps_alone(self, kept: Tracker, server: str) -> None:
        there, sweep = tracker(server, kept.store), sweep_run(kept, "search", "one", {})
        with kept.run("open", {}) as is_open:
            with kept.run("ended", {}) as ended:
                pass
            (sent,) = there.search(f"attributes.run_id = '{dict(Sync(kept, there).send())[ended.id]}'")
            assert sent.info.run_name == "ended"
            assert dict(Sync(kept, there).send()) == {is_open.id: None, sweep: None}
        assert set(dict(Sync(kept, there).send())) == {is_open.id, sweep}

    def test_wants_to_know_the_server(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["sync", "tracking=local", f"store={tmp_path}", f"hydra.run.dir={tmp_path}"]) == 2
        assert "tracking.uri: name the server" in capsys.readouterr().err


@contextmanager
def serving(database: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A real MLflow server on this database; it keeps artifacts beside it."""
    folder = Path(database.removeprefix("sqlite:///")).parent
    place = ["--backend-store-uri", database, "--artifacts-destination", str(folder)]
    command = [sys.executable, "-m", "mlflow", "server", *place, "--port", str(port), "--workers", "1"]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        first_answer(process, f"http://127.0.0.1:{port}/health")
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_run_outlives_the_server_that_it_began_on(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    uri, store = f"http://127.0.0.1:{port}", tmp_path / "store"
    with serving(server, port) as process:
        place = tracker(uri, store, spare=True)
        with place.run("test", {}) as run:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            filled(run, tmp_path)
    with serving(server, port):
        sync = ["sync", "tracking=server", f"tracking.uri={uri}", "tracking.experiment=test", f"store={store}"]
        assert main([*sync, f"hydra.run.dir={tmp_path}"]) == 0
        assert f"is run {run.id} at {uri}\n1 run sent\n" in capsys.readouterr().out
        assert main(["ui", *sync[1:], f"hydra.run.dir={tmp_path}"]) == 0
        assert f"the server shows them itself:\n{uri}/#/experiments/" in capsys.readouterr().out
        assert whole(place.client, run.id)
        assert place.client.get_run(run.id).info.status == "FINISHED"
