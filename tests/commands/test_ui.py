"""``waferlab ui``: it answers, and leaves nothing running behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from local_servers import first_answer, free_port

COMMAND = [sys.executable, "-m", "waferlab.cli", "ui"]


def descendants(process: int) -> set[int]:
    """Processes that this one started, and those that they started."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {child for child, parent in parents.items() if parent == process}
    return found.union(*(descendants(child) for child in found))


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_answers_and_ends_with_all_it_started(number: signal.Signals, tmp_path: Path) -> None:
    port = free_port()
    ui = subprocess.Popen(
        [*COMMAND, f"store={tmp_path}", f"port={port}", f"hydra.run.dir={tmp_path}"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    first_answer(ui, f"http://127.0.0.1:{port}/health")
    started = descendants(ui.pid)
    assert started
    ui.send_signal(number)
    said = ui.communicate(timeout=300)[0]
    assert ui.returncode == 128 + number
    assert f"\nhttp://127.0.0.1:{port}/#/experiments/" in said
    assert "Traceback" not in said
    deadline = time.monotonic() + 30  # the server's own processes may end just after it
    while left := {process for process in started if alive(process)}:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = subprocess.run(
            [*COMMAND, f"store={tmp_path}", f"port={port}", f"hydra.run.dir={tmp_path}"],
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    assert said.returncode == 1
    assert f"is port {port} taken?" in said.stderr
