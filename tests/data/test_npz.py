"""Faults of the files themselves, whoever reads them."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from waferlab.data.npz import BLOCK, Stored, pick, stored_arrays
from waferlab.errors import WaferlabError


def save_npy(path: Path, array: NDArray[np.generic]) -> Stored:
    np.save(path, array)
    return Stored(path)


def npy_bytes(shape: tuple[int, ...], descr: str, data: bytes) -> bytes:
    """A `.npy` file whose header claims whatever it is told to."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue() + data


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", ">i4", "int64", "uint16", "float16", "float64"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_codes_are_the_values_whatever_their_type_and_order(tmp_path: Path, dtype: str, order: str) -> None:
    values = np.random.default_rng(0).integers(0, 2, (3, 4, 5))
    stored = save_npy(tmp_path / "x.npy", values.astype(dtype).copy(order=order))  # type: ignore[call-overload]
    codes = stored.codes(highest=1)
    assert codes.dtype == np.uint8
    assert np.array_equal(codes, values)


def test_codes_are_read_over_block_borders(tmp_path: Path) -> None:
    values = np.arange(BLOCK + 7) % 251
    np.savez_compressed(tmp_path / "x.npz", x=values)
    assert np.array_equal(stored_arrays(tmp_path / "x.npz")["x"].codes(highest=250), values)


@pytest.mark.parametrize("wrong", [3, -1, 0.5, 258, np.nan, np.inf])
@pytest.mark.parametrize("order", ["C", "F"])
def test_codes_name_the_row_of_a_wrong_value(tmp_path: Path, wrong: float, order: str) -> None:
    values = np.ones((4, 3, 2), order=order)  # type: ignore[call-overload]
    values[2, 0, 1] = wrong
    with pytest.raises(WaferlabError, match=rf"x\.npy holds {float(wrong)} in row 2; .* from 0 to 2"):
        save_npy(tmp_path / "x.npy", values).codes(highest=2)


@pytest.mark.parametrize("dtype", ["complex64", "U3", "S3", "datetime64[s]", "i4,i4"])
def test_codes_refuse_what_is_no_number(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(WaferlabError, match=r"x\.npy holds .*; expected whole numbers from 0 to 2"):
        save_npy(tmp_path / "x.npy", np.zeros(3, dtype)).codes(highest=2)


def test_python_objects_are_refused_unread(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(WaferlabError, match=r"x\.npy holds Python objects, which could run code"):
        Stored(tmp_path / "x.npy").codes(highest=1)


def test_truth_values_are_refused_where_there_are_more_than_two(tmp_path: Path) -> None:
    stored = save_npy(tmp_path / "x.npy", np.ones(3, bool))
    assert stored.codes(highest=1).tolist() == [1, 1, 1]
    with pytest.raises(WaferlabError, match=r"x\.npy holds bool; expected whole numbers from 0 to 2"):
        stored.codes(highest=2)


@pytest.mark.parametrize(
    ("shape", "descr"), [((10**9, 52, 52), "<i4"), ((1,), "<i4"), ((-2, -2), "<i4"), ((10**12,), "<U0")]
)
def test_a_header_that_claims_another_size_than_the_file_has_is_refused(
    tmp_path: Path, shape: tuple[int, ...], descr: str
) -> None:
    (tmp_path / "x.npy").write_bytes(npy_bytes(shape, descr, bytes(16)))
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", npy_bytes(shape, descr, bytes(16)))
    for stored in (Stored(tmp_path / "x.npy"), stored_arrays(tmp_path / "x.npz")["x"]):
        with pytest.raises(WaferlabError, match=r"x claims shape|x\.npy claims shape"):
            stored.codes(highest=1)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x93NUMPY", b"not an array"]
    + [b"\x93NUMPY\x01\x00\x06\x00" + header for header in (b"{1: 2}", b"{'a': ", b'"""   ', b"03    ")],
)
def test_a_file_that_is_no_array_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(WaferlabError, match=r"x\.npy is damaged or in another format"):
        Stored(tmp_path / "x.npy").codes(highest=1)


def test_a_flipped_byte_in_an_archive_is_noticed(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros(5000, np.uint8))
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[2000] ^= 1
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(WaferlabError, match=r"x\.npz: x is damaged.*CRC"):
        stored_arrays(tmp_path / "x.npz")["x"].codes(highest=1)


@pytest.mark.parametrize(
    ("shape", "fits"), [((3, 4), True), (("N", 4), True), ((3, 5), False), ((3,), False), ((3, 4, 1), False)]
)
def test_check_shape(tmp_path: Path, shape: tuple[int | str, ...], fits: bool) -> None:
    stored = save_npy(tmp_path / "x.npy", np.zeros((3, 4)))
    if fits:
        stored.check_shape(*shape)
    else:
        with pytest.raises(WaferlabError, match=r"x\.npy has shape \(3, 4\); expected \("):
            stored.check_shape(*shape)


def test_texts(tmp_path: Path) -> None:
    texts = ["Größe", "", "a b"]
    for dtype in ("<U5", ">U7"):
        assert save_npy(tmp_path / "x.npy", np.array(texts, dtype)).texts() == texts
    for wrong in (np.zeros(3), np.array([["a"]])):
        with pytest.raises(WaferlabError, match=r"x\.npy holds .* expected one row of text"):
            save_npy(tmp_path / "x.npy", wrong).texts()


def test_text_that_is_no_unicode_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(npy_bytes((2,), "<U1", b"\xff" * 8))
    with pytest.raises(WaferlabError, match=r"x\.npy is damaged"):
        Stored(tmp_path / "x.npy").texts()


def test_a_missing_array_is_named_beside_those_there_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.zeros(1), b=np.zeros(1))
    with pytest.raises(WaferlabError, match=r"x\.npz has no array 'maps'; it holds: a, b"):
        pick(stored_arrays(tmp_path / "x.npz"), "maps", tmp_path / "x.npz")


def test_an_unreadable_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(WaferlabError, match=r"missing\.npz cannot be read: No such file"):
        stored_arrays(tmp_path / "missing.npz")
