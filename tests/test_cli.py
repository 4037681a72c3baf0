"""The ``waferlab`` command before any work begins: help, mistakes, exit codes."""

import errno
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NoReturn

import pytest

from waferlab.cli import COMMANDS, main

WAFERLAB = [sys.executable, "-m", "waferlab.cli"]
OTHER_TEACHER = ("task=anomaly", "dataset.maps=300", "teacher.dataset.size=40", "teacher.dataset.maps=240")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["help"]])
def test_help_names_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert all(f"  {command} " in said for command in COMMANDS)
    assert max(map(len, said.splitlines())) <= 80


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("waferlab ")


def test_an_unknown_command_is_refused_with_those_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tarin"]) == 2
    assert "there is no command 'tarin'; the commands are train, evaluate" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["predict", "input=x"], "model is missing: waferlab predict model=…"),
        (["evaluate", "dataset=mixedwm38"], "model is missing: waferlab evaluate model=…"),
        (["register", "model=x"], "name is missing: waferlab register name=…"),
        (["report"], "study is missing: waferlab report study=…"),
    ],
)
def test_what_a_command_cannot_do_without_is_asked_for_at_once(
    given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(given) == 2
    assert capsys.readouterr().err == f"waferlab: {said}\n"


@pytest.mark.parametrize(
    ("overrides", "said", "code"),
    [
        (["+trainer.max_epoch=3"], "did you mean 'max_epochs'?", 2),
        (["trainer.max_epochs=many"], "trainer.max_epochs='many'", 2),
        (["distillation.alpah=1"], "Did you mean 'distillation.alpha'?", 2),
        (["studnet=net1"], "Did you mean 'student'?", 2),
        (["task=anomaly", "student=net1"], "student is no part of the configuration", 2),
        ([*OTHER_TEACHER, "teacher.trainer.max_epochs=1"], "the teacher reads maps of (40, 40) dies", 1),
        (["distillation.alpha=2"], "alpha=2", 2),
        (["student=net3"], "net3", 2),
        (["optimizer.lr=-1"], "optimizer: Invalid learning rate: -1", 2),
        (["teacher.schedule.warmup=1"], "teacher.schedule: warmup=1", 2),
        (["dataset.maps=0"], "maps is 0", 2),
        (["dataset.maps=300", "student.weights=imagenet"], "student.weights", 2),
        (["dataset=mixedwm38", "dataset.path=/nowhere/maps.npz"], "/nowhere/maps.npz", 1),
        (["teacher.model=/nowhere/model"], "/nowhere/model", 1),
        (["distillation=supervised", "teacher.model=teacher.safetensors"], "Supervised has no teacher", 2),
        (["trainer.label_noise=0.1"], "did you mean teacher.trainer.label_noise?", 2),
        (["dataset.maps=40"], "no map is in its val part", 1),
        (["resume=" + "0" * 32], "can't be resumed", 1),
        (["resume=" + "0" * 32, "seed=3"], "leave out seed=3", 2),
    ],
)
def test_mistakes_end_with_a_sentence_and_a_code(
    overrides: list[str], said: str, code: int, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["train", *overrides, f"store={tmp_path}", f"hydra.run.dir={tmp_path}"]) == code
    error = capfd.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert code == 1 or not (tmp_path / "runs").exists(), "no run was opened"


def test_a_full_disk_is_named_by_the_file_that_was_to_be_written(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def copies(_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device", "/from/file", None, "/to/file")

    monkeypatch.setattr("waferlab.commands.data.run", copies)
    assert main(["data"]) == 1
    assert capfd.readouterr().err.splitlines()[-1] == "waferlab: No space left on device: /to/file"


def test_a_sweep_goes_on_after_a_job_that_fails(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "-m", "dataset.maps=40,41"]) == 1
    assert capfd.readouterr().err.count("no map is in its val part") == 2


def test_an_interruption_in_a_destructor_is_not_lost(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import os, signal, sys, time
            from waferlab import cli
            from waferlab.errors import Interrupted

            class Fragile:
                def __del__(self):
                    os.kill(os.getpid(), signal.SIGTERM)

            def job(command, overrides):
                Fragile()
                try:
                    time.sleep(10)
                except Interrupted:
                    sys.exit(7)

            cli._compose_and_run = job
            sys.exit(cli.main(["data"]))
            """
        )
    )
    assert subprocess.run([sys.executable, program], check=False).returncode == 7


@pytest.mark.parametrize("asked", [["--help"], ["train", "--help"]], ids=" ".join)
def test_a_reader_that_has_seen_enough_is_no_fault(asked: list[str]) -> None:
    with subprocess.Popen([*WAFERLAB, *asked], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as job:
        assert job.stdout is not None
        assert job.stderr is not None
        job.stdout.close()
        assert job.stderr.read() == b""


@pytest.mark.parametrize("is_terminal", [True, False])
def test_refusals_are_broken_between_words_on_a_terminal_and_stay_whole_in_a_log(
    is_terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    assert main(["predict", "model=zoo/mixed", f"input={'lots/' * 20}"]) == 1
    said = capsys.readouterr().err
    assert "doesn't exist; say where the wafer maps are" in " ".join(said.split())
    assert (len(said.splitlines()) > 1) == is_terminal
