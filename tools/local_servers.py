"""Servers that tests and tools start on this machine: a port for each, and its first answer."""

import socket
import subprocess
import time
from http.client import HTTPException
from typing import Any
from urllib.request import Request, urlopen

#: Seconds that a server may take to start on a slow machine.
PATIENCE = 300


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def first_answer(server: "subprocess.Popen[Any]", request: str | Request) -> bytes:
    """What a server that was just started answers to a request, an address for example, as soon as it does.

    Raises:
        RuntimeError: it has ended, or takes too long.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with urlopen(request, timeout=30) as answer:
                return bytes(answer.read())
        except (OSError, HTTPException) as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server doesn't answer ({error}; exit code {server.poll()})") from error
            time.sleep(0.2)
