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

import optuna
import pytest
from local_servers import free_port

from hydra_plugins.resumable_optuna_sweeper._storage import open_storage

APP = Path(__file__).with_name("app.py")


@pytest.fixture
def server() -> Iterator[str]:
    """The URL of an empty database; its server refuses to run as root, and runs as nobody there."""
    pytest.importorskip("psycopg2")
    initdb, postgres = shutil.which("initdb"), shutil.which("postgres")
    if initdb is None or postgres is None:
        pytest.skip("PostgreSQL's initdb and postgres are not on the path")
    user = {"user": "nobody"} if os.geteuid() == 0 else {}
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        data = f"{folder}/data"
        begin = [initdb, "-D", data, "-U", "waferlab", "--auth=trust"]
        subprocess.run(begin, check=True, capture_output=True, cwd=folder, **user)
        serve = [postgres, "-D", data, "-p", str(port), "-k", folder, "-c", "listen_addresses=127.0.0.1"]
        running = subprocess.Popen(serve, cwd=folder, stderr=subprocess.DEVNULL, **user)
        wait_for(port)
        yield f"postgresql+psycopg2://waferlab@127.0.0.1:{port}/postgres"
        running.send_signal(signal.SIGINT)  # it would wait for whoever is connected at a mere SIGTERM
        running.wait()


def wait_for(port: int) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.2)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_four_workers_neither_lose_nor_repeat_a_trial(
    batch_size: int, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ("x=range(0,6)", "y=range(0,4)", "epochs=1", "hydra/sweeper/sampler=grid", "hydra.sweeper.workers=4")
    study = (f"hydra.sweeper.storage='{server}'", "hydra.sweeper.study_name=s", "hydra.sweep.dir=sweep")
    command = [sys.executable, str(APP), "-m", "hydra/sweeper=optuna", *given, *study]
    done = subprocess.run(
        [*command, f"hydra.sweeper.batch_size={batch_size}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = [tuple(map(int, line.split()[2:4])) for line in Path("jobs.txt").read_text().splitlines()]
    assert sorted(jobs) == [(x, y) for x in range(6) for y in range(4)]
    trials = optuna.load_study(study_name="s", storage=open_storage(server)).trials
    assert [trial.values[0] for trial in trials] == [trial.intermediate_values[0] for trial in trials]
    assert len({path.name for path in Path("sweep").iterdir() if path.is_dir()}) == 24
