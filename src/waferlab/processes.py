"""One training by several processes, as torchrun starts them: the first one leads, the others help it fit.

Only the leader reads the command and the data, keeps runs, locks and files, and speaks. A helper does what the leader
sends it, and so knows nothing of experiments.
"""

import importlib
import io
import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache
from itertools import count as numbers
from typing import TYPE_CHECKING, Any, Final

from waferlab.errors import Interrupted, WaferlabError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed.distributed_c10d import Store

#: Seconds in which torchrun ends the others when one process has ended.
_PATIENCE: Final = 3
_orders = numbers()


def count() -> int:
    """How many processes share this training; 1 where torchrun didn't start it."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def rank() -> int:
    """The number of this process, from 0, which leads."""
    return int(os.environ["RANK"]) if count() > 1 else 0


def count_here() -> int:
    """How many of them are on this host, as on every other."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if count() > 1 else 1


def is_leader() -> bool:
    """Whether this process leads, as one that is alone does."""
    return rank() == 0


@contextmanager
def leading() -> Iterator[None]:
    """Around all that the leader does; afterwards the helpers may go."""
    _quiet()
    try:
        yield
    finally:
        if count() > 1:
            with suppress(RuntimeError, ValueError):  # torchrun may have gone before
                _mailbox().set(f"order {next(_orders)}", "end")


@contextmanager
def everywhere(function: Callable[..., object], *arguments: object) -> Iterator[None]:
    """Have every helper call this function, of a module, while the leader does the same work in this context.

    A fault in one process ends all; where it struck a helper alone, the leader tells of it.

    Raises:
        WaferlabError: a helper has failed, or the work can't be sent to it.
    """
    if count() == 1:
        yield
        return
    content = _packed(function, arguments)
    order = next(_orders)
    _mailbox().set(f"order {order}", "go")
    try:
        with _connected(order):
            _broadcast(content)
            yield
    except Interrupted as stop:
        if fault := _fault():
            raise WaferlabError(fault) from stop
        raise
    except Exception as error:
        is_consequence = "/gloo/" in str(error) or _is_of_torch_distributed(error)
        if is_consequence and not _fault():
            time.sleep(_PATIENCE)  # most likely an interruption of all, which shall be told as one
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun's, for this process is about to end by itself
        if isinstance(error, WaferlabError) or not (is_consequence or _fault()):
            raise
        raise WaferlabError(_fault() or "another process of this training has ended") from error


def assist(importing: str) -> int:
    """Do what the leader sends until it is done; returns the exit code.

    Signals end a helper at once, since it has nothing to clean up.

    Args:
        importing: the module that the work will need, imported while the leader reads its data.
    """
    _quiet()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    try:
        importlib.import_module(importing)
        for order in numbers():
            if not _is_wanted(order):
                return 0
            with _connected(order):
                function, arguments = _unpacked(_broadcast())
                function(*arguments)
    except Exception as error:
        _tell(error)
    return 1


def _quiet() -> None:
    """Keep torch's advice to programmers, that DDP looks for unused parameters in vain, away from everybody else."""
    if count() > 1:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


@cache
def _store() -> "Store":
    """What all processes may write into and read from; torchrun keeps it."""
    from torch.distributed.rendezvous import rendezvous

    store: Store = next(rendezvous("env://"))[0]
    return store


@cache
def _mailbox() -> "Store":
    """Where orders and faults lie."""
    from torch.distributed.distributed_c10d import PrefixStore

    return PrefixStore("waferlab", _store())


@contextmanager
def _connected(order: int) -> Iterator[None]:
    """All processes in one group while they work; outside, libraries take each for alone."""
    import torch
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore

    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    store = PrefixStore(f"group {order}", _store())
    dist.init_process_group(backend, store=store, rank=rank(), world_size=count())
    yield
    dist.destroy_process_group()


def _is_wanted(order: int) -> bool:
    """Wait, for days if need be, until the leader gives an order; whether it is to work."""
    import torch.distributed as dist

    while True:
        with suppress(dist.DistStoreError):  # no order yet
            _mailbox().wait([f"order {order}"], timedelta(minutes=10))
            return _mailbox().get(f"order {order}") == b"go"


def _packed(function: Callable[..., object], arguments: tuple[object, ...]) -> bytes:
    import torch

    content = io.BytesIO()
    try:
        torch.save((function, arguments), content)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise WaferlabError(f"this can't be sent to the other processes of torchrun: {error}") from error
    return content.getvalue()


def _unpacked(content: "Tensor") -> Any:
    """What was packed, with what is on the leader's GPU on this process's own; the leader's word is trusted."""
    import torch

    own = {"cuda:0": f"cuda:{os.environ['LOCAL_RANK']}"}
    return torch.load(io.BytesIO(content.numpy().data), map_location=own, weights_only=False)


def _broadcast(content: bytes = b"") -> "Tensor":
    """The leader's bytes, everywhere."""
    import torch
    import torch.distributed as dist

    size = torch.tensor([len(content)])
    dist.broadcast(size, 0)
    sent = torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)
    sent = sent if is_leader() else torch.empty(int(size), dtype=torch.uint8)
    dist.broadcast(sent, 0)
    return sent


def _tell(error: Exception) -> None:
    """Leave a helper's fault to the leader, and what nobody has foreseen to torchrun's report."""
    from torch.distributed.elastic.multiprocessing.errors import get_error_handler

    text = str(error) if isinstance(error, WaferlabError) else f"{type(error).__name__}: {error}"
    with suppress(RuntimeError):
        _mailbox().compare_set("fault", "", f"process {rank()}: {text}")
    if not isinstance(error, WaferlabError):
        get_error_handler().record_exception(error)


def _fault() -> str:
    """What the first helper that failed has to say; empty where none did."""
    with suppress(RuntimeError):
        if _mailbox().check(["fault"]):
            return _mailbox().get("fault").decode()
    return ""


def _is_of_torch_distributed(error: Exception) -> bool:
    import torch.distributed as dist

    return isinstance(error, dist.DistError)
