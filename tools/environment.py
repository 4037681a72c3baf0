"""Make the environment `.venv` where it is missing or stale; do nothing where it is whole.

The environment gets the Python that runs this script, the versions in `constraints.txt`, the project itself (editable)
and its development tools. `TORCH_BACKEND` (cpu, auto, cu126, ...) picks the torch build and is remembered; an empty one
stands for the registry's plain build. Nothing but the standard library is at hand here.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 - an older Python gets as far as this line
    found = ".".join(map(str, sys.version_info[:2]))
    sys.exit(f"Waferlab needs Python 3.11 or newer, this is {found}: name another, as in `make run PYTHON=python3.12`.")

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "waferlab.json"


def ensure() -> None:
    """Bring the environment up to date; processes that ask at the same time wait for the first one's work."""
    with Path(__file__).open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = json.loads(STAMP.read_text()) if STAMP.exists() else {}
        backend = os.environ.get("TORCH_BACKEND", stamp.get("torch_backend", ""))
        wanted = {
            "root": str(ROOT),
            "python": sys.version,
            "torch_backend": backend,
            "pyproject.toml": _digest("pyproject.toml"),
            "constraints.txt": _digest("constraints.txt"),
        }
        if stamp != wanted or not PYTHON.exists():
            _build(backend)
            _write_stamp(wanted)


def _build(backend: str) -> None:
    interpreter = os.path.realpath(sys.executable)  # the base one, even where .venv itself runs this script
    if VENV.exists():
        shutil.rmtree(VENV)
    uv = shutil.which("uv")
    if uv:
        _run(uv, "venv", "--quiet", "--python", interpreter, VENV)
    else:
        _run(interpreter, "-m", "venv", VENV)
        _run(PYTHON, "-m", "pip", "install", "--quiet", "--constraint", "constraints.txt", "uv")
        uv = VENV / "bin" / "uv"
    _write_stamp({"torch_backend": backend})  # an interrupted build is no environment yet, but remembers the choice
    pins = ("--constraints", "constraints.txt", "--build-constraints", "constraints.txt")
    build = ("--torch-backend", backend) if backend else ()
    _run(uv, "pip", "install", "--python", PYTHON, *pins, *build, "--editable", ".[train,parquet]", "--group", "dev")


def _run(*command: str | Path) -> None:
    subprocess.run(command, cwd=ROOT, check=True)


def _digest(name: str) -> str:
    return hashlib.sha256((ROOT / name).read_bytes()).hexdigest()


def _write_stamp(content: dict[str, str]) -> None:
    partial = STAMP.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    partial.replace(STAMP)


if __name__ == "__main__":
    try:
        ensure()
    except subprocess.CalledProcessError as error:
        sys.exit(
            f"The environment .venv could not be made: {error.cmd[0]} ended with code {error.returncode}, see above. "
            "If the torch build is the fault, `make install TORCH_BACKEND=` returns to the plain one."
        )
    except KeyboardInterrupt:
        sys.exit(130)
