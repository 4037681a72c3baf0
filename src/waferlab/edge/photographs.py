"""Photographs as what an exported model reads: files, or a folder of them, decoded some at a time."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from waferlab.data.decode import decode, images_in, some
from waferlab.edge.card import Card
from waferlab.edge.predict import Batch
from waferlab.errors import Bad, WaferlabError
from waferlab.progress import note

_AT_ONCE: Final = 64


def photographs(path: Path, card: Card, bad: Bad) -> Iterator[Batch]:
    """An image, or all below a folder, sorted by path, at a model's size; each is named by its path in the folder.

    Args:
        bad: what becomes of those that can't be decoded: ``refuse`` all for them, or ``skip`` them and name them.

    Raises:
        WaferlabError: there is none, or one can't be decoded.
    """
    if not path.exists():
        raise WaferlabError(f"{path} doesn't exist; say where the images are")
    if not (files := images_in(path) if path.is_dir() else [path]):
        raise WaferlabError(f"{path} holds no image, and this model reads images; say where they are")
    return _decoded(files, path if path.is_dir() else path.parent, card, bad)


def _decoded(files: list[Path], folder: Path, card: Card, bad: Bad) -> Iterator[Batch]:
    one, lost = partial(decode, size=card.size[0], colour=card.colour, fit=card.fit), list[Path]()
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(files), _AT_ONCE):
            part = files[start : start + _AT_ONCE]
            pixels = list(pool.map(one, part))
            read = [(file, each) for file, each in zip(part, pixels, strict=True) if each is not None]
            lost += [file for file, each in zip(part, pixels, strict=True) if each is None]
            if lost and (bad == "refuse" or not (read or start + _AT_ONCE < len(files))):
                raise WaferlabError(f"{some(lost)} can't be decoded; mend it, or skip such files of a folder: bad=skip")
            if read:
                names = [file.relative_to(folder).as_posix() for file, _ in read]
                yield Batch(names, np.stack([each for _, each in read]))
    if lost:
        note(f"skipped, as they can't be decoded: {len(lost):,} of {len(files):,} images ({some(lost)})")
