"""Which process a worker is, whether it is still there, and how processes are ended."""

import contextlib
import ctypes
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

#: Seconds without a sign of life until a worker of another machine counts as gone.
GONE: Final = 300.0
#: Seconds that workers get to close their trials.
TO_CLOSE: Final = 30.0


def this_worker() -> dict[str, Any]:
    """What tells this process from all others."""
    return {"machine": _machine(), "pid": os.getpid(), "started": _start_of(os.getpid())}


def is_alive(signs: tuple[dict[str, Any] | None, float]) -> bool:
    """Whether a worker is there; of other machines, whether it gave a sign of life lately.

    Args:
        signs: what `this_worker` was there, None where it died before it could say so; and the time of the last one.
    """
    worker, last = signs
    if worker is None:
        return False
    if worker["machine"] == _machine() and worker["started"] is not None:
        return bool(_start_of(worker["pid"]) == worker["started"])
    return time.time() - last < GONE


def _machine() -> str:
    """Where process numbers mean the same."""
    known = [platform.node()]
    with contextlib.suppress(OSError):
        known += [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")]
    return " ".join(known)


def _start_of(pid: int) -> str | None:
    """What tells a process from a later one with its number; None where there is none, or no way to know."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def end_with_parent() -> None:
    """Have the calling process end when its parent does, even if that is killed; where the system knows how to."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Have processes close what they have open, and end; less and less politely."""
    for number, seconds in ((signal.SIGINT, TO_CLOSE), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        until = time.monotonic() + seconds
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, until - time.monotonic()))
