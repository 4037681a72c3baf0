"""Maps as pictures: a PNG a wafer, a pixel a place of its grid."""

import re
import warnings
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from waferlab.errors import WaferlabError
from waferlab.formats.block import MOST_PLACES, Block, Format, Reading, check_grid
from waferlab.wafer import FAIL, STATES
from waferlab.whole_file import whole_file

#: Values of no die, pass and fail that a picture may have; it is written with the first.
_LEVELS: Final = ((0, 127, 255), (0, 128, 255), (0, 1, 2))
_MOST_BYTES: Final = 16 * MOST_PLACES


def read(path: Path, _: Reading) -> Iterator[Block]:
    """The map that a picture shows, named as the file is, without its suffix.

    Three values stand for no die, pass and fail: 0, 127, 255, or 0, 128, 255, or 0, 1, 2. In grey they are
    brightnesses; in a palette, brightnesses of its entries if these are grey, or else the entries' places.

    Raises:
        WaferlabError: the file is no PNG, is damaged, or shows anything else.
    """
    values, palette = _pixels(path)
    readings = [values]
    if palette is not None and (np.ptp(palette[np.unique(values)], axis=1) == 0).all():
        readings.insert(0, palette[values, 0])
    for each in readings:
        for levels in _LEVELS:
            state = np.full(256, STATES, np.uint8)
            state[list(levels)] = range(STATES)
            if (states := state[each]).max() <= FAIL:
                yield Block.of([path.stem], [states])
                return
    found = np.unique(readings[0]).tolist()
    raise WaferlabError(
        f"{path} has the values {', '.join(map(str, found[:5]))}{', …' * (len(found) > 5)}; expected, for no die, pass "
        "and fail, 0, 127, 255, or 0, 128, 255, or 0, 1, 2"
    )


def write(blocks: Iterable[Block], path: Path) -> None:
    """Grey pictures: of one wafer, in a file, if the path ends with ``.png``; otherwise in a folder of them.

    The wafer ``lot/3`` becomes the file ``lot/3.png`` of the folder, with ``_`` for what file names shouldn't hold.

    Raises:
        WaferlabError: several wafers are for one file.
    """
    is_file, written = path.suffix.lower() == ".png", set[Path]()
    for name, each in chain.from_iterable(blocks):
        file = path if is_file else path / _file(name)
        if file in written:
            hint = "give a folder" if is_file else "give it another name"
            raise WaferlabError(f"{file} is of another wafer already, and would be of {name}, too; {hint}")
        written.add(file)
        with whole_file(file) as stream:
            Image.fromarray(np.array(_LEVELS[0], np.uint8)[each]).save(stream, "PNG")


def _pixels(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Pixels (h, w) and, where they are places in a palette, its (256, 3) colours."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise WaferlabError(f"{path} is larger than any picture of a wafer map ({_MOST_BYTES:,} bytes)")
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=["PNG"]) as image:
                check_grid(image.height, image.width, str(path))
                if image.mode not in ("L", "P"):
                    raise WaferlabError(
                        f"{path} is a picture of mode {image.mode}; expected 8-bit grey (L) or a palette (P) of three "
                        "values"
                    )
                image.verify()
            with Image.open(path, formats=["PNG"]) as image:
                palette = np.zeros((256, 3), np.uint8)
                colours = np.array(image.getpalette() or [], np.uint8).reshape(-1, 3)
                palette[: len(colours)] = colours
                return np.asarray(image), palette if image.mode == "P" else None
    except WaferlabError:
        raise
    except Exception as error:  # Pillow's readers raise anything at files that are damaged
        raise WaferlabError(f"{path} can't be read as a PNG picture: {error}") from error


def _file(name: str) -> Path:
    """Where in a folder a wafer's picture is; never out of it."""
    return Path("/".join(re.sub(r"[^\w.+-]|^\.+|^$", "_", part) for part in name.split("/")) + ".png")


FORMAT: Final = Format(
    name="png",
    suffixes=(".png",),
    recognises=lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"),
    read=read,
    write=write,
    has_bins=False,
)
