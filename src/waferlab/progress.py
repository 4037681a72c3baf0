"""Progress that a person can follow: a live bar on a terminal, an occasional line in a file."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class Bar:
    """One running piece of work; made by `progress`."""

    def __init__(self, title: str, total: int, live: Progress | None, console: Console) -> None:
        self.title, self.total, self.done, self.note = title, total, 0, ""
        self._live, self._console = live, console
        self._task: TaskID | None = live.add_task(title, total=total, note="") if live else None
        self._started = self._said = time.monotonic()

    def advance(self, steps: int = 1, note: str | None = None) -> None:
        """Count steps done; the note stands beside the bar until the next one."""
        self.done += steps
        self.note = self.note if note is None else note
        if self._live is not None and self._task is not None:
            self._live.update(self._task, completed=self.done, note=self.note)
        elif (now := time.monotonic()) - self._said >= 10 or self.done >= self.total:
            self._said = now
            seconds = now - self._started
            self._console.print(f"{self.title}: {self.done}/{self.total}  {seconds:.0f} s  {self.note}", soft_wrap=True)


@contextmanager
def progress(title: str, total: int, done: int = 0) -> Iterator[Bar]:
    """Show the progress of `total` steps, `done` of which were made before, on standard error."""
    console = Console(stderr=True)
    if not console.is_terminal:
        bar = Bar(title, total, None, console)
        bar.done = done
        yield bar
        return
    columns = (TextColumn("{task.description}"), BarColumn(20), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=console) as live:
        bar = Bar(title, total, live, console)
        bar.advance(done)
        yield bar
