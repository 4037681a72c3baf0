"""Files are read by what they are: by suffix, by content, by name, alone or in folders."""

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

    @pytest.mark.parametrize("file", ["x.docx", "x.xml", "x"])
    def test_one_of_no_known_format_is_refused_with_all_that_are_known(self, file: str, tmp_path: Path) -> None:
        (tmp_path / file).write_text("<html/>")
        with pytest.raises(
            WaferlabError, match=rf"{file} is of no known format; .*npz \(\.npz \.npy\).*store \(a folder\)"
        ):
            read(tmp_path / file)

    def test_one_that_is_not_there_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match=r"x\.csv is no file or folder"):
            read(tmp_path / "x.csv")

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

    def test_by_name_only_the_files_of_this_format_are_read(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        np.save(tmp_path / "a.npy", grid("1"))
        (tmp_path / "b.csv").write_text("lot,wafer,x,y,bin\nb,1,0,0,1\n")
        assert drawn(read(tmp_path, "dies")) == {"b/1": ["1"]}
        assert "another format than dies: a.npy\n" in capsys.readouterr().err

    def test_a_damaged_file_in_it_is_refused_by_its_path(self, tmp_path: Path) -> None:
        (tmp_path / "lot").mkdir()
        (tmp_path / "lot" / "a.npy").write_bytes(b"")
        with pytest.raises(WaferlabError, match=r"lot/a\.npy is damaged"):
            list(read(tmp_path))

    def test_one_without_wafers_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match="holds no wafer"):
            list(read(tmp_path))
