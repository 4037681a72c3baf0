"""How often each map is shown in an epoch where classes have very different sizes."""

import torch
from torch import Tensor


class Oversampling:
    """Shows maps of small classes more often than those of the largest one, which are shown once.

    A map of a class with n maps is shown (N / n) ** power times, where N is the size of the largest class; where that
    is no whole number, some of the class's maps are shown once more than others, other ones in each epoch.

    Args:
        classes: (M,) int64, the class of each map.
        power: 0 shows every map once, 1 all classes equally often.
    """

    def __init__(self, classes: Tensor, power: float) -> None:
        self.rows = [torch.nonzero(classes == each).flatten() for each in range(int(classes.max()) + 1)]
        self.rows = [rows for rows in self.rows if len(rows)]
        largest = max((len(rows) for rows in self.rows), default=0)
        self.counts = [round(len(rows) * (largest / len(rows)) ** power) for rows in self.rows]

    def __len__(self) -> int:
        """Maps in an epoch."""
        return sum(self.counts)

    def order(self, random: torch.Generator) -> Tensor:
        """Numbers of the maps in an epoch (len,), in random order."""
        chosen = []
        for rows, count in zip(self.rows, self.counts, strict=True):
            whole, rest = divmod(count, len(rows))
            chosen += [rows.repeat(whole), rows[torch.randperm(len(rows), generator=random)[:rest]]]
        order = torch.cat(chosen)
        return order[torch.randperm(len(order), generator=random)]
