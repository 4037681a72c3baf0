"""Pictures of three values are maps; all others are refused by name."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from drawn import block, drawn, grid
from numpy.typing import NDArray
from PIL import Image

from waferlab.errors import WaferlabError
from waferlab.formats import png
from waferlab.formats.block import Reading

STATES = grid("012", "210")


def read(path: Path) -> dict[str, list[str]]:
    return drawn(png.FORMAT.read(path, Reading()))


def save(path: Path, pixels: NDArray[np.generic], palette: list[int] | None = None) -> Path:
    """A picture of these pixels, places in the palette if there is one."""
    image = Image.fromarray(pixels)
    if palette is not None:
        image.putpalette(palette)
    image.save(path)
    return path


class TestValues:
    @pytest.mark.parametrize("levels", [(0, 1, 2), (0, 127, 255), (0, 128, 255)])
    def test_of_grey_stand_for_no_die_pass_and_fail(self, levels: tuple[int, ...], tmp_path: Path) -> None:
        pixels = np.array(levels, np.uint8)[STATES]
        assert read(save(tmp_path / "w.7.png", pixels)) == {"w.7": ["012", "210"]}

    @pytest.mark.parametrize(("pixels", "states"), [([[0, 0]], "00"), ([[0, 255]], "02"), ([[1, 1]], "11")])
    def test_need_not_all_occur(self, pixels: list[list[int]], states: str, tmp_path: Path) -> None:
        assert read(save(tmp_path / "w.png", np.array(pixels, np.uint8))) == {"w": [states]}

    def test_of_a_coloured_palette_are_its_places(self, tmp_path: Path) -> None:
        white_green_red = [255, 255, 255, 0, 255, 0, 255, 0, 0]
        assert read(save(tmp_path / "w.png", STATES, white_green_red)) == {"w": ["012", "210"]}

    def test_of_a_grey_palette_are_its_brightnesses_in_whatever_order(self, tmp_path: Path) -> None:
        fail_none_pass = [255, 255, 255, 0, 0, 0, 127, 127, 127]
        assert read(save(tmp_path / "w.png", grid("012"), fail_none_pass)) == {"w": ["201"]}

    @pytest.mark.parametrize(
        ("values", "said"),
        [([0, 1, 255], "0, 1, 255"), ([0, 127, 128], "0, 127, 128"), ([*range(9)], "0, 1, 2, 3, 4, …")],
    )
    def test_other_than_these_are_refused(self, values: list[int], said: str, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match=rf"w\.png has the values {said}; expected, .* 0, 127, 255, or 0, 128"):
            read(save(tmp_path / "w.png", np.array([values], np.uint8)))


class TestFaults:
    @pytest.mark.parametrize("pixels", [np.zeros((2, 2, 3), np.uint8), STATES > 1, np.zeros((2, 2), np.uint16)])
    def test_other_kinds_of_pictures_are_refused(self, pixels: NDArray[np.generic], tmp_path: Path) -> None:
        with pytest.raises(
            WaferlabError, match=r"w\.png is a picture of mode .*; expected 8-bit grey \(L\) or a palette"
        ):
            read(save(tmp_path / "w.png", pixels))

    def test_a_picture_in_another_format_is_refused(self, tmp_path: Path) -> None:
        save(tmp_path / "w.bmp", STATES).rename(tmp_path / "w.png")
        with pytest.raises(WaferlabError, match=r"w\.png can't be read as a PNG picture"):
            read(tmp_path / "w.png")

    @pytest.mark.parametrize("size", [0, 20, 45, -13])
    def test_a_file_cut_short_is_refused(self, size: int, tmp_path: Path) -> None:
        path = save(tmp_path / "w.png", STATES)
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(WaferlabError, match=r"w\.png can't be read as a PNG picture"):
            read(path)

    def test_pixels_that_changed_on_the_way_are_noticed(self, tmp_path: Path) -> None:
        path = tmp_path / "w.png"
        Image.fromarray(STATES).save(path, compress_level=0)
        content = bytearray(path.read_bytes())
        content[content.index(b"IDAT") + 12] ^= 1  # the first pixel, behind 4 + 2 + 5 + 1 bytes of headers
        path.write_bytes(content)
        with pytest.raises(WaferlabError, match=r"w\.png can't be read as a PNG picture: .*checksum"):
            read(path)

    @pytest.mark.parametrize("side", [1 << 12, 50_000, (1 << 31) - 1])
    def test_a_picture_that_claims_to_be_huge_is_refused_undecoded(self, side: int, tmp_path: Path) -> None:
        def chunk(kind: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
        rest = chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")
        (tmp_path / "w.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + rest)
        with pytest.raises(WaferlabError, match=r"w\.png(: a grid of 4,096 x 4,096| can't be read .* exceeds limit)"):
            read(tmp_path / "w.png")

    def test_a_missing_file_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match=r"w\.png can't be read as a PNG picture: .*No such file"):
            read(tmp_path / "w.png")


class TestWriting:
    def test_a_wafer_becomes_a_file_of_three_greys(self, tmp_path: Path) -> None:
        png.FORMAT.write([block({"lot/1": STATES})], tmp_path / "w.png")
        with Image.open(tmp_path / "w.png") as image:
            assert image.mode == "L"
            assert np.asarray(image).tolist() == [[0, 127, 255], [255, 127, 0]]
        assert read(tmp_path / "w.png") == {"w": ["012", "210"]}

    def test_several_become_files_of_a_folder(self, tmp_path: Path) -> None:
        png.FORMAT.write([block({"a": STATES}), block({"lot/1": grid("1")})], tmp_path / "x")
        assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")) == [
            "x/a.png",
            "x/lot/1.png",
        ]

    def test_several_for_one_file_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match=r"w\.png is of another wafer already, .* of b, too; give a folder"):
            png.FORMAT.write([block({"a": STATES, "b": STATES})], tmp_path / "w.png")

    def test_two_of_one_name_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match=r"a_b\.png is of another wafer already, .* of a\?b, too"):
            png.FORMAT.write([block({"a:b": STATES, "a?b": STATES})], tmp_path / "x")

    @pytest.mark.parametrize("name", ["../../a", "/a", "..", "a/../../b", "a\\b:c\0", ".hidden"])
    def test_no_name_leads_out_of_the_folder_or_hides_a_file(self, name: str, tmp_path: Path) -> None:
        png.FORMAT.write([block({name: STATES})], tmp_path / "x" / "y")
        (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
        assert file.is_relative_to(tmp_path / "x" / "y")
        assert ".." not in file.parts
        assert not any(part.startswith(".") for part in file.relative_to(tmp_path).parts)
        assert file.suffix == ".png"


def test_it_is_recognised_by_its_first_bytes(tmp_path: Path) -> None:
    assert png.FORMAT.recognises(save(tmp_path / "w.png", STATES).read_bytes())
    assert not png.FORMAT.recognises(b"GIF89a")
