"""What a file of wafer maps is read as and written from, whatever its format."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from waferlab.data.ragged import RaggedMaps
from waferlab.errors import WaferlabError
from waferlab.formats.remarks import Remarks
from waferlab.progress import note
from waferlab.wafer import FAIL

#: Wafers that are read together: enough to be fast, few enough to be held.
WAFERS_AT_ONCE: Final = 512
#: Places of a wafer's grid, and of one of its sides, beyond which a file is taken for damaged: no wafer has as many.
MOST_PLACES: Final = 1 << 22
LONGEST_SIDE: Final = 1 << 13
#: Places of the wafers that are read together, beyond which they are fewer.
PLACES_AT_ONCE: Final = 1 << 23

#: What a file calls a wafer, and its map, (h, w) uint8 die states.
Wafer = tuple[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class Block:
    """Some wafers of a file, in its order.

    Attributes:
        names: what the file calls each wafer, such as ``lot/wafer``, or its row.
        maps: as many, uint8 die states, each of its own size.
        files: as many, of which file of a folder each wafer is; empty, if it was a single file that was asked for.
    """

    names: Sequence[str]
    maps: RaggedMaps
    files: Sequence[str] = ()

    @classmethod
    def of(cls, names: Sequence[str], maps: Sequence[NDArray[np.uint8]]) -> "Block":
        """Of maps (h, w) uint8, each of its own size."""
        shapes = np.array([each.shape for each in maps], np.int64).reshape(-1, 2)
        sizes = shapes.prod(1)
        dies = np.concatenate([each.ravel() for each in maps]) if len(maps) else np.empty(0, np.uint8)
        return cls(names, RaggedMaps(dies, shapes, np.cumsum(sizes) - sizes))

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Wafer]:
        return zip(self.names, self.maps, strict=True)


class MixedError(WaferlabError):
    """A wafer comes back after others: of those that came before, none is known to be whole."""


def in_blocks(wafers: Iterable[Wafer], path: Path) -> Iterator[Block]:
    """The wafers of a file, which come one after the other, as blocks of `WAFERS_AT_ONCE`, or of fewer large ones.

    Those before a fault come before its error, unless they may be parts of wafers (`MixedError`).

    Raises:
        WaferlabError: there is none.
    """
    names, maps, places, is_empty = list[str](), list[NDArray[np.uint8]](), 0, True
    try:
        for name, each in wafers:
            names.append(name)
            maps.append(each)
            places, is_empty = places + each.size, False
            if len(names) == WAFERS_AT_ONCE or places >= PLACES_AT_ONCE:
                yield Block.of(names, maps)
                names, maps, places = [], [], 0
    except WaferlabError as error:
        if names and not isinstance(error, MixedError):
            yield Block.of(names, maps)
        raise
    if names:
        yield Block.of(names, maps)
    if is_empty:
        raise WaferlabError(f"{path} holds no wafer")


def check_size(path: Path) -> None:
    """Refuse a file without content."""
    if not path.stat().st_size and path.is_file():
        raise WaferlabError(f"{path} is empty")


def check_grid(height: int, width: int, where: str) -> None:
    """Refuse a grid that no wafer has, before there is memory for it; `where` names the file and the place in it."""
    if min(height, width) < 1 or max(height, width) > LONGEST_SIDE or height * width > MOST_PLACES:
        raise WaferlabError(
            f"{where}: a grid of {height:,} x {width:,} places; a wafer has 1 to {LONGEST_SIDE:,} along a side, and at "
            f"most {MOST_PLACES:,} in all. Is the file damaged, or a die far off?"
        )


def check_states(maps: NDArray[np.uint8], where: str) -> None:
    """Refuse what is no die state in maps of any shape; `where` names the file and the place in it."""
    if (highest := int(maps.max(initial=0))) > FAIL:
        raise WaferlabError(f"{where} holds the die state {highest}; expected 0 no die, 1 pass, 2 fail")


def wafer_name(lot: str, wafer: str) -> str:
    """``lot/wafer``, or the wafer alone where no lot is known."""
    return f"{lot}/{wafer}" if lot else wafer


def lot_and_wafer(name: str) -> tuple[str, str]:
    """The two that `wafer_name` made a name of."""
    lot, _, wafer = name.rpartition("/")
    return (lot, wafer) if wafer else ("", name)


@dataclass(frozen=True)
class Reading:
    """What a person says of a file that doesn't say it itself.

    Attributes:
        pass_bins: bins of dies that pass, as the file writes them; None: those that the file calls passing, and where
            it calls none so, bin 1.
        remarks: takes up what formats find that is worth saying.
    """

    pass_bins: frozenset[str] | None = None
    remarks: Remarks = field(default_factory=Remarks, compare=False)

    def note_if_idle(self, formats: Iterable["Format"]) -> None:
        """Say so if bins are named of which none of the formats to be read has any."""
        if self.pass_bins is not None and not any(each.has_bins for each in formats):
            note("pass_bins has no effect: these files say themselves which dies pass")


@dataclass(frozen=True)
class Format:
    """One format of files.

    Attributes:
        name: by which it is asked for.
        suffixes: of file names that are taken for it, lower case, with the dot.
        recognises: whether the first bytes of a file are those of this format; decides where formats share a suffix.
        read: blocks of a file's wafers, in order, without holding the whole file where the format allows that. Raises a
            `waferlab.errors.WaferlabError` that names the file, the place in it and the fault.
        write: blocks to a file of this format.
        has_bins: whether dies have bins, of which it can be asked which pass; otherwise they pass or fail.
    """

    name: str
    suffixes: tuple[str, ...]
    recognises: Callable[[bytes], bool]
    read: Callable[[Path, Reading], Iterator[Block]]
    write: Callable[[Iterable[Block], Path], None]
    has_bins: bool = True
