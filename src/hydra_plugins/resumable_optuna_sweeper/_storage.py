"""Where a study is kept, and how its workers take turns."""

import contextlib
import zlib
from collections.abc import Iterator
from pathlib import Path

import optuna
from filelock import FileLock
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

JOURNAL = "study.journal"


def location(storage: str | None, folder: Path) -> str:
    """The storage as given; without one, a journal file in the sweep's folder."""
    return storage or str(folder.resolve() / JOURNAL)


def open_storage(place: str) -> BaseStorage:
    """A database by its URL (``sqlite:///…``, ``postgresql://…``), or a journal file by its path."""
    if "://" in place:
        return RDBStorage(place)
    Path(place).parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(place))


@contextlib.contextmanager
def one_at_a_time(place: str) -> Iterator[None]:
    """Keep other workers of this storage out, wherever they run; the lock goes with the process that holds it.

    A PostgreSQL server has locks of its own; elsewhere a file beside the storage is locked, which on a network file
    system wants one that knows locks, such as NFS 4.
    """
    if place.startswith("postgresql"):
        with _postgresql_lock(place):
            yield
        return
    file = place.split("://", 1)[1].lstrip("/") if "://" in place else place
    path = Path("/" + file) if place.startswith("sqlite:////") else Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        yield


@contextlib.contextmanager
def _postgresql_lock(url: str) -> Iterator[None]:
    from sqlalchemy import NullPool, create_engine, text  # noqa: PLC0415 - only where it is needed

    key = {"key": zlib.crc32(b"resumable_optuna_sweeper")}
    with create_engine(url, poolclass=NullPool).connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), key)
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), key)


def quiet() -> None:
    """Leave it to the sweeper to tell of trials, and of what in Optuna is called experimental."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
