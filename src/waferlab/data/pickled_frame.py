"""Reads a pickled pandas table of any age without running anything that the pickle names.

A pickle calls whatever functions it names when it is loaded. Here the only names known are those of numpy's and pandas'
data classes; pandas' are played by stand-ins that keep columns, so that neither the pandas nor the Python that wrote
the file matters. Any other name is refused before it is looked up.
"""

import io
import pickle
import re
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from waferlab.data.npz import reading
from waferlab.errors import WaferlabError
from waferlab.progress import Bar, progress

Column = NDArray[Any]

_BUFFER: Final = 1 << 22  # bytes
_ELEMENT: Final = re.compile(r"[<>|=]?([biufOSU]\d{1,4}|b1|\?)")


def read_columns(path: Path) -> dict[str, Column]:
    """The columns of a pickled table by name, each (N,) of the dtype it was stored with.

    Raises:
        WaferlabError: the file is no pickled table, is damaged, or names anything but data classes.
    """
    with reading(str(path)), progress(f"reading {path.name}, MiB", path.stat().st_size >> 20) as bar:
        try:
            with io.BufferedReader(_Watched(path, bar), _BUFFER) as file:
                table = _Unpickler(file, encoding="latin1").load()
            if not isinstance(table, _Frame):
                raise WaferlabError(f"{path} holds a pickled {type(table).__name__}, not a pandas table")
            return table.columns()
        except pickle.UnpicklingError as error:
            raise WaferlabError(f"{path} can't be read as a pickled table: {error}") from error
        except (AttributeError, KeyError, IndexError, MemoryError, OverflowError) as error:
            raise WaferlabError(f"{path} is damaged or no pickled table ({type(error).__name__}: {error})") from error


class _Index:
    """Row or column names."""

    def __init__(self, values: Any) -> None:
        self.values = values


def _new_index(_: type, state: Mapping[str, Any]) -> _Index:
    """Pandas' way to make an index, a range of rows among them."""
    return _Index(state.get("data", ()))


class _Block:
    """Columns of one dtype, and their places in the table."""

    def __init__(self, values: Any, placement: Any, ndim: int = 2) -> None:
        self.values, self.placement = values, placement


class _Manager:
    """What holds a table's blocks: made from arguments since pandas 1.3, from a state before."""

    def __init__(self, blocks: Any = (), axes: Any = ()) -> None:
        self.blocks, self.axes = blocks, axes

    def __setstate__(self, state: Any) -> None:
        newest = state[3]["0.14.1"]
        self.axes = newest["axes"]
        self.blocks = [_Block(block["values"], block["mgr_locs"]) for block in newest["blocks"]]


class _Frame:
    """A table."""

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.manager = state.get("_mgr", state.get("_data"))

    def columns(self) -> dict[str, Column]:
        """Columns by name."""
        names = np.asarray(self.manager.axes[0].values)
        return {
            str(name): values
            for block in self.manager.blocks
            for name, values in zip(names[block.placement], block.values, strict=True)
        }


class _Dtype:
    """An element type: numbers, text or objects. Numpy's own would take any state, with which its arrays crash."""

    def __init__(self, code: str, *_: Any) -> None:
        if not _ELEMENT.fullmatch(code):
            raise ValueError(f"its arrays have elements of type {code[:20]!r}")
        self.plain = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">"):
            self.plain = self.plain.newbyteorder(state[1])


class _Array(np.ndarray[Any, Any]):
    """An array that is filled only with what fits it."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, is_fortran, content = state
        element = dtype.plain
        if (type(content) is list) != element.hasobject or (element.hasobject and len(content) != prod(shape)):
            raise ValueError(f"an array of shape {shape} and {element} has another content")
        super().__setstate__((1, shape, element, is_fortran, content))


class _Kind:
    """Stands for the class of arrays, in calls alone."""


def _reconstruct(*_: Any) -> NDArray[Any]:
    """An array that the pickle then fills; numpy keeps this function elsewhere in each major version."""
    return np.ndarray.__new__(_Array, (0,), np.uint8)


def _from_buffer(buffer: Any, dtype: Any, shape: tuple[int, ...], order: Any, axis_order: Any = None) -> NDArray[Any]:
    """An array of numbers, as numpy pickles them since protocol 5."""
    return np.frombuffer(buffer, dtype.plain).reshape(shape, order=order)


#: By package, since both moved their classes about: what a name stands for.
_KNOWN: dict[str, dict[str, Callable[..., Any]]] = {
    "numpy": {"ndarray": _Kind, "dtype": _Dtype, "_reconstruct": _reconstruct, "_frombuffer": _from_buffer},
    "pandas": {
        **{"DataFrame": _Frame, "BlockManager": _Manager, "new_block": _Block, "_unpickle_block": _Block},
        **{"_new_Index": _new_index, "Index": _Index, "RangeIndex": _Index, "Int64Index": _Index},
    },
    "builtins": {"slice": slice},
    "__builtin__": {"slice": slice},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        known = _KNOWN.get(module.partition(".")[0], {}).get(name)
        if known is None:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no data class of numpy or pandas")
        return known


class _Watched(io.FileIO):
    """A file that moves a bar, by MiB, as it is read."""

    def __init__(self, path: Path, bar: Bar) -> None:
        super().__init__(path)
        self.bar = bar

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer)
        self.bar.advance((self.tell() >> 20) - self.bar.done)
        return count
