"""What every test gets: a store of its own, no network, one thread; and data sets, tiny ones and the real one."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

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
