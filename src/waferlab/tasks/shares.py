"""What each of several processes does of a batch, so that together they do exactly what one would."""

from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from waferlab import processes

_DROPOUTS: Final = (functional.dropout, functional.dropout1d, functional.dropout2d, functional.dropout3d)


class Share:
    """This process's maps of a batch: all of them where it is alone, or where there are fewer than processes.

    A loss is computed everywhere, from everyone's outputs: it is that of the whole batch, whatever it makes of it. Its
    gradient in each process comes from the process's own maps, times the number of processes: their mean, which is what
    DDP makes of them, is the gradient that one process would find.

    Args:
        count: maps in the batch.
    """

    def __init__(self, count: int) -> None:
        self.count, self.of_all, rank = count, processes.count(), processes.rank()
        if count < self.of_all:
            self.of_all, rank = 1, 0
        ends = [count * process // self.of_all for process in range(self.of_all + 1)]
        self.sizes = [end - start for start, end in pairwise(ends)]
        self.rank, self.rows = rank, slice(ends[rank], ends[rank + 1])

    def of(self, batch: Tensor) -> Tensor:
        """This process's part (b, …) of what belongs to the maps (B, …)."""
        return batch[self.rows]

    def whole(self, own: Tensor) -> Tensor:
        """Everyone's parts (B, …), this process's being (b, …)."""
        return own if self.of_all == 1 else _total(_among(own, self.rows.start, self.count))

    def mean(self, own: Tensor) -> Tensor:
        """The mean (…) over everyone's parts, this process's being (b, …)."""
        return own.mean(0) if self.of_all == 1 else _total(own.sum(0)) / self.count

    def together(self) -> AbstractContextManager[object]:
        """A context in which networks normalise batches, and drop values, as if they saw the whole batch."""
        return nullcontext() if self.of_all == 1 else _Together(self)


class _Together(TorchFunctionMode):
    """Puts the whole batch into what looks at more than one map: batch norms, of whatever class, and dropout's dice.

    Torch's `SyncBatchNorm` is for GPUs only, and takes the place of layers, also of those that do more than normalise.
    """

    def __init__(self, share: Share) -> None:
        super().__init__()
        self.share = share

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is functional.batch_norm and kwargs["training"]:
            return _batch_norm(self.share, *args, **kwargs)
        if function in _DROPOUTS and kwargs["training"] and len(args[0]) == self.share.sizes[self.share.rank]:
            ones = args[0].new_ones(self.share.count, *args[0].shape[1:])
            return args[0] * self.share.of(function(ones, **(kwargs | {"inplace": False})))
        return function(*args, **kwargs)


def _batch_norm(
    share: Share,
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """As `torch.nn.functional.batch_norm` in training, for this process's part (b, C, …) of a batch."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    own = torch.stack(torch.var_mean(wide, [axis for axis in range(x.dim()) if axis != 1], correction=0))
    variances, means = _total(_among(own[None], share.rank, share.of_all)).unbind(1)  # (processes, C)
    part = means.new_tensor(share.sizes)[:, None] / share.count
    mean = (part * means).sum(0)
    variance = (part * (variances + (means - mean).square())).sum(0)
    if running_mean is not None and running_var is not None:
        values = x.numel() // x.shape[1] * share.count // len(x)
        with torch.no_grad():
            running_mean.lerp_(mean, momentum)
            running_var.lerp_(variance * (values / (values - 1)), momentum)
    scale = (variance + eps).rsqrt() * (1 if weight is None else weight)
    shift = torch.zeros_like(mean) if bias is None else bias
    channels = (1, -1, *[1] * (x.dim() - 2))
    y = torch.addcmul(shift.view(channels), wide - mean.view(channels), scale.view(channels))
    return y.to(x.dtype)


def _among(own: Tensor, start: int, count: int) -> Tensor:
    """(count, …) zeros, but for this (b, …) from `start` on."""
    before, after = (own.new_zeros(rows, *own.shape[1:]) for rows in (start, count - start - len(own)))
    return torch.cat([before, own, after])


class _Total(torch.autograd.Function):
    """A sum over processes; what depends on it depends on all of them, so the gradient is such a sum, too."""

    @staticmethod
    def forward(_: Any, own: Tensor) -> Tensor:
        total = own.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        return _Total.forward(_, gradients[0])


def _total(own: Tensor) -> Tensor:
    total: Tensor = _Total.apply(own)
    return total
