"""Picks the command; imports nothing heavy, so that help and mistakes answer at once."""

import difflib
import importlib
import importlib.util
import logging
import os
import re
import shutil
import signal
import sys
import textwrap
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from waferlab import processes
from waferlab.conf_folder import config_folder
from waferlab.errors import ConfigError, Interrupted, WaferlabError

#: Commands by name: what the help says of each.
COMMANDS = {
    "train": "one experiment, composed from config groups; -m for a sweep",
    "evaluate": "a trained model on any data set, same metrics: model=RUN|FILE",
    "predict": "what a model says of every wafer: table, heat maps, pictures",
    "export": "a model as a file of kilobytes, checked: run=RUN|FILE format=…",
    "report": "a study's table from its MLflow runs: study=NAME",
    "register": "a run's model under a name and an alias: model=RUN name=…",
    "sync": "send a server the runs that it didn't take when they were made",
    "data": "what a data set holds: dataset=…",
    "doubts": "labels that several models contradict: model=[RUN,RUN]",
    "lr": "which learning rate a training bears: task=transfer",
    "bench": "the speed figures this project claims, measured here: suite=…",
    "ui": "the MLflow UI on this project's store",
}

_HELP = {"-h", "--help"}
#: What only the whole installation has.
_WHOLE = ("hydra", "omegaconf", "pydantic", "torch")
INSTALL = 'pip install "waferlab[train]"'

USAGE = """\
usage: waferlab COMMAND [key=value …]

{commands}

Everything after the command is Hydra's override grammar, for example
  waferlab train dataset=mixedwm38 student=compact distillation.alpha=0.7
  waferlab train -m student=net1,net2 seed=0,1,2
  waferlab train --help          config groups and their options
  waferlab train --cfg job       the composed configuration, without running it
"""


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the ``waferlab`` script; returns the exit code.

    0 success; 1 a fault that the message explains; 2 a wrong command or configuration; 128 + n ended by signal n.
    """
    if not processes.is_leader():
        return processes.assist(importing="waferlab.tasks.fit")
    with processes.leading():
        try:
            code = _answer((sys.argv[1:] if arguments is None else arguments) or ["--help"])
            sys.stdout.flush()
        except BrokenPipeError:  # whoever reads, such as `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + signal.SIGPIPE
        return code


def _answer(arguments: list[str]) -> int:
    command, *rest = arguments
    if command in {*_HELP, "help"}:
        width = max(map(len, COMMANDS))
        print(USAGE.format(commands="\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())))
        return 0
    if command == "--version":
        from importlib.metadata import version

        print(f"waferlab {version('waferlab')}")
        return 0
    if wrong := _refused(command, rest):
        return _fail(wrong, 2)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    sys.unraisablehook = _lost
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it tells of its font cache
    try:
        _run(command, rest)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def _run(command: str, arguments: list[str]) -> None:
    try:
        if command == "predict" and (_HELP & {*arguments} or _needs_little(arguments)):
            importlib.import_module("waferlab.edge.command").run(arguments)
        else:
            _compose_and_run(command, arguments)
    except Exception as error:
        if (fault := _fault(error)) is None:
            raise
        sys.exit(_fail(*fault))
    except Interrupted as stop:
        sys.exit(_fail(str(stop), 128 + stop.signal_number))


def _needs_little(arguments: list[str]) -> bool:
    from waferlab.edge.zoo import needs_little

    return needs_little(arguments)


def _refused(command: str, overrides: list[str]) -> str:
    """Why there is nothing to do; empty where there is."""
    if command not in COMMANDS:
        return f"there is no command '{command}'; the commands are {', '.join(COMMANDS)}"
    for key in re.findall(r"^(\w+): \?{3}", (config_folder() / f"{command}.yaml").read_text(encoding="utf-8"), re.M):
        if not any(re.match(rf"\+*{key}=|-", each) for each in overrides):
            return f"{key} is missing: waferlab {command} {key}=…"
    if processes.count() > 1 and (command != "train" or {"-m", "--multirun", "hydra.mode=MULTIRUN"} & set(overrides)):
        return "torchrun is for one training; a sweep has hydra.sweeper.workers=…, and nothing else uses processes"
    return ""


def _compose_and_run(command: str, overrides: list[str]) -> None:
    import hydra
    from hydra.errors import HydraException

    from hydra_plugins.resumable_optuna_sweeper import SweepFailedError

    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # faults reach us, instead of Hydra's own report and exit
    folder = config_folder()
    sys.argv = [f"waferlab {command}", *overrides]
    try:
        hydra.main(version_base="1.3", config_path=str(folder), config_name=command)(_guarded(command))()
    except SweepFailedError as error:
        sys.exit(_fail(str(error), 1))
    except HydraException as error:
        said = [line for line in str(error).splitlines() if not line.startswith("To append to your ")]
        if len(said) == 1 and (wrong := re.match(r"Could not override '([^']+)'", said[0])):
            said[0] += _meant(command, wrong[1], folder)
        sys.exit(_fail("\n".join([*said, f"waferlab {command} --cfg job   shows all keys"]), 2))
    except _JobFailedError as failed:
        sys.exit(failed.code)
    except Interrupted as stop:  # before a job, or between those of a sweep
        on = "\nto go on: start the same sweep again" if {"-m", "--multirun"} & set(overrides) else ""
        sys.exit(_fail(f"{stop}{on}", 128 + stop.signal_number))


def _meant(command: str, key: str, folder: Path) -> str:
    """What a key that isn't there was probably meant to be."""
    from waferlab.experiment.compose import compose_overrides, keys

    close = difflib.get_close_matches(key, keys(compose_overrides(command, [])), n=1)
    if (folder / key).is_dir() or key in close:
        return f" With the other overrides, {key} is no part of the configuration."
    return f" Did you mean '{close[0]}'?" if close else ""


class _JobFailedError(Exception):
    """A job of a sweep has failed and said why; the others still run, then the sweep ends with the first one's code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def _end_job(message: str, code: int) -> NoReturn:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    _fail(message, code)
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        raise _JobFailedError(code, message)
    sys.exit(code)


def _guarded(command: str) -> Callable[[Any], Any]:
    """The command's function; every way it can end becomes a message and an exit code."""

    def job(composed: Any) -> Any:
        print("loading libraries …", file=sys.stderr)
        try:
            return importlib.import_module(f"waferlab.commands.{command}").run(composed)
        except Exception as error:
            if (fault := _fault(error)) is None:
                raise
            _end_job(*fault)
        except Interrupted as stop:
            sys.exit(_fail("\n".join([str(stop), *getattr(stop, "__notes__", ())]), 128 + stop.signal_number))

    job.__module__, job.__qualname__ = __name__, command
    return job


def _fault(error: Exception) -> tuple[str, int] | None:
    """Message and exit code of what a person can mend; None for anything else."""
    if isinstance(error, WaferlabError):
        return str(error), 2 if isinstance(error, ConfigError) else 1
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}".rstrip(": "), 1
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
        place = error.filename2 or error.filename or ""  # of two, the second is the one that was written
        return f"{error.strerror or error}: {place}".rstrip(": "), 1
    if isinstance(error, ModuleNotFoundError) and error.name in _WHOLE:
        return f"this needs the whole of Waferlab, and {error.name} isn't installed: {INSTALL}", 1
    return None


def _lost(lost: "sys.UnraisableHookArgs") -> None:
    """Repeat an interruption that came while Python ran a ``__del__``, which swallows what is raised in it."""
    if isinstance(lost.exc_value, Interrupted):
        number = lost.exc_value.signal_number
        signal.signal(number, _interrupt)
        threading.Timer(0.1, os.kill, (os.getpid(), number)).start()
    else:
        sys.__unraisablehook__(lost)


def _interrupt(number: int, _: FrameType | None) -> NoReturn:
    signal.signal(number, _hurry)  # once is enough: a second one must not break the clean-up
    raise Interrupted(number)


def _hurry(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    print("waferlab: closing the run; once more ends it at once, and leaves it open in MLflow", file=sys.stderr)


def _fail(message: str, code: int) -> int:
    lines = f"waferlab: {message}".splitlines()
    if sys.stderr.isatty():  # a terminal breaks them within words; a log is searched for whole ones
        width = shutil.get_terminal_size().columns
        fill = partial(textwrap.fill, width=width, break_long_words=False, break_on_hyphens=False)
        lines = [fill(line, subsequent_indent="  ") if len(line) > width else line for line in lines]
    print(*lines, sep="\n", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
