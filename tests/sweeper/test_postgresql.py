"""Workers on a PostgreSQL server; it wants the server's programs and the driver psycopg2, and is skipped without."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from local_servers import free_port

from hydra_plugins.resumable_optuna_sweeper import became
from hydra_plugins.resumable_optuna_sweeper._storage import open_storage

APP = Path(__file__).with_name("app.py")


class Server:
    """A PostgreSQL server with an empty database; it refuses to run as root, and runs as nobody there."""

    def __init__(self, folder: Path, programs: str) -> None:
        self.user: dict[str, Any] = {"user": "nobody"} if os.geteuid() == 0 else {}
        self.folder, self.port, self.programs = folder, free_port(), Path(programs).parent
        self.url = f"postgresql+psycopg2://waferlab@127.0.0.1:{self.port}/postgres"
        self.data = str(folder / "data")
        begin = [self.programs / "initdb", "-D", self.data, "-U", "waferlab", "--auth=trust"]
        subprocess.run(begin, check=True, capture_output=True, cwd=folder, **self.user)
        self.start()

    def start(self) -> None:
        place = ["-D", self.data, "-p", str(self.port), "-k", str(self.folder), "-c", "listen_addresses=127.0.0.1"]
        self.running = subprocess.Popen(
            [self.programs / "postgres", *place], cwd=self.folder, stderr=subprocess.DEVNULL, **self.user
        )
        until = time.monotonic() + 30
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    return
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.2)

    def stop(self) -> None:
        self.running.send_signal(signal.SIGINT)  # it would wait for whoever is connected at a mere SIGTERM
        self.running.wait()


@pytest.fixture
def server() -> Iterator[Server]:
    pytest.importorskip("psycopg2")
    programs = shutil.which("initdb")
    if programs is None or shutil.which("postgres") is None:
        pytest.skip("PostgreSQL's initdb and postgres are not on the path")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        running = Server(Path(folder), programs)
        yield running
        running.stop()


def command(server: Server, *overrides: str) -> list[str]:
    study = (f"hydra.sweeper.storage='{server.url}'", "hydra.sweeper.study_name=s", "hydra.sweep.dir=sweep")
    return [sys.executable, str(APP), "-m", "hydra/sweeper=optuna", "hydra/sweeper/sampler=grid", *overrides, *study]


def jobs() -> list[tuple[int, int]]:
    """x and y of every job that ran."""
    lines = Path("jobs.txt").read_text().splitlines() if Path("jobs.txt").exists() else []
    return [(int(x), int(y)) for x, y in (line.split()[2:4] for line in lines)]


def test_a_server_that_is_away_for_a_while_ends_no_sweep(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ("x=range(0,4)", "y=0", "seconds=2", "hydra.sweeper.workers=2")
    sweep = subprocess.Popen(
        command(server, *given), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    until = time.monotonic() + 120
    while len(jobs()) < 2:
        assert sweep.poll() is None, sweep.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.05)
    server.stop()
    time.sleep(3)
    server.start()
    said = sweep.communicate(timeout=300)[0]
    assert sweep.returncode == 0, said
    assert sorted(jobs()) == [(x, 0) for x in range(4)], "no job was lost, nor run again"
    trials = optuna.load_study(study_name="s", storage=open_storage(server.url)).trials
    ended = [trial for trial in trials if became(trial) != "cut off"]  # while it was claimed
    assert sorted(trial.values[0] for trial in ended) == [0, 1, 1, 4]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_four_workers_neither_lose_nor_repeat_a_trial(
    batch_size: int, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ("x=range(0,6)", "y=range(0,4)", "epochs=1", "hydra.sweeper.workers=4")
    done = subprocess.run(
        command(server, *given, f"hydra.sweeper.batch_size={batch_size}"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(jobs()) == [(x, y) for x in range(6) for y in range(4)]
    trials = optuna.load_study(study_name="s", storage=open_storage(server.url)).trials
    assert [trial.values[0] for trial in trials] == [trial.intermediate_values[0] for trial in trials]
    assert len({path.name for path in Path("sweep").iterdir() if path.is_dir()}) == 24
