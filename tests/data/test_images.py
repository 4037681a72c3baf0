"""Images in folders and tables: what is read, what is refused, and that it is decoded once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from waferlab.data import images, pixels
from waferlab.data.dataset import Dataset
from waferlab.errors import ConfigError, WaferlabError


def picture(number: int, size: tuple[int, int] = (8, 6)) -> Image.Image:
    """A colour image (width, height) of its own."""
    random = np.random.default_rng(number)
    return Image.fromarray(random.integers(0, 256, (size[1], size[0], 3), np.uint8))


def folders(root: Path, **counts: int) -> Path:
    """A folder for each class, with so many images."""
    number = 0
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for _ in range(count):
            picture(number := number + 1).save(root / name / f"{number}.png")
    return root


def read(folder: Path, **options: Any) -> Dataset:
    return images.load(str(folder), str(folder.parent / "cache"), **{"size": 8, **options})


class TestFolders:
    def test_good_is_no_defect_and_every_other_class_is_one(self, tmp_path: Path) -> None:
        found = read(folders(tmp_path / "in", Good=5, dent=4, scratch=3))
        assert found.classes == ("dent", "scratch")
        assert found.wafers.labels.sum(0).tolist() == [4, 3]
        assert found.wafers.is_abnormal.sum() == 7
        assert found.wafers.maps.shape == (12, 8, 8, 3)

    def test_parts_are_stratified_and_a_copy_is_left_out(self, tmp_path: Path) -> None:
        folder = folders(tmp_path / "in", good=20, defect=10)
        picture(1).save(folder / "good" / "copy.bmp")
        found = read(folder, fractions=(0.8, 0.1, 0.1))
        assert found.facts["left_out"] == 1
        assert [(len(part := found.part(name)), part.labels.sum()) for name in ("train", "val", "test")] == [
            (24, 8), (3, 1), (3, 1)
        ]  # fmt: skip

    def test_one_class_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match="has one class alone, good; a classifier needs two"):
            read(folders(tmp_path / "in", good=5))

    def test_a_class_with_one_image_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match="the class dent has 1 image, and 3 parts of the split need one each"):
            read(folders(tmp_path / "in", good=5, dent=1))

    def test_an_image_outside_the_classes_is_named(self, tmp_path: Path) -> None:
        picture(0).save(folders(tmp_path / "in", good=3, dent=3) / "loose.png")
        with pytest.raises(WaferlabError, match=r"loose\.png is in no class"):
            read(tmp_path / "in")

    @pytest.mark.parametrize("made", ["", "in"])
    def test_nothing_is_a_sentence(self, made: str, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir() if made else None
        with pytest.raises(
            WaferlabError, match="no folder; say where" if not made else "holds no subfolder with images"
        ):
            read(tmp_path / "in")

    def test_good_images_under_two_names_are_no_defects(self, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match=r"has good images alone \(good, ok\); a classifier needs defects"):
            read(folders(tmp_path / "in", good=5, ok=5))

    def test_copies_do_not_count_for_a_class(self, tmp_path: Path) -> None:
        folder = folders(tmp_path / "in", good=5, dent=1)
        for number in range(4):
            picture(6).save(folder / "dent" / f"copy{number}.png")
        with pytest.raises(WaferlabError, match="dent has 1 image that can be decoded and that no other image equals"):
            read(folder)


class TestTable:
    def write(self, root: Path, *rows: str) -> dict[str, str]:
        table = root / "labels.csv"
        table.write_text("\n".join(["id,label", *rows]))
        return {"table": str(table)}

    def files(self, root: Path, count: int = 6) -> Path:
        (root / "in" / "deep").mkdir(parents=True)
        for number in range(count):
            picture(number).save(root / "in" / "deep" / f"{number}.png")
        return root / "in"

    def test_names_files_with_or_without_their_extension(self, tmp_path: Path) -> None:
        folder = self.files(tmp_path)
        rows = [f"deep/{n}{'.png' if n % 2 else ''},{'good' if n < 3 else 'defect'}" for n in range(6)]
        found = read(folder, **self.write(tmp_path, *rows))
        assert found.classes == ("defect",)
        assert found.wafers.labels[:, 0].tolist() == [0, 0, 0, 1, 1, 1]

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match=r"1 images are not in .*: deep/9\.png"):
            read(self.files(tmp_path), **self.write(tmp_path, "deep/0.png,good", "deep/9.png,bad"))

    def test_a_label_outside_the_classes_is_named(self, tmp_path: Path) -> None:
        table = self.write(tmp_path, *(f"deep/{n},good" for n in range(3)), *(f"deep/{n},dent" for n in range(3, 6)))
        with pytest.raises(WaferlabError, match=r"has the label 'dent', which is none of dataset\.classes"):
            read(self.files(tmp_path), classes=["good", "scratch"], **table)

    def test_without_a_header_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "labels.csv").write_text("deep/0.png,good\ndeep/1.png,dent\n")
        with pytest.raises(WaferlabError, match=r"its first row names the image deep/0\.png; put a header"):
            read(self.files(tmp_path), table=str(tmp_path / "labels.csv"))

    @pytest.mark.parametrize(
        ("row", "said"), [("deep/0.png", "in row 2; expected a name, a comma, a label"), ("", "names no image")]
    )
    def test_a_table_that_is_none_is_a_sentence(self, row: str, said: str, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match=said):
            read(self.files(tmp_path), **self.write(tmp_path, row))


class TestUnlabelled:
    def test_are_all_that_a_folder_holds_by_name_and_in_no_part(self, tmp_path: Path) -> None:
        folder = folders(tmp_path / "in", a=2, b=1)
        picture(9).save(folder / "loose.png")
        found = images.load_unlabelled(str(folder), str(tmp_path / "cache"), size=8)
        assert found.names == ("a/1.png", "a/2.png", "b/3.png", "loose.png")
        assert (found.wafers.maps.shape, found.classes) == ((4, 8, 8, 3), ())
        assert not found.within("train", "val", "test").any()

    def test_nothing_is_a_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match="holds no image; say where"):
            images.load_unlabelled(str(tmp_path), str(tmp_path / "cache"))


class TestBadFiles:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = folders(tmp_path / "in", good=5, dent=5)
        whole = (folder / "good" / "1.png").read_bytes()
        (folder / "good" / "truncated.png").write_bytes(whole[: len(whole) // 2])
        (folder / "dent" / "empty.jpg").touch()
        return folder

    def test_are_refused_by_name(self, folder: Path) -> None:
        with pytest.raises(
            WaferlabError, match=r"2 of 12 images can't be decoded: .*empty\.jpg, .*truncated\.png; mend"
        ):
            read(folder)

    def test_are_skipped_and_named_if_wanted(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        found = read(folder, bad="skip")
        assert (len(found.wafers), found.facts["skipped"]) == (10, 2)
        assert found.names is not None
        assert len(found.names) == 10
        assert "truncated.png; they are skipped" in capsys.readouterr().err

    def test_are_not_what_cannot_be_read_for_a_while(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def cannot(file: Path) -> bytes:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as away:
            away.setattr(Path, "read_bytes", cannot)
            with pytest.raises(WaferlabError, match=r"can't be read \(Input/output error\); see to it"):
                read(folder, bad="skip")
        assert len(read(folder, bad="skip").wafers) == 10

    def test_may_leave_a_class_with_too_few(self, tmp_path: Path) -> None:
        folder = folders(tmp_path / "in", good=5, dent=2)
        (folder / "dent" / "empty.png").touch()
        with pytest.raises(WaferlabError, match="the class dent has 2 images that can be decoded"):
            read(folder, bad="skip")

    def test_alone_are_no_data_set(self, tmp_path: Path) -> None:
        for number, name in enumerate(["good", "dent"] * 3):
            (tmp_path / "in" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "in" / name / f"{number}.png").touch()
        with pytest.raises(WaferlabError, match="none of 6 images can be decoded"):
            read(tmp_path / "in", bad="skip")

    def test_a_bomb_is_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        picture(0, (400, 400)).save(tmp_path / "large.png")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        assert pixels.decode(tmp_path / "large.png", 8) is None


class TestPixels:
    def test_are_decoded_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = folders(tmp_path / "in", good=4, dent=4)
        first = read(folder)
        monkeypatch.setattr(pixels, "decode", lambda *_: pytest.fail("decoded again"))
        assert read(folder).fingerprint == first.fingerprint

    def test_are_those_of_the_file_in_its_turn(self, tmp_path: Path) -> None:
        found = read(folders(tmp_path / "in", dent=3, good=600), size=6, fit="crop")
        assert len(found.wafers) == 603
        (row,) = [row for row, same in enumerate(sorted((tmp_path / "in").rglob("*.png"))) if same.name == "7.png"]
        assert np.array_equal(found.wafers.maps[row], np.asarray(picture(7).crop((1, 0, 7, 6))))

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
    def test_of_any_mode_have_eight_bits(self, mode: str, tmp_path: Path) -> None:
        grey = np.full((4, 4), 255, np.uint8)
        image = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert(mode)
        image.save(tmp_path / "image.tiff")
        for colour in (True, False):
            found = pixels.decode(tmp_path / "image.tiff", 4, colour)
            assert found is not None
            assert found.shape == (4, 4, 3 if colour else 1)
            assert (found == 255).all()

    @pytest.mark.parametrize(
        ("dtype", "black", "white"), [(np.int32, 0, 65535), (np.uint16, 0, 65535), (np.float32, 0, 1)]
    )
    def test_of_more_bits_are_scaled(self, dtype: type, black: float, white: float, tmp_path: Path) -> None:
        file = tmp_path / "grey.tiff"
        Image.fromarray(np.array([[black, white / 2], [white, white / 5]]).astype(dtype)).save(file)
        found = pixels.decode(file, 2, colour=False)
        assert found is not None
        assert found.ravel().tolist() == pytest.approx([0, 128, 255, 51], abs=1)

    @pytest.mark.parametrize(("dtype", "beyond"), [(np.int32, 65536), (np.float32, 255), (np.float32, np.nan)])
    def test_beyond_white_are_refused(self, dtype: type, beyond: float, tmp_path: Path) -> None:
        file = tmp_path / "grey.tiff"
        Image.fromarray(np.full((2, 2), beyond, dtype)).save(file)
        with pytest.raises(WaferlabError, match=r"grey\.tiff: its brightnesses are from .* save it with 8 bits"):
            pixels.decode(file, 2)

    @pytest.mark.parametrize(("fit", "borders"), [("stretch", [255, 255]), ("crop", [255, 255]), ("pad", [0, 0])])
    def test_come_to_their_size(self, fit: pixels.Fit, borders: list[int], tmp_path: Path) -> None:
        Image.new("L", (20, 10), 255).save(tmp_path / "wide.png")
        found: NDArray[np.uint8] | None = pixels.decode(tmp_path / "wide.png", 8, False, fit)
        assert found is not None
        assert found[[0, -1], 4, 0].tolist() == borders
        assert found[4, 4, 0] == 255

    def test_a_share_that_is_none_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="fractions"):
            read(folders(tmp_path / "in", good=4, dent=4), fractions=(1, 1, 1))
