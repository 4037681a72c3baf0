"""Photographs of devices: a folder for each class, or a table of files and labels."""

import csv
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image, ImageOps

from waferlab.data.dataset import Dataset, Wafers, digest
from waferlab.data.rows import Rows
from waferlab.data.split import LEFT_OUT, check_fractions, content_keys, split_by_keys
from waferlab.errors import WaferlabError
from waferlab.progress import note, progress

Fit = Literal["stretch", "pad", "crop"]
#: Names, in any case, of the class whose images show nothing wrong.
GOOD: Final = ("good", "normal", "none", "ok", "pass")
#: Of the cache; to be raised when the same files come to be decoded otherwise.
_LAYOUT: Final = 1
_NAMED: Final = 5  # of the bad files of a data set, at most


@dataclass(frozen=True)
class _Listed:
    """Files (N) and the class of each."""

    files: list[Path]
    labels: list[str]


def load(
    path: str,
    cache: str,
    table: str | None = None,
    classes: Sequence[str] | None = None,
    size: int = 224,
    colour: bool = True,
    fit: Fit = "stretch",
    bad: Literal["refuse", "skip"] = "refuse",
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    seed: int = 0,
) -> Dataset:
    """Read images in one of two layouts, decode them once, and keep the pixels.

    1. A folder with a subfolder for each class, which holds images, at any depth: the class is named by the uppermost.
    2. A CSV table with a header and two columns, an image's name and its label, and a folder that holds the images. A
       name is a path below the folder; its extension may be missing.

    A class named good, normal, none, ok or pass is no defect: its images have no bit set. Every other class is one.

    Args:
        path: the folder.
        cache: folder for the pixels.
        table: the CSV file, or null for a folder for each class.
        classes: the classes there may be, instead of all that occur.
        size: height and width in pixels to which images are brought.
        colour: three channels; otherwise one, of grey.
        fit: how they come to their size: ``stretch`` to it, ``pad`` with black, or ``crop`` to a square.
        bad: what becomes of files that can't be decoded: ``refuse`` the data set, or ``skip`` them and name them.
        fractions: train, val, test; stratified over the classes, equal images on one side.
        seed: of the split.

    Returns:
        All images; `Wafers.maps` is (N, size, size, C) uint8. Facts: ``left_out`` (duplicates), ``skipped``.

    Raises:
        WaferlabError: nothing is there, a file is missing or bad, or a label is none of the classes.
    """
    check_fractions(fractions)
    folder = Path(path)
    if not folder.is_dir():
        raise WaferlabError(f"{path} is no folder; say where the images are: dataset.path=…")
    listed = _by_table(Path(table), folder) if table else _by_folder(folder)
    names = _classes(listed, classes, table or path, sum(fraction > 0 for fraction in fractions))
    pixels, kept = _decoded(listed.files, Path(cache), size, colour, fit)
    lost = [file for file, is_kept in zip(listed.files, kept, strict=True) if not is_kept]
    if lost:
        said = f"{len(lost)} of {len(kept)} images can't be decoded: {_some(lost)}"
        if bad == "refuse":
            raise WaferlabError(f"{said}; mend them, or leave them out: dataset.bad=skip")
        note(f"{said}; they are skipped")
    labels = np.array([[label == name for name in names] for label in listed.labels], np.uint8).reshape(-1, len(names))
    wafers = Wafers(cast("NDArray[np.uint8]", Rows(pixels)), labels[kept], names)
    split = split_by_keys(content_keys(pixels, seed), wafers.labels, fractions)
    facts: dict[str, str | int] = {"left_out": int(np.count_nonzero(split == LEFT_OUT))}
    return Dataset(wafers, split, "images", facts | ({"skipped": len(lost)} if lost else {}))


def _by_folder(folder: Path) -> _Listed:
    files = _images(folder)
    if loose := [file for file in files if file.parent == folder]:
        raise WaferlabError(f"{loose[0]} is in no class; an image lies in {folder}/CLASS, or a table names its label")
    if not files:
        raise WaferlabError(f"{folder} holds no subfolder with images in it: an image lies in {folder}/CLASS/NAME.png")
    return _Listed(files, [file.relative_to(folder).parts[0] for file in files])


def _images(folder: Path) -> list[Path]:
    wanted = set(Image.registered_extensions())
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in wanted and file.is_file())


def _by_table(table: Path, folder: Path) -> _Listed:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            _, *rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise WaferlabError(f"{table} can't be read as a CSV table: {error}") from error
    if not rows:
        raise WaferlabError(f"{table} names no image; expected a header, then rows of a name and a label")
    for number, row in enumerate(rows, 2):
        if len(row) != 2 or not all(row):
            raise WaferlabError(f"{table} holds {','.join(row)!r} in row {number}; expected a name and a label")
    by_stem = {str(file.relative_to(folder).with_suffix("")): file for file in _images(folder)}
    files = [folder / name if (folder / name).is_file() else by_stem.get(name) for name, _ in rows]
    if missing := [name for (name, _), file in zip(rows, files, strict=True) if file is None]:
        raise WaferlabError(f"{table}: {len(missing)} images are not in {folder}: {_some(missing)}")
    return _Listed([file for file in files if file is not None], [label for _, label in rows])


def _classes(listed: _Listed, wanted: Sequence[str] | None, where: str, parts: int) -> tuple[str, ...]:
    """Names of the label bits: the classes but the good one; each has an image for each of so many parts."""
    found = sorted(set(listed.labels))
    if wanted is not None and (other := sorted(set(found) - set(wanted))):
        raise WaferlabError(f"{where} has the label '{other[0]}', which is none of dataset.classes={list(wanted)}")
    allowed = list(wanted or found)
    if len(allowed) < 2:
        raise WaferlabError(f"{where} has one class alone, {allowed[0]}; a classifier needs two")
    for name in found:
        if (images := listed.labels.count(name)) < parts:
            raise WaferlabError(
                f"{where}: the class {name} has {images} image{'s' * (images > 1)}, and {parts} parts of the split "
                f"need one each; give it more, leave it out, or set dataset.fractions"
            )
    return tuple(name for name in allowed if name.lower() not in GOOD)


def _decoded(
    files: list[Path], cache: Path, size: int, colour: bool, fit: Fit
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Pixels (K, size, size, C) of the files that can be decoded, mapped from the disk, and which these are (N,)."""
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
        raise WaferlabError(f"none of {len(files)} images can be decoded: {_some(files)}")
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
    """Pixels (size, size, 3 or 1) uint8 of an image in any format that Pillow reads, upright; None if it is bad."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as opened:
                image = _eight_bits(ImageOps.exif_transpose(opened)).convert("RGB" if colour else "L")
        shaped: Any = {"stretch": Image.Image.resize, "pad": ImageOps.pad, "crop": ImageOps.fit}[fit]
        return np.asarray(shaped(image, (size, size), Image.Resampling.BILINEAR)).reshape(size, size, -1)
    except Exception:  # Pillow's readers raise anything at files that are damaged
        return None


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits, which Pillow would clip rather than scale."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    return image


def _some(files: Sequence[object]) -> str:
    return ", ".join(map(str, files[:_NAMED])) + (", …" if len(files) > _NAMED else "")
