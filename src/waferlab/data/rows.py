"""Some rows of an array on the disk, read when somebody looks at them."""

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from waferlab.errors import WaferlabError


class Rows:
    """Looks like an array of the chosen rows; indexing it reads those that are asked for, and no others.

    Sent to another process, an array that is mapped from a file goes as the file's name.

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

    def __reduce__(self) -> tuple[Any, ...]:
        array = self._array
        if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap):  # the whole map, of which it knows where
            return _of_file, (str(array.filename), array.dtype.str, array.offset, array.shape, self._chosen)
        return Rows, (array, self._chosen)


def _of_file(file: str, dtype: str, offset: int, shape: tuple[int, ...], chosen: NDArray[np.int64]) -> Rows:
    if not Path(file).exists():
        raise WaferlabError(f"{file} isn't there: the data's cache has to be where every process sees it")
    return Rows(np.memmap(file, dtype, "r", offset, shape), chosen)


def pieces(array: NDArray[Any] | Rows, most: int = 2**26) -> Iterator[NDArray[Any]]:
    """An array (N, …), which may lie on the disk, in parts (n, …) of so many bytes at most, or of one row."""
    row = int(np.prod(array.shape[1:])) * array.dtype.itemsize
    step = max(most // max(row, 1), 1)
    for start in range(0, len(array), step):
        yield np.ascontiguousarray(array[start : start + step])
