"""Progress that a person can follow: a live bar on a terminal, an occasional line in a file."""

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from waferlab import processes


class Bar:
    """One running piece of work; made by `progress`."""

    def __init__(self, title: str, total: int | None, done: int, live: Progress | None, console: Console) -> None:
        self.title, self.total, self.done, self.note = title, total, float(done), ""
        self._live, self._console = live, console
        self._task: TaskID | None = live.add_task(title, total=total, completed=done, note="") if live else None
        self._started = self._said = time.monotonic()

    def advance(self, steps: float = 1, note: str | None = None) -> None:
        """Count steps done; the note stands beside the bar until the next one."""
        self.reach(self.done + steps, note)

    def reach(self, done: float, note: str | None = None) -> None:
        """Say how many steps are done in all."""
        is_last = self.total is not None and done >= self.total > self.done
        self.done, self.note = done, self.note if note is None else note
        if self._live is not None and self._task is not None:
            self._live.update(self._task, completed=done, note=self.note)
        elif (now := time.monotonic()) - self._said >= 10 or is_last:
            self._said = now
            seconds = now - self._started
            of = "" if self.total is None else f"/{self.total}"
            self._console.print(f"{self.title}: {_brief(done)}{of}  {seconds:.0f} s  {self.note}", soft_wrap=True)


class _Done(ProgressColumn):
    """Steps done of all."""

    def render(self, task: Task) -> Text:
        return Text(_brief(task.completed) + (f"/{task.total:.0f}" if task.total else ""))


def _brief(done: float) -> str:
    """Whole steps plainly, parts of one with a decimal."""
    return f"{done:.0f}" if done == int(done) else f"{done:.1f}"


def say(what: str) -> None:
    """Say on standard error what begins now."""
    _print(f"{what} …")


def note(what: str) -> None:
    """Say on standard error what a person should know but need not act upon."""
    _print(f"note: {what}")


def note_without_effect(overrides: Sequence[str], keys: str, why: str) -> None:
    """Say which overrides nothing will read: no error, as a sweep may need them for its other runs.

    Args:
        overrides: as typed.
        keys: a regular expression of the keys and groups that are idle.
        why: ends the sentence.
    """
    for override in overrides:
        if re.match(rf"[+~]*({keys})[.=]", override):
            note(f"{override} has no effect: {why}")


@contextmanager
def progress(title: str, total: int | None, done: int = 0) -> Iterator[Bar]:
    """Show the progress of `total` steps, or of nobody knows how many, `done` of which were made before.

    It goes to standard error.
    """
    console = _console()
    if not console.is_terminal:
        yield Bar(title, total, done, None, console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(20), _Done(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=console) as live:
        yield Bar(title, total, done, live, console)


def _print(line: str) -> None:
    """A line, which only a terminal breaks between words; in a file, it can be searched for."""
    console = _console()
    console.print(line, soft_wrap=not console.is_terminal, highlight=False, markup=False)


def _console() -> Console:
    """Standard error; of several processes that train together, only one speaks."""
    return Console(stderr=True, quiet=not processes.is_leader())
