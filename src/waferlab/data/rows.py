"""Some rows of an array on the disk, read when somebody looks at them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Rows:
    """Looks like an array of the chosen rows; indexing it reads those that are asked for, and no others.

    Args:
        array: (N, …), usually mapped into memory from a file.
        chosen: (R,) int64 row numbers; all rows if None.
    """

    def __init__(self, array: NDArray[np.uint8], chosen: NDArray[np.int64] | None = None) -> None:
        self._array = array
        self._chosen = np.arange(len(array)) if chosen is None else chosen

    def __len__(self) -> int:
        return len(self._chosen)

    @property
    def shape(self) -> tuple[int, ...]:
        """(R, …)."""
        return len(self), *self._array.shape[1:]

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """Of the values."""
        return self._array.dtype

    def only(self, index: NDArray[np.int64] | slice) -> "Rows":
        """Some of these rows, still unread."""
        return Rows(self._array, self._chosen[index])

    def __getitem__(self, index: Any) -> NDArray[np.uint8]:
        return np.asarray(self._array[self._chosen[index]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.uint8]:
        return np.asarray(self[:], dtype)
