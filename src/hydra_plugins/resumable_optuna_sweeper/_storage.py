"""Where a study is kept, and how its workers take turns."""

import contextlib
import logging
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import optuna
from filelock import FileLock
from hydra.errors import HydraException
from hydra.utils import instantiate
from optuna.exceptions import StorageInternalError
from optuna.pruners import BasePruner, NopPruner
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

log = logging.getLogger("resumable_optuna_sweeper")

Answer = TypeVar("Answer")
#: Tries to ask a storage that is away, and seconds between two.
TRIES: Final = 20
PAUSE: Final = 3.0
JOURNAL = "study.journal"
SQLITE = "sqlite:///"


def location(storage: str | None, folder: Path) -> str:
    """The storage as given, from any working directory; without one, a journal file in the sweep's folder.

    Raises:
        HydraException: a database that workers can't take turns at.
    """
    if storage is None:
        return str(folder.resolve() / JOURNAL)
    if storage.startswith(SQLITE):
        return SQLITE + str(Path(storage.removeprefix(SQLITE)).resolve())
    if "://" in storage and not storage.startswith("postgresql"):
        raise HydraException("hydra.sweeper.storage: give a journal file's path, sqlite:///FILE, or postgresql://…")
    return storage if "://" in storage else str(Path(storage).resolve())


def open_storage(place: str) -> BaseStorage:
    """What `location` gave.

    Raises:
        HydraException: the database's driver isn't installed.
    """
    quiet()
    if "://" not in place:
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(place))
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - only where it is needed

    try:
        return RDBStorage(place, engine_kwargs={"pool_pre_ping": True})
    except ImportError as error:
        raise HydraException(f"hydra.sweeper.storage: {error}; install the database's driver") from error
    except SQLAlchemyError as error:
        raise StorageInternalError(f"the database doesn't answer ({error})") from error


def patiently(ask: Callable[[], Answer]) -> Answer:
    """Ask a storage that may be away for a while."""
    for _ in range(TRIES - 1):
        try:
            return ask()
        except (StorageInternalError, OSError) as error:
            log.warning(f"the study's storage doesn't answer, trying again: {error}")
            time.sleep(PAUSE)
    return ask()


def mend(place: str) -> None:
    """Cut off what a crash left of a journal's last line; nobody could read the journal any more."""
    if "://" in place or not Path(place).exists():
        return
    lock = JournalFileSymlinkLock(place)
    lock.acquire()
    try:
        with Path(place).open("rb+") as journal:
            content = journal.read()
            if content and not content.endswith(b"\n"):
                log.warning(f"{place}: its last line was unfinished, and is cut off")
                journal.truncate(content.rfind(b"\n") + 1)
    finally:
        lock.release()


@contextlib.contextmanager
def one_at_a_time(place: str) -> Iterator[None]:
    """Keep other workers of this storage out, wherever they run; the lock goes with the process that holds it.

    A PostgreSQL server has locks of its own; elsewhere a file beside the storage is locked, which on a network file
    system wants one that knows locks, such as NFS 4.
    """
    if "://" in place and not place.startswith(SQLITE):
        with _postgresql_lock(place):
            yield
        return
    path = Path(place.removeprefix(SQLITE))
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock"), poll_interval=0.01):
        yield


@contextlib.contextmanager
def _postgresql_lock(url: str) -> Iterator[None]:
    from sqlalchemy import NullPool, create_engine, text  # noqa: PLC0415 - only where it is needed
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    key = {"key": zlib.crc32(b"resumable_optuna_sweeper")}
    try:
        engine = create_engine(url, poolclass=NullPool)
    except ImportError as error:
        raise HydraException(f"hydra.sweeper.storage: {error}; install the database's driver") from error
    with contextlib.ExitStack() as held:
        try:
            connection = held.enter_context(engine.connect())
            connection.execute(text("SELECT pg_advisory_lock(:key)"), key)
        except SQLAlchemyError as error:
            raise StorageInternalError(f"the database doesn't answer ({error})") from error
        try:
            yield
        finally:
            with contextlib.suppress(SQLAlchemyError):  # if it is gone, so is the lock
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), key)


def made_pruner(pruner: Mapping[str, Any] | None) -> BasePruner:
    """The configured pruner; without one, none that prunes."""
    made: BasePruner = instantiate(pruner) if pruner else NopPruner()
    return made


def quiet() -> None:
    """Leave it to the sweeper to tell of trials."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
