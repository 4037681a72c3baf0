"""Files are read by what they are: by suffix, by content, by name, alone or in folders."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from drawn import block, drawn, grid

from waferlab.errors import WaferlabError
from waferlab.formats import FORMATS, read
from waferlab.formats.block import Reading

WAFERS = {"lot7/1": grid("11", "21"), "lot7/2": grid("12", "11")}
FORMS = [(name, suffix) for name, form in FORMATS.items() for suffix in form.suffixes or ("",) if name != "png"]


class TestFormats:
    @pytest.mark.parametrize(("name", "suffix"), FORMS)
    def test_what_each_writes_is_read_again(self, name: str, suffix: str, tmp_path: Path) -> None:
        FORMATS[name].write([block(WAFERS)], tmp_path / f"x{suffix}")
        found = drawn(read(tmp_path / f"x{suffix}"))
        assert list(found.values()) == [["11", "21"], ["12", "11"]]
        assert list(found) == (["0", "1"] if name == "npz" else list(WAFERS))

    def test_each_is_found_by_its_name_and_by_lower_case_suffixes(self) -> None:
        assert all(form.name == name for name, form in FORMATS.items())
        assert all(
            suffix == suffix.lower() and suffix[0] == "." for each in FORMATS.values() for suffix in each.suffixes
        )

    def test_none_of_them_needs_a_library_for_training(self) -> None:
        script = "import sys, waferlab.formats; print(*sys.modules)"
        loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        heavy = {"torch", "pandas", "scipy", "sklearn", "matplotlib", "mlflow", "hydra", "omegaconf", "pyarrow"}
        assert heavy.isdisjoint(loaded.split())


class TestOneFile:
    def test_the_suffix_counts_in_any_case(self, tmp_path: Path) -> None:
        (tmp_path / "X.CSV").write_text("lot,wafer,x,y,bin\na,1,0,0,1\n")
        assert drawn(read(tmp_path / "X.CSV")) == {"a/1": ["1"]}

    @pytest.mark.parametrize("name", ["e142", "g85"])
    def test_the_content_counts_where_formats_share_a_suffix(self, name: str, tmp_path: Path) -> None:
        FORMATS[name].write([block(WAFERS)], tmp_path / "x.xml")
        assert list(drawn(read(tmp_path / "x.xml"))) == list(WAFERS)

    def test_the_name_that_is_asked_for_counts_more_than_the_suffix(self, tmp_path: Path) -> None:
        (tmp_path / "x.txt").write_text("lot,wafer,x,y,bin\na,1,0,0,1\n")
        assert drawn(read(tmp_path / "x.txt", "dies")) == {"a/1": ["1"]}

    def test_what_a_person_says_of_it_reaches_its_format(self, tmp_path: Path) -> None:
        (tmp_path / "x.csv").write_text("lot,wafer,x,y,bin\na,1,0,0,1\na,1,1,0,7\n")
        assert drawn(read(tmp_path / "x.csv", reading=Reading(frozenset({"7"})))) == {"a/1": ["21"]}

    @pytest.mark.parametrize(("name", "is_said"), [("x.npy", True), ("x.csv", False), ("store", True), (".", False)])
    def test_bins_that_nobody_has_are_said_to_be_of_no_use(
        self, name: str, is_said: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        np.save(tmp_path / "x.npy", grid("1"))
        FORMATS["dies"].write([block(WAFERS)], tmp_path / "x.csv")
        FORMATS["store"].write([block(WAFERS)], tmp_path / "store")
        list(read(tmp_path / name, reading=Reading(frozenset({"1"}))))
        assert ("pass_bins has no effect" in capsys.readouterr().err) == is_said

    def test_a_list_of_dies_may_be_called_tsv(self, tmp_path: Path) -> None:
        (tmp_path / "x.tsv").write_text("lot\twafer\tx\ty\tbin\na\t1\t0\t0\t1\n")
        assert drawn(read(tmp_path / "x.tsv")) == {"a/1": ["1"]}
        (tmp_path / "labels.tsv").write_text("Center\tDonut\n0\t1\n")
        assert drawn(read(tmp_path)) == {"a/1": ["1"]}

    @pytest.mark.parametrize("file", ["x.docx", "x.xml", "x"])
    def test_one_of_no_known_format_is_refused_with_all_that_are_known(self, file: str, tmp_path: Path) -> None:
        (tmp_path / file).write_text("<html/>")
        with pytest.raises(
            WaferlabError, match=rf"{file} is of no known format; .*npz \(\.npz \.npy\).*store \(a folder\)"
        ):
            read(tmp_path / file)

    def test_one_that_is_not_there_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match=r"x\.csv doesn't exist; say where"):
            read(tmp_path / "x.csv")

    @pytest.mark.parametrize("form", [None, "npz"])
    def test_one_that_is_empty_is_refused(self, form: str | None, tmp_path: Path) -> None:
        (tmp_path / "x.npy").touch()
        with pytest.raises(WaferlabError, match=r"x\.npy is empty"):
            read(tmp_path / "x.npy", form)

    @pytest.mark.parametrize("form", [None, "dies"])
    def test_what_would_never_end_is_refused(self, form: str | None, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "x.csv")
        for path in (tmp_path / "x.csv", Path("/dev/zero")):
            with pytest.raises(WaferlabError, match="is neither a file nor a folder"):
                read(path, form)

    def test_an_unknown_name_is_refused_with_all_that_are_known(self, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match=r"no format 'inf'; there are: npz \(\.npz \.npy\), .*sinf"):
            read(tmp_path, "inf")


class TestFolder:
    def test_its_files_come_one_after_another_by_path_also_of_subfolders(self, tmp_path: Path) -> None:
        FORMATS["dies"].write([block({"b/1": grid("1")})], tmp_path / "z.csv")
        FORMATS["npz"].write([block({"": grid("2"), " ": grid("1")})], tmp_path / "m" / "a.npz")
        FORMATS["png"].write([block({"lot7/3": grid("12"), "lot7/10": grid("21")})], tmp_path)
        found = drawn(read(tmp_path))
        assert found == {"lot7/10": ["21"], "lot7/3": ["12"], "m/a/0": ["2"], "m/a/1": ["1"], "b/1": ["1"]}
        assert list(found) == ["lot7/10", "lot7/3", "m/a/0", "m/a/1", "b/1"]

    def test_stores_in_it_are_read_as_stores(self, tmp_path: Path) -> None:
        FORMATS["store"].write([block({"0": grid("1"), "1": grid("22")})], tmp_path / "v1.0")
        FORMATS["store"].write([block({"a/1": grid("11")})], tmp_path / "w")
        assert drawn(read(tmp_path)) == {"v1.0/0": ["1"], "v1.0/1": ["22"], "a/1": ["11"]}

    def test_many_files_of_one_wafer_come_in_one_block(self, tmp_path: Path) -> None:
        FORMATS["png"].write([block({f"w{number}": grid("12") for number in range(5)})], tmp_path)
        assert [len(each) for each in read(tmp_path)] == [5]

    def test_files_of_no_known_format_are_named_and_hidden_ones_left_alone(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        np.save(tmp_path / "a.npy", grid("1"))
        for name in ("NOTICE.txt", "b.docx", ".c.npy"):
            (tmp_path / name).write_text("all rights reserved")
        assert drawn(read(tmp_path)) == {"a/0": ["1"]}
        assert "of no known format: NOTICE.txt, b.docx\n" in capsys.readouterr().err

    def test_what_is_hidden_of_a_system_or_no_file_is_passed_over_in_silence(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        np.save(tmp_path / "a.npy", grid("1"))
        for name in (".git/x.csv", ".cache/b.npy", ".DS_Store", "Thumbs.db", "__MACOSX/c.npy", "lot/._d.npy"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("no wafer")
        os.mkfifo(tmp_path / "e.csv")
        (tmp_path / "again").symlink_to(tmp_path)
        assert drawn(read(tmp_path)) == {"a/0": ["1"]}
        assert capsys.readouterr().err == ""

    def test_each_wafer_has_its_file_so_that_equal_names_can_be_told_apart(self, tmp_path: Path) -> None:
        (tmp_path / "retest").mkdir()
        for name in ("first.csv", "retest/second.csv"):
            FORMATS["dies"].write([block({"lot7/1": grid("1"), "lot7/2": grid("2")})], tmp_path / name)
        FORMATS["store"].write([block({"0": grid("1")})], tmp_path / "store")
        (found,) = read(tmp_path)
        assert list(found.names) == ["lot7/1", "lot7/2", "lot7/1", "lot7/2", "store/0"]
        assert list(found.files) == ["first.csv"] * 2 + ["retest/second.csv"] * 2 + ["store"]

    def test_files_go_with_their_wafers_through_many_blocks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("waferlab.formats.block.WAFERS_AT_ONCE", 2)
        for file, count in (("a", 3), ("b", 2)):
            np.save(tmp_path / f"{file}.npy", np.ones((count, 2, 2), np.uint8))
        found = [(list(each.names), list(each.files)) for each in read(tmp_path)]
        assert found == [
            (["a/0", "a/1"], ["a.npy", "a.npy"]),
            (["a/2", "b/0"], ["a.npy", "b.npy"]),
            (["b/1"], ["b.npy"]),
        ]
        assert not next(read(tmp_path / "a.npy")).files

    def test_however_deep_its_subfolders_are_they_are_read(self, tmp_path: Path) -> None:
        folder = tmp_path
        for _ in range(sys.getrecursionlimit()):
            folder /= "d"
            folder.mkdir()
        np.save(folder / "a.npy", grid("1"))
        assert list(drawn(read(tmp_path)).values()) == [["1"]]
        (folder / "a.npy").unlink()
        while folder != tmp_path:  # pytest would go down into them by recursion
            folder.rmdir()
            folder = folder.parent

    def test_by_name_only_the_files_of_this_format_are_read(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        np.save(tmp_path / "a.npy", grid("1"))
        (tmp_path / "b.csv").write_text("lot,wafer,x,y,bin\nb,1,0,0,1\n")
        assert drawn(read(tmp_path, "dies")) == {"b/1": ["1"]}
        assert "another format than dies: a.npy\n" in capsys.readouterr().err

    def test_notches_that_differ_between_its_files_are_said_once(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for name, place in (("a", 180), ("b", 90), ("c", 90)):
            (tmp_path / f"{name}.sinf").write_text(f"WAFER:{name}\nFNLOC:{place}\nROWCT:1\nCOLCT:1\nRowData:01\n")
        assert list(drawn(read(tmp_path))) == ["a", "b", "c"]
        said = capsys.readouterr().err
        assert said.count("note:") == 1
        assert "(FNLOC 180, 90)" in said

    def test_one_without_wafers_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match="holds no wafer"):
            list(read(tmp_path))


class TestBadFiles:
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        """One good file, and after it one that is damaged."""
        np.save(tmp_path / "a.npy", grid("1"))
        (tmp_path / "lot").mkdir()
        (tmp_path / "lot" / "b.npy").write_bytes(b"\x93NUMPY, but no more")

    def test_have_a_folder_refused_with_the_fault_and_the_way_around(self, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match=r"lot/b\.npy is damaged.*; mend the file, or leave .*: bad=skip"):
            list(read(tmp_path))

    def test_that_are_empty_or_gone_have_it_refused_before_anything_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "y.npy").touch()
        (tmp_path / "z.npy").symlink_to(tmp_path / "gone.npy")
        with pytest.raises(
            WaferlabError, match=r"bad=skip: 2 files \(y\.npy, z\.npy\)\. Of the first: .*y\.npy is empty"
        ):
            next(read(tmp_path))

    def test_are_skipped_if_so_asked_and_counted_and_named_at_the_end(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for number in range(6):
            (tmp_path / f"y{number}.npy").touch()
        assert drawn(read(tmp_path, bad="skip")) == {"a/0": ["1"]}
        said = capsys.readouterr().err
        assert "skipped, as they can't be read: 7 files (y0.npy, y1.npy, y2.npy, y3.npy, y4.npy, …)" in said
        assert "Of the first: " in said
        assert said.count("note:") == 1

    def test_leave_the_wafers_before_their_damage_which_are_counted(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        rows = "".join(f"c,{wafer},0,0,1\n" for wafer in range(3))
        (tmp_path / "c.csv").write_text(f"lot,wafer,x,y,bin\n{rows}c,3,0,0,1\nc,3,1,0,nan\n")
        (tmp_path / "d.sinf").write_text("WAFER:d\nROWCT:1\nCOLCT:1\nRowData:01\nWAFER:e\nROWCT:2\n")
        (found,) = read(tmp_path, bad="skip")
        assert list(found.names) == ["a/0", "c/0", "c/1", "c/2", "d"]
        assert list(found.files) == ["a.npy"] + ["c.csv"] * 3 + ["d.sinf"]
        said = capsys.readouterr().err
        assert "3 files (c.csv, d.sinf, lot/b.npy), but for 4 wafers before the damage. Of the first: " in said

    def test_that_are_all_there_is_leave_no_wafer(self, tmp_path: Path) -> None:
        (tmp_path / "a.npy").unlink()
        with pytest.raises(WaferlabError, match="holds no wafer"):
            list(read(tmp_path, bad="skip"))

    def test_break_a_single_input_however_asked(self, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match=r"b\.npy is damaged"):
            list(read(tmp_path / "lot" / "b.npy", bad="skip"))
