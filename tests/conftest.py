"""What every test gets: a store of its own, no network, one thread; and data sets, tiny ones and the real one."""

import os
import signal
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from hypothesis import settings

from waferlab.data.dataset import Dataset
from waferlab.data.simulator import load

torch.set_num_threads(1)
signal.signal(
    signal.SIGINT, signal.default_int_handler
)  # pytest-xdist's workers ignore it, and so would their children
settings.register_profile("waferlab", max_examples=30, deadline=None)
settings.load_profile("waferlab")


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test writes into a person's store, and none opens a connection beyond this machine."""
    monkeypatch.setenv("WAFERLAB_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else None
        if host in (None, "127.0.0.1", "::1", "localhost"):
            return connect(self, address)  # type: ignore[arg-type]
        return refuse(address)

    def refuse(address: object) -> NoReturn:
        raise OSError(f"a test tried to reach {address}")

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture(scope="session", autouse=True)
def makes_tables() -> Iterator[Callable[[Any], None] | None]:
    """How MLflow makes a database's tables, by dozens of migrations: once here, later ones are copies of the first.

    Processes that tests start make their own.
    """
    if "mlflow" not in sys.modules:  # no test that was collected has anything to do with it
        yield None
        return
    import mlflow.store.db.utils as database

    make, template = database._initialize_tables, sqlite3.connect(":memory:", check_same_thread=False)

    def copies(engine: Any) -> None:
        if engine.dialect.name != "sqlite":
            return make(engine)
        if not template.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            make(engine)
            with closing(engine.raw_connection()) as made:
                return made.driver_connection.backup(template)
        with closing(engine.raw_connection()) as empty:
            return template.backup(empty.driver_connection)

    with pytest.MonkeyPatch.context() as patched, closing(template):
        patched.setattr(database, "_initialize_tables", copies)
        yield make


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """The command line answers signals in its own way, and in a test's process it doesn't end with the process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, answer in before.items():
        signal.signal(number, answer)


@pytest.fixture
def real_mixedwm38() -> Path:
    """The public MixedWM38 file; tests that ask for it are skipped where it is absent."""
    path = Path(os.environ.get("WAFERLAB_DATA", "data")) / "mixedwm38" / "Wafer_Map_Datasets.npz"
    if not path.is_file():
        pytest.skip(f"needs {path}; set WAFERLAB_DATA to the folder that holds mixedwm38/")
    return path


@pytest.fixture(scope="session")
def tiny_dataset() -> Dataset:
    """200 simulated maps of 52x52 dies, split 120, 40, 40 or so."""
    return load(maps=200, fractions=(0.6, 0.2, 0.2))
