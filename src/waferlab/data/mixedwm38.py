"""MixedWM38: 38,015 real wafer maps of 38 mixed-type defect patterns (Wang et al., IEEE TSM 33(4), 2020)."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from waferlab.data.dataset import Dataset, Wafers
from waferlab.data.npz import pick, reading, stored_arrays
from waferlab.data.split import LEFT_OUT, check_fractions, split_by_content
from waferlab.errors import WaferlabError
from waferlab.wafer import DEFECTS, FAIL, pattern_labels, pattern_name

MAPS = 38_015
SIDE = 52
SHA256 = "a19e791c85ccd5051c080169a3d2b17902a42545cf749e9869f6c96312bcdc69"


def load(path: str, fractions: Sequence[float] = (0.8, 0.1, 0.1), seed: int = 0) -> Dataset:
    """Read the public ``Wafer_Map_Datasets.npz``, or a part of it in the same layout, and split it by content.

    The file holds ``arr_0``, (N, 52, 52) die states 0 no die, 1 pass, 2 fail, and ``arr_1``, (N, 8) bits in the order
    of `DEFECTS`. The original has the value 3 in 214 pixels: noise, read as 2.

    Args:
        path: the npz file.
        fractions: train, val, test, as in `split_by_content`.
        seed: of the split.

    Returns:
        All maps of the file. Facts: ``checksum``, ``pixels_repaired`` (3 read as 2), ``left_out`` (duplicates).

    Raises:
        WaferlabError: the file is missing or is not what it should be; the message names the file and the fault.
    """
    check_fractions(fractions)
    file = Path(path)
    if not file.is_file():
        raise WaferlabError(
            f"{path} is no file. Get Wafer_Map_Datasets.npz of MixedWM38 (Wang, Xu, Yang, Zhang, Li: 'Deformable "
            "convolutional networks for efficient mixed-type wafer defect pattern recognition', 2020; "
            "github.com/Junliangwangdhu/WaferMap), then say where it is: dataset.path=…"
        )
    arrays = stored_arrays(file)
    stored_maps, stored_labels = pick(arrays, "arr_0", file), pick(arrays, "arr_1", file)
    stored_maps.check_shape("N", SIDE, SIDE)
    stored_labels.check_shape(stored_maps.shape[0], len(DEFECTS))
    if stored_maps.shape[0] > MAPS:
        raise WaferlabError(f"{path} holds {stored_maps.shape[0]:,} maps, MixedWM38 {MAPS:,}; use dataset=arrays")

    labels = stored_labels.codes(highest=1)
    _check_patterns(labels, path)
    maps = stored_maps.codes(highest=FAIL + 1)
    repaired = int(np.count_nonzero(maps > FAIL))
    np.minimum(maps, FAIL, out=maps)
    wafers = Wafers(maps, labels, DEFECTS)
    split = split_by_content(wafers, fractions, seed)
    facts: dict[str, str | int] = {
        "checksum": _checksum(file),
        "pixels_repaired": repaired,
        "left_out": int(np.count_nonzero(split == LEFT_OUT)),
    }
    return Dataset(wafers, split, "mixedwm38", facts)


def _check_patterns(labels: NDArray[np.uint8], path: str) -> None:
    """Refuse label rows outside the 38 patterns. Swapped columns show here: Scratch mixes, Random never does."""

    def unknown(rows: NDArray[np.uint8]) -> NDArray[np.intp]:
        weights = 1 << np.arange(len(DEFECTS))
        return np.flatnonzero(~np.isin(rows @ weights, pattern_labels() @ weights))

    if not (rows := unknown(labels)).size:
        return
    if not unknown(labels[:, [0, 1, 2, 3, 4, 5, 7, 6]]).size:
        raise WaferlabError(f"{path}: arr_1 has its last two columns swapped; expected the order {', '.join(DEFECTS)}")
    raise WaferlabError(
        f"{path}: arr_1 labels row {rows[0]} {pattern_name(labels[rows[0]])}, none of MixedWM38's 38 patterns; "
        f"its columns are {', '.join(DEFECTS)}. For data of your own, use dataset=arrays"
    )


def _checksum(file: Path) -> str:
    with reading(str(file)), file.open("rb") as stream:
        sha = hashlib.file_digest(stream, "sha256").hexdigest()
    return f"{sha[:16]}, the original file" if sha == SHA256 else f"{sha[:16]}, not the original {MAPS:,}-map file"
