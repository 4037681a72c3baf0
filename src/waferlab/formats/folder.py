"""Folders of wafer maps: which of their files are read, what their wafers are called, what becomes of broken ones."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Final

from waferlab.data.npz import reading as faults
from waferlab.errors import Bad, WaferlabError
from waferlab.formats import store
from waferlab.formats.block import Block, Format, Reading, Wafer, check_size, in_blocks
from waferlab.progress import note

_NAMED: Final = 5  # files of a kind, at most
_OF_SYSTEMS: Final = ("thumbs.db", "desktop.ini", "__macosx", "$recycle.bin")  # lower case; those of others have a dot


@dataclass
class Folder:
    """The files and stores in a folder, one after another, sorted by path.

    What is hidden, or a system's own, is passed over, and so is what is neither a file nor a folder. Folders that a
    link leads to are not entered.

    Attributes:
        path: of the folder.
        format_of: the format of a file or store; None: of none that is to be read.
        asked: name of the only format that is to be read; None: all are.
        reading: what the files don't say themselves.
        bad: ``refuse`` the folder for a file that can't be read, or ``skip`` such files and name them at the end.
    """

    path: Path
    format_of: Callable[[Path], Format | None]
    asked: str | None
    reading: Reading
    bad: Bad
    _broken: list[Path] = field(default_factory=list)
    _fault: str = ""  # of the first
    _kept: int = 0  # wafers of broken files
    _left_out: list[Path] = field(default_factory=list)

    def blocks(self) -> Iterator[Block]:
        """The wafers, with the file of each. Those that a broken file holds before its damage are kept.

        Raises:
            WaferlabError: there is no wafer, or a file can't be read; where that is seen without reading it whole, as
                with empty files, before the first wafer.
        """
        files = [(path, found) for path in self._paths() if (found := self._sort(path))]
        if self._broken and self.bad == "refuse":
            raise self._refused()
        self.reading.note_if_idle(form for _, form in files)
        whose = list[str]()
        for block in in_blocks(self._wafers(files, whose), self.path):
            yield replace(block, files=whose[: len(block)])
            del whose[: len(block)]

    def _paths(self) -> Iterator[Path]:
        waiting = self._entries(self.path)
        while waiting:
            path = waiting.pop()
            if path.name.startswith(".") or path.name.lower() in _OF_SYSTEMS:
                continue
            with self._bad_is_kept(path):
                if path.is_dir() and not store.is_store(path):
                    waiting += [] if path.is_symlink() else self._entries(path)
                elif path.is_dir() or path.is_file() or not path.exists():  # a link to nothing is a file that's missing
                    yield path

    def _entries(self, folder: Path) -> list[Path]:
        """What is in a folder, from last to first."""
        entries = list[Path]()
        with self._bad_is_kept(folder):
            entries += sorted(folder.iterdir(), reverse=True)
        return entries

    def _sort(self, path: Path) -> Format | None:
        """The format that a file is to be read by, or its place among those that aren't."""
        with self._bad_is_kept(path):
            check_size(path)
            if found := self.format_of(path):
                return found
            self._left_out.append(path)
        return None

    @contextmanager
    def _bad_is_kept(self, path: Path) -> Iterator[None]:
        """What can't be read is kept among the broken ones."""
        try:
            with faults(str(path)):
                yield
        except WaferlabError as error:
            self._fault = self._fault or str(error)  # not the error itself, which holds what was read so far
            self._broken.append(path)

    def _wafers(self, files: list[tuple[Path, Format]], whose: list[str]) -> Iterator[Wafer]:
        """Those of all files; `whose` grows by the file of each."""
        for path, form in files:
            file, read, broken = path.relative_to(self.path), 0, len(self._broken)
            found = chain.from_iterable(form.read(path, self.reading))
            while (wafer := self._next(found, path)) is not None:
                whose.append(file.as_posix())
                yield _called(wafer[0], file if path.is_dir() else file.with_suffix("")), wafer[1]
                read += 1
            if self._broken and self.bad == "refuse":
                raise self._refused()
            if len(self._broken) > broken:
                self._kept += read
        if self._left_out:
            other = f"another format than {self.asked}" if self.asked else "no known format"
            note(f"left out of {self.path}, as of {other}: {self._some(self._left_out)}")
        if self._broken:
            note(f"skipped, as they can't be read: {self._said()}")

    def _next(self, wafers: Iterator[Wafer], path: Path) -> Wafer | None:
        with self._bad_is_kept(path):
            return next(wafers, None)
        return None

    def _refused(self) -> WaferlabError:
        if len(self._broken) == 1:
            return WaferlabError(f"{self._fault}; mend the file, or leave out what can't be read: bad=skip")
        return WaferlabError(f"these can't be read; mend them, or leave them out by bad=skip: {self._said()}")

    def _said(self) -> str:
        files = f"{len(self._broken):,} file{'s' * (len(self._broken) > 1)}"
        kept = f", but for {self._kept:,} wafers before the damage" if self._kept else ""
        return f"{files} ({self._some(self._broken)}){kept}. Of the first: {self._fault}"

    def _some(self, paths: list[Path]) -> str:
        names = (path.relative_to(self.path).as_posix() for path in paths[:_NAMED])
        return ", ".join(names) + ", …" * (len(paths) > _NAMED)


def _called(wafer: str, file: Path) -> str:
    """What a wafer is called beside those of other files: one that its file numbers, or names as itself, after it."""
    return file.as_posix() if wafer == file.name else f"{file.as_posix()}/{wafer}" if wafer.isdecimal() else wafer
