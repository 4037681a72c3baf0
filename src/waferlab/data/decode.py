"""Image files as pixels: found, and decoded. Nothing here needs torch."""

import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from waferlab.errors import WaferlabError

#: How an image comes to a square: ``stretch`` to it, ``pad`` with black, or ``crop``.
Fit = Literal["stretch", "pad", "crop"]
_NAMED: Final = 5  # of some files, at most


def images_in(folder: Path) -> list[Path]:
    """The files below a folder, at any depth, that are called as images are, sorted."""
    wanted = set(Image.registered_extensions())
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in wanted and file.is_file())


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
