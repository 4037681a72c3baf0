"""Pictures of wafers and of what a model found on them."""

import unicodedata
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from waferlab.wafer import FAIL, NO_DIE, PASS

_SIDE: Final = 416  # pixels of a panel, about
_MARGIN: Final = 12
_TITLE: Final = 34
#: Red, green and blue of each die state.
_STATES: Final = {NO_DIE: (255, 255, 255), PASS: (205, 214, 224), FAIL: (38, 52, 74)}
_DRAWN_BY: Final = ("Software", "waferlab predict")
_HEAT: Final = np.array([200, 30, 30], np.float32)


def drawable(text: str) -> str | None:
    """A text as a title can show it: with plain letters for accented ones; None if it has others yet."""
    shown = ""
    for each in text:
        plain = each if _has(each) else unicodedata.normalize("NFKD", each)[0]
        if not _has(plain):
            return None
        shown += plain
    return shown


@cache
def _font() -> Any:
    return ImageFont.load_default(15)


@cache
def _has(character: str) -> bool:
    """Whether the font has a character, for which it would else draw the same box as for what is none."""
    return character == " " or bytes(_font().getmask(character)) != bytes(_font().getmask("\uffff"))


def picture(title: str, shown: NDArray[np.uint8], heat: NDArray[np.float32] | None, line: float) -> Image.Image:
    """A wafer, or image, and beside it, where the model knows dies, the wafer with what it found in red.

    Args:
        title: above.
        shown: (H, W) uint8 die states, or an image (H, W, 1 or 3).
        heat: (H, W) scores of the dies, or None.
        line: score from which on a die is abnormal: red is full there; infinite where there is none.
    """
    if shown.ndim == 2 and shown.any():  # without the empty places around a small wafer
        rows, columns = (np.flatnonzero(shown.any(axis)) for axis in (1, 0))
        inside = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        shown, heat = shown[inside], None if heat is None else heat[inside]
    plain = _coloured(shown)
    panels = [plain] if heat is None else [plain, _heated(plain, shown, heat, line)]
    scale = max(1, round(_SIDE / max(shown.shape[:2])))
    height, width = (scale * side for side in shown.shape[:2])
    whole = Image.new("RGB", (_MARGIN + len(panels) * (width + _MARGIN), _TITLE + height + _MARGIN), "white")
    ImageDraw.Draw(whole).text((_MARGIN, 9), title, fill=(20, 20, 20), font=_font())
    for place, panel in enumerate(panels):
        enlarged = Image.fromarray(panel).resize((width, height), Image.Resampling.NEAREST)
        whole.paste(enlarged, (_MARGIN + place * (width + _MARGIN), _TITLE))
    return whole


def _coloured(shown: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3)."""
    if shown.ndim == 3:
        return np.repeat(shown, 3 // shown.shape[2], 2)
    return np.array([_STATES[state] for state in sorted(_STATES)], np.uint8)[shown]


def _heated(
    plain: NDArray[np.uint8], shown: NDArray[np.uint8], heat: NDArray[np.float32], line: float
) -> NDArray[np.uint8]:
    full = line if 0 < line < np.inf else float(heat.max(initial=0))
    share = np.clip(heat / full, 0, 1) if full > 0 else np.zeros_like(heat)
    share = 0.85 * np.where(shown == NO_DIE, 0, share**2)[..., None]
    mixed: NDArray[np.uint8] = ((1 - share) * plain + share * _HEAT).astype(np.uint8)
    return mixed


def save(image: Image.Image, path: Path) -> None:
    """Write a picture as PNG, which says in a text of its own who drew it."""
    said = PngInfo()
    said.add_text(*_DRAWN_BY)
    image.save(path, pnginfo=said)


def is_ours(path: Path) -> bool:
    """Whether `save` has written a file."""
    try:
        with Image.open(path) as image:
            return image.info.get(_DRAWN_BY[0]) == _DRAWN_BY[1]
    except (OSError, SyntaxError, ValueError):
        return False
