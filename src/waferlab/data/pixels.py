"""Image files as pixels: found, decoded once, in parallel, and kept on the disk."""

import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image, ImageOps

from waferlab.data.dataset import digest
from waferlab.errors import WaferlabError
from waferlab.progress import progress

Fit = Literal["stretch", "pad", "crop"]
#: Of the cache; to be raised when the same files come to be decoded otherwise.
_LAYOUT: Final = 2
_NAMED: Final = 5  # of some files, at most


def images_in(folder: Path) -> list[Path]:
    """The files below a folder, at any depth, that are called as images are, sorted."""
    wanted = set(Image.registered_extensions())
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in wanted and file.is_file())


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


def decode(file: Path, size: int, colour: bool = True, fit: Fit = "stretch") -> NDArray[np.uint8] | None:
    """Pixels (size, size, 3 or 1) uint8 of an image in any format that Pillow reads, upright; None if it is bad.

    Raises:
        WaferlabError: the file can't be read, which says nothing of the image, or nobody knows what is white in it.
    """
    try:
        content = BytesIO(file.read_bytes())
    except OSError as error:
        raise WaferlabError(f"{file} can't be read ({error.strerror}); see to it, and start again") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(content) as opened:
                image = _eight_bits(ImageOps.exif_transpose(opened)).convert("RGB" if colour else "L")
        shaped: Any = {"stretch": Image.Image.resize, "pad": ImageOps.pad, "crop": ImageOps.fit}[fit]
        return np.asarray(shaped(image, (size, size), Image.Resampling.BILINEAR)).reshape(size, size, -1)
    except (MemoryError, _NoWhiteError) as error:
        raise WaferlabError(f"{file}: {error or 'the memory is full'}") from error
    except Exception:  # Pillow's readers raise anything at files that are damaged
        return None


class _NoWhiteError(Exception):
    """Brightnesses beyond white."""


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of more bits, which Pillow would clip rather than scale: white is 65535, or 1 in fractions."""
    if not image.mode.startswith(("I", "F")):
        return image
    values, white = np.asarray(image), 1 if image.mode == "F" else 65535
    if not ((values >= 0) & (values <= white)).all():
        raise _NoWhiteError(
            f"its brightnesses are from {values.min():g} to {values.max():g}, and this kind of file has black at 0 and "
            f"white at {white}; save it with 8 bits, say"
        )
    return Image.fromarray(np.rint(values * (255 / white)).astype(np.uint8))


def some(files: Sequence[object]) -> str:
    """The first of them, for a message."""
    return ", ".join(map(str, files[:_NAMED])) + (", …" if len(files) > _NAMED else "")
