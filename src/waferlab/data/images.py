"""Photographs of devices: a folder for each class, a table of files and labels, or files that nobody has labelled."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from waferlab.data.dataset import Dataset, Wafers
from waferlab.data.decode import Fit, images_in, some
from waferlab.data.pixels import decoded
from waferlab.data.rows import Rows
from waferlab.data.split import LEFT_OUT, check_fractions, content_keys, split_by_keys
from waferlab.errors import Bad, WaferlabError
from waferlab.progress import note

#: Names, in any case, of the class whose images show nothing wrong.
GOOD: Final = ("good", "normal", "none", "ok", "pass")


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
    bad: Bad = "refuse",
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    seed: int = 0,
) -> Dataset:
    """Read images in one of two layouts, decode them once, and keep the pixels.

    1. A folder with a subfolder for each class, which holds images, at any depth: the class is named by the uppermost.
    2. A CSV table with a header and two columns, an image's name and its label, and a folder that holds the images. A
       name is a path below the folder; its extension may be missing.

    A class named good, normal, none, ok or pass is no defect: its images have no bit set. Every other class is one.
    White is 65535 in grey of 16 bits or more, and 1 in fractions.

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
    folder = _folder(path)
    listed = _by_table(Path(table), folder) if table else _by_folder(folder)
    where, parts = table or path, sum(fraction > 0 for fraction in fractions)
    names = _classes(listed, classes, where)
    _require_images(listed.labels, where, parts)  # before hours of decoding, and after it
    pixels, kept = decoded(listed.files, Path(cache), size, colour, fit)
    facts = _without(listed.files, kept, bad)
    labels = np.array([[label == name for name in names] for label in listed.labels], np.uint8).reshape(-1, len(names))
    wafers = _wafers(pixels, labels[kept], names)
    split = split_by_keys(content_keys(pixels, seed), wafers.labels, fractions)
    used = split != LEFT_OUT
    _require_images(listed.labels, where, parts, np.flatnonzero(kept)[used])
    facts = {"left_out": int(np.count_nonzero(~used)), **facts}
    return Dataset(wafers, split, "images", facts, _called(listed.files, kept, folder))


def load_unlabelled(
    path: str, cache: str, size: int = 224, colour: bool = True, fit: Fit = "stretch", bad: Bad = "refuse"
) -> Dataset:
    """Read images of which nothing is known, to be predicted: all in a folder, at any depth.

    Args:
        path: the folder; size, colour, fit and so on are as in `load`, and should be as the model's training had them.

    Returns:
        All images, without labels and in no part.

    Raises:
        WaferlabError: nothing is there, or a file is bad.
    """
    folder = _folder(path)
    files = images_in(folder)
    if not files:
        raise WaferlabError(f"{path} holds no image; say where the images are: dataset.path=…")
    pixels, kept = decoded(files, Path(cache), size, colour, fit)
    facts = _without(files, kept, bad)
    wafers = _wafers(pixels, np.zeros((len(pixels), 0), np.uint8), ())
    return Dataset(wafers, np.full(len(pixels), LEFT_OUT, np.int8), "photos", facts, _called(files, kept, folder))


def _folder(path: str) -> Path:
    folder = Path(path)
    if not folder.is_dir():
        raise WaferlabError(f"{path} is no folder; say where the images are: dataset.path=…")
    return folder


def _without(files: list[Path], kept: NDArray[np.bool_], bad: Bad) -> dict[str, str | int]:
    """What is to be said of files that can't be decoded."""
    lost = [file for file, is_kept in zip(files, kept, strict=True) if not is_kept]
    if not lost:
        return {}
    said = f"{len(lost)} of {len(kept)} images can't be decoded: {some(lost)}"
    if bad == "refuse":
        raise WaferlabError(f"{said}; mend them, or leave them out: dataset.bad=skip")
    note(f"{said}; they are skipped")
    return {"skipped": len(lost)}


def _wafers(pixels: NDArray[np.uint8], labels: NDArray[np.uint8], classes: tuple[str, ...]) -> Wafers:
    rows: Any = Rows(pixels)
    return Wafers(rows, labels, classes)


def _called(files: list[Path], kept: NDArray[np.bool_], folder: Path) -> tuple[str, ...]:
    return tuple(file.relative_to(folder).as_posix() for file, is_kept in zip(files, kept, strict=True) if is_kept)


def _by_folder(folder: Path) -> _Listed:
    files = images_in(folder)
    if loose := [file for file in files if file.parent == folder]:
        raise WaferlabError(f"{loose[0]} is in no class; an image lies in {folder}/CLASS, or a table names its label")
    if not files:
        raise WaferlabError(f"{folder} holds no subfolder with images in it: an image lies in {folder}/CLASS/NAME.png")
    return _Listed(files, [file.relative_to(folder).parts[0] for file in files])


def _by_table(table: Path, folder: Path) -> _Listed:
    table = table if table.exists() or not (folder / table).exists() else folder / table
    if not table.exists():
        raise WaferlabError(f"dataset.table={table}: there is no such file, neither here nor in {folder}")
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            header, *rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row] or [[""]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise WaferlabError(f"{table} can't be read as a CSV table: {error}") from error
    if not rows:
        raise WaferlabError(f"{table} names no image; expected a header, then rows of a name and a label")
    for number, row in enumerate(rows, 2):
        if len(row) != 2 or not all(row):
            raise WaferlabError(f"{table} holds {','.join(row)!r} in row {number}; expected a name, a comma, a label")
    names = [header[0], *(name for name, _ in rows)]
    by_stem = {str(file.relative_to(folder).with_suffix("")): file for file in images_in(folder)}
    first, *files = [folder / name if (folder / name).is_file() else by_stem.get(name) for name in names]
    if first is not None:
        raise WaferlabError(f"{table}: its first row names the image {names[0]}; put a header before it: name,label")
    if missing := [name for (name, _), file in zip(rows, files, strict=True) if file is None]:
        raise WaferlabError(f"{table}: {len(missing)} images are not in {folder}: {some(missing)}")
    return _Listed([file for file in files if file is not None], [label for _, label in rows])


def _classes(listed: _Listed, wanted: Sequence[str] | None, where: str) -> tuple[str, ...]:
    """Names of the label bits: the classes but those of good images."""
    found = sorted(set(listed.labels))
    if wanted is not None and (other := sorted(set(found) - set(wanted))):
        raise WaferlabError(f"{where} has the label '{other[0]}', which is none of dataset.classes={list(wanted)}")
    allowed = list(wanted or found)
    if len(allowed) < 2:
        raise WaferlabError(f"{where} has one class alone, {allowed[0]}; a classifier needs two")
    if not (defects := tuple(name for name in allowed if name.lower() not in GOOD)):
        raise WaferlabError(f"{where} has good images alone ({', '.join(allowed)}); a classifier needs defects, too")
    return defects


def _require_images(
    labels: Sequence[str], where: str, parts: int, used: NDArray[np.int64] | slice = slice(None)
) -> None:
    """Refuse a class that hasn't an image for each of so many parts, among those (U,) that are used."""
    counts = Counter(np.array(labels)[used].tolist())
    for name in sorted(set(labels)):
        if (images := counts[name]) < parts:
            besides = "" if isinstance(used, slice) else " that can be decoded and that no other image equals"
            raise WaferlabError(
                f"{where}: the class {name} has {images} image{'s' * (images != 1)}{besides}, and {parts} parts of the "
                f"split need one each; give it more, leave it out, or set dataset.fractions"
            )
