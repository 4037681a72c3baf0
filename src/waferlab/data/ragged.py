"""Wafer maps of many sizes: their dies in one flat array on the disk, read through memory mapping."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.lib import format as npy
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from waferlab.progress import progress
from waferlab.wafer import FAIL, PASS

#: How maps of many sizes come to one size.
Resize = Literal["nearest", "area", "keep"]

#: Dies of many maps that are worked on together.
_AT_ONCE: Final = 1 << 20


@dataclass(frozen=True)
class RaggedMaps:
    """N wafer maps, each of its own size.

    Attributes:
        dies: (sum of all sizes,) of any dtype, uint8 die states for wafer maps: map after map, each row by row.
        shapes: (N, 2) int64, height and width of each map.
        starts: (N,) int64, where each map starts in `dies`.
    """

    dies: NDArray[Any]
    shapes: NDArray[np.int64]
    starts: NDArray[np.int64]

    @classmethod
    def read(cls, folder: Path) -> "RaggedMaps":
        """What `write` has written; the dies stay on the disk until they are used."""
        shapes = np.load(folder / "shapes.npy")
        sizes = shapes.prod(1)
        dies = np.asarray(np.load(folder / "dies.npy", mmap_mode="r"))  # an np.memmap is slow to cut
        return cls(dies, shapes, np.cumsum(sizes) - sizes)

    @classmethod
    def of(cls, maps: NDArray[Any]) -> "RaggedMaps":
        """Of maps (N, H, W) that are all of one size."""
        count, height, width = maps.shape
        return cls(maps.ravel(), np.tile([height, width], (count, 1)), np.arange(count) * height * width)

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int) -> NDArray[Any]:
        height, width = self.shapes[index]
        start = self.starts[index]
        return self.dies[start : start + height * width].reshape(height, width)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[index] for index in range(len(self)))

    def only(self, index: NDArray[np.int64] | slice) -> "RaggedMaps":
        """Some of the maps, in this order."""
        return RaggedMaps(self.dies, self.shapes[index], self.starts[index])

    def by_shape(self, places: int = 1) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
        """For each size that occurs, which maps have it, and these maps as one array (n, H, W).

        Args:
            places: how many the caller makes of each map; the more, the fewer maps come at once.
        """
        shapes, which, counts = np.unique(self.shapes, axis=0, return_inverse=True, return_counts=True)
        order = np.argsort(which, kind="stable")
        for (height, width), count, end in zip(shapes, counts, np.cumsum(counts), strict=True):
            size = int(height * width)
            at_once = max(1, _AT_ONCE // max(size, places))
            for start in range(end - count, end, at_once):
                rows = order[start : min(start + at_once, end)]
                yield rows, sliding_window_view(self.dies, size)[self.starts[rows]].reshape(-1, height, width)


def content_keys_of(maps: RaggedMaps, seed: int = 0) -> NDArray[np.bytes_]:
    """(N,) 16-byte keys, equal only where shapes and dies are; as `waferlab.data.split.content_keys`."""
    key = str(seed).encode()
    texts = (f"{shape[0]}x{shape[1]}:".encode() + each.tobytes() for shape, each in zip(maps.shapes, maps, strict=True))
    return np.array([blake2b(text, digest_size=16, key=key).digest() for text in texts], "S16")


def write(maps: Sequence[NDArray[np.uint8]] | NDArray[np.object_], folder: Path) -> None:
    """Write maps (h, w) uint8 of any sizes where `RaggedMaps.read` finds them."""
    shapes = np.array([each.shape for each in maps], np.int64).reshape(-1, 2)
    np.save(folder / "shapes.npy", shapes)
    header = {"descr": "|u1", "fortran_order": False, "shape": (int(shapes.prod(1).sum()),)}
    with (folder / "dies.npy").open("wb") as file, progress("writing maps", len(maps)) as bar:
        npy.write_array_header_1_0(file, header)
        for start in range(0, len(maps), 4096):
            some = maps[start : start + 4096]
            file.write(b"".join(each.tobytes() for each in some))
            bar.advance(len(some))


def resized(maps: RaggedMaps, size: tuple[int, int], resize: Resize) -> NDArray[Any]:
    """Each map on a grid of (H, W): (N, H, W), of their dtype.

    Args:
        resize: ``nearest``: stretched to the whole grid, by the nearest die. ``area``: the same, but each place takes
            the state that covers the largest part of its area; for uint8 die states. ``keep``: a die stays a die, the
            map in the middle of the grid, and nothing (0) around it; only maps that are larger than the grid shrink, by
            nearest die and in proportion.
    """
    made = np.zeros((len(maps), *size), maps.dies.dtype)
    # The products that `area` takes are small: threads would wait for each other.
    with threadpool_limits(1) if resize == "area" else nullcontext():
        for rows, some in maps.by_shape(size[0] * size[1]):
            if resize == "keep":
                (height, width), (top, left) = _inside((some.shape[1], some.shape[2]), size)
                made[rows, top : top + height, left : left + width] = _nearest(some, (height, width))
            else:
                made[rows] = _nearest(some, size) if resize == "nearest" else _largest_area(some, size)
    return made


def places(
    shape: tuple[int, int], size: tuple[int, int], resize: Resize
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """In which row (h,) and column (w,) of a grid of (H, W) those of a map (h, w) lie that `resized` brought there."""
    (height, width), (top, left) = _inside(shape, size) if resize == "keep" else (size, (0, 0))
    rows, columns = (
        ((np.arange(of) + 0.5) * to / of).astype(np.int64) for of, to in zip(shape, (height, width), strict=True)
    )
    return top + rows, left + columns


def _inside(shape: tuple[int, int], size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Size, and upper left corner on a grid, of a map that is shrunk if it is larger, and put in the middle."""
    shrink = min(1.0, size[0] / shape[0], size[1] / shape[1])
    height, width = (max(1, round(side * shrink)) for side in shape)
    return (height, width), ((size[0] - height) // 2, (size[1] - width) // 2)


def _nearest(maps: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    y, x = (((np.arange(to) + 0.5) * of / to).astype(np.int64) for to, of in zip(size, maps.shape[1:], strict=True))
    return maps[:, y[:, None], x]


def _largest_area(maps: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The state that covers most of each place; where two cover as much of it, the higher one."""
    rows, columns = (_overlap(of, to) for of, to in zip(maps.shape[1:], size, strict=True))
    fails, passes = (rows @ ((maps == state).astype(np.float32) @ columns.T) for state in (FAIL, PASS))
    rest = np.float32(maps.shape[1] * maps.shape[2]) - fails - passes
    most_fail, most_pass = fails >= np.maximum(passes, rest), passes >= rest
    largest: NDArray[np.uint8] = np.maximum(most_fail * np.uint8(FAIL), most_pass * np.uint8(PASS))
    return largest


def _overlap(of: int, to: int) -> NDArray[np.float32]:
    """(to, of) length that each of `to` equal parts of a side has in common with each of `of` equal parts of it.

    In units of which a side has ``to * of``, so that lengths and areas are whole numbers and ties are seen.
    """
    edges, others = np.arange(to + 1) * of, np.arange(of + 1) * to
    last = np.minimum(edges[1:, None], others[None, 1:])
    first = np.maximum(edges[:-1, None], others[None, :-1])
    lengths: NDArray[np.float32] = np.clip(last - first, 0, None).astype(np.float32)
    return lengths
