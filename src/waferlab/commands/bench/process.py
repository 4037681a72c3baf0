"""What is measured from outside: commands and whole runs in processes of their own."""

import json
import subprocess
import sys
import tempfile
from functools import partial

from waferlab.commands.bench.timing import seconds_to
from waferlab.deploy.peak import PEAK, tells_its_peak
from waferlab.errors import WaferlabError

_COMMAND = "from waferlab.cli import main; raise SystemExit(main())"
_RUN = f"""{PEAK}
import json, sys

import lightning, mlflow, scipy, sklearn.linear_model, timm, torch, torchvision
import waferlab
import waferlab.commands.train

libraries = peak()
waferlab.train(*sys.argv[1:])
print(json.dumps([libraries, peak()]))
"""


def seconds_of(code: str, *arguments: str) -> float:
    """Wall-clock seconds of a new interpreter that runs this code."""
    return seconds_to(partial(output_of, code, *arguments))


def seconds_of_command(*arguments: str) -> float:
    """Wall-clock seconds of ``waferlab ARGUMENTS``."""
    return seconds_of(_COMMAND, *arguments)


def memory_of_run(maps: int) -> float:
    """Largest resident memory, in GB (1e9 bytes), of a run on simulated maps, beyond what its libraries take.

    The run is ``waferlab train`` with one epoch each for teacher and student.

    Raises:
        WaferlabError: this system doesn't say how much memory a process took (Linux does).
    """
    require_peak("memory")
    epochs = ["teacher.trainer.max_epochs=1", "trainer.max_epochs=1"]
    with tempfile.TemporaryDirectory() as store:
        said = output_of(_RUN, f"dataset.maps={maps}", f"store={store}", *epochs)
    libraries, peak = map(int, json.loads(said.splitlines()[-1]))  # KiB
    return (peak - libraries) * 1024 / 1e9


def require_peak(suite: str) -> None:
    """Refuse to measure memory where `PEAK` can't.

    Raises:
        WaferlabError: this system doesn't say how much memory a process took (Linux does).
    """
    if not tells_its_peak():
        raise WaferlabError(f"suite={suite} reads /proc/self/status, which only Linux has")


def output_of(code: str, *arguments: str) -> str:
    """What a new interpreter that runs this code prints.

    Raises:
        WaferlabError: it fails.
    """
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise WaferlabError(f"the benchmark's process with {' '.join(arguments)} failed:\n{done.stderr.strip()}")
    return done.stdout
