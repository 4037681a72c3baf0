"""Writes tables as pandas 0.19 under Python 2 pickled them, opcode by opcode, so that tests need neither."""

import pickle
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

import numpy as np

GLOBALS = {
    "frame": "pandas.core.frame DataFrame",
    "manager": "pandas.core.internals BlockManager",
    "new_index": "pandas.indexes.base _new_Index",
    "index": "pandas.indexes.base Index",
    "range": "pandas.indexes.range RangeIndex",
    "reconstruct": "numpy.core.multiarray _reconstruct",
    "ndarray": "numpy ndarray",
    "dtype": "numpy dtype",
    "slice": "__builtin__ slice",
}
#: Element types that arrays have in common; each text array brings its own.
SHARED = ("O8", "f8", "i8", "u1")
MEMO = {name: struct.pack("<BB", ord("h"), place) for place, name in enumerate([*GLOBALS, *SHARED])}


def table(columns: Mapping[str, Sequence[object]]) -> bytes:
    """A pickled table whose columns hold objects (arrays, texts, or lists of them), or are arrays of float64."""
    return b"".join(pieces(columns, len(next(iter(columns.values())))))


def pieces(columns: Mapping[str, Iterable[object]], rows: int) -> Iterator[bytes]:
    """The same piece by piece, for columns of so many objects that only one at a time fits."""
    numbers = [
        name for name, column in columns.items() if isinstance(column, np.ndarray) and column.dtype == np.float64
    ]
    others = [name for name in columns if name not in numbers]
    blocks = [block(columns, others, Objects([Raw(b"\0here\0")], (len(others), rows)))]
    if numbers:
        blocks.insert(0, block(columns, numbers, np.array([columns[name] for name in numbers])))
    names = call("new_index", MEMO["index"] + plain({"data": Objects(list(columns), (len(columns),)), "name": None}))
    index = call("new_index", MEMO["range"] + plain({"start": 0, "step": 1, "stop": rows, "name": None}))
    newest = plain({"axes": Raw(b"](" + names + index + b"e"), "blocks": Raw(b"](" + b"".join(blocks) + b"e")})
    manager = MEMO["manager"] + b")\x81(]]]" + plain({"0.14.1": Raw(newest)}) + b"tb"
    frame = MEMO["frame"] + b")\x81" + plain({"_typ": "dataframe", "_data": Raw(manager)}) + b"b."
    before, after = frame.split(b"\0here\0")
    yield b"\x80\x02" + kept() + before
    yield from (plain(one) for name in others for one in columns[name])
    yield after


def kept() -> bytes:
    """Opcodes that leave nothing, but put what is in `MEMO` in its place."""
    found = [b"c" + name.replace(" ", "\n").encode() + b"\n" for name in GLOBALS.values()]
    found += [new_dtype(code) for code in SHARED]
    return b"".join(opcodes + b"q" + bytes([place]) + b"0" for place, opcodes in enumerate(found))


def block(columns: Mapping[str, object], names: Sequence[str], values: object) -> bytes:
    """Columns of one dtype; their places are a slice where their distances are equal, as with pandas."""
    places = [list(columns).index(name) for name in names]
    regular = slice(places[0], places[-1] + 1, places[1] - places[0] if len(places) > 1 else 1)
    is_regular = list(range(len(columns)))[regular] == places
    return plain({"mgr_locs": regular if is_regular else np.array(places), "values": values})


class Raw(bytes):
    """Opcodes that leave one value."""


class Objects(tuple):
    """Values and the shape of the object array that holds them."""

    def __new__(cls, values: Sequence[object], shape: tuple[int, ...]) -> "Objects":
        return super().__new__(cls, (values, shape))


def plain(value: object) -> bytes:  # noqa: PLR0911 - one line a kind
    """Opcodes of a value."""
    match value:
        case Raw():
            return value
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            return b"J" + struct.pack("<i", value)
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            return text(value)
        case slice():
            return call("slice", *map(plain, (value.start, value.stop, value.step)))
        case dict():
            return b"}(" + b"".join(plain(key) + plain(one) for key, one in value.items()) + b"u"
        case Objects():
            values, shape = value
            return array(shape, "O8", b"](" + b"".join(map(plain, values)) + b"e")
        case list():
            return b"](" + b"".join(map(plain, value)) + b"e"
        case np.ndarray() if value.dtype == object:
            return plain(Objects(value.ravel().tolist(), value.shape))
        case np.ndarray():
            return array(value.shape, value.dtype.str[1:], long_text(value.tobytes()))
    raise TypeError(value)


def call(name: str, *arguments: bytes) -> bytes:
    return MEMO[name] + b"(" + b"".join(arguments) + b"tR"


def array(shape: tuple[int, ...], dtype: str, content: bytes) -> bytes:
    kind = MEMO[dtype] if dtype in MEMO else new_dtype(dtype)
    return new_array() + b"(" + plain(1) + lengths(shape) + kind + b"\x89" + content + b"tb"


@lru_cache
def new_array() -> bytes:
    return call("reconstruct", MEMO["ndarray"], plain(0) + b"\x85", text("b"))


@lru_cache
def new_dtype(code: str) -> bytes:
    size = int(code[1:])
    order, flags = ("|", 63) if code[0] == "O" else ("|", 0) if size == 1 else ("<", 0)
    width = 4 * size if code[0] == "U" else -1
    rest = (plain(3), text(order), b"NNN", plain(width), plain(4 if width > 0 else -1), plain(flags))
    return call("dtype", text(code), plain(0), plain(1)) + b"(" + b"".join(rest) + b"tb"


def lengths(shape: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(plain, shape)) + b"t"


def text(value: str) -> bytes:
    return long_text(value.encode("latin1"))


def long_text(data: bytes) -> bytes:
    """A Python 2 string."""
    return b"U" + bytes([len(data)]) + data if len(data) < 256 else b"T" + struct.pack("<i", len(data)) + data


def calls_on_load(module: str, name: str) -> bytes:
    """A pickle that calls a function when it is loaded."""
    return b"c" + f"{module}\n{name}\n".encode() + b"(" + pickle.dumps("x", 2)[2:-1] + b"tR."
