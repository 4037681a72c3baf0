"""Image files as pixels: decoded once, in parallel, and kept on the disk."""

import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from waferlab.data.dataset import digest
from waferlab.data.decode import Fit, decode, some
from waferlab.errors import WaferlabError
from waferlab.progress import progress

#: Of the cache; to be raised when the same files come to be decoded otherwise.
_LAYOUT: Final = 2


def decoded(
    files: list[Path], cache: Path, size: int, colour: bool, fit: Fit
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Pixels (K, size, size, C) of the files that can be decoded, mapped from the disk, and which these are (N,).

    Args:
        cache: folder in which they are kept; what is there already isn't decoded again.

    Raises:
        WaferlabError: none can, or what `decode` raises.
    """
    facts = [(str(file.resolve()), (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files]
    home = cache / digest([], f"{_LAYOUT} {size} {colour} {fit} {facts}")
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(home.with_suffix(".lock")):
        if not home.exists():
            with tempfile.TemporaryDirectory(dir=cache) as folder:
                _decode(files, Path(folder), size, colour, fit)
                os.rename(folder, home)  # whole, or not there
    kept: NDArray[np.bool_] = np.load(home / "kept.npy")
    if not kept.any():
        raise WaferlabError(f"none of {len(files)} images can be decoded: {some(files)}")
    pixels = np.memmap(home / "pixels", np.uint8, "r", shape=(int(kept.sum()), size, size, 3 if colour else 1))
    return pixels, kept


def _decode(files: list[Path], folder: Path, size: int, colour: bool, fit: Fit) -> None:
    kept = np.zeros(len(files), bool)
    with (folder / "pixels").open("wb") as out, progress("decoding images", len(files)) as bar:
        for row, pixels in enumerate(_in_parallel(files, size, colour, fit)):
            kept[row] = pixels is not None
            if pixels is not None:
                out.write(pixels.data)
            bar.advance(1)
    np.save(folder / "kept.npy", kept)


def _in_parallel(files: list[Path], size: int, colour: bool, fit: Fit) -> Iterator[NDArray[np.uint8] | None]:
    """Each file's pixels in order, None where it is bad; some are decoded while others are written."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(files), 512):
            yield from pool.map(lambda file: decode(file, size, colour, fit), files[start : start + 512])
