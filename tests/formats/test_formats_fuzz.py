"""However a file was damaged, it is read as wafers or refused; nothing else happens, in little time and memory."""

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import reduce
from pathlib import Path

import psutil
import pytest
from drawn import block, grid
from hypothesis import given, settings
from hypothesis import strategies as st

from waferlab.errors import WaferlabError
from waferlab.formats import FORMATS
from waferlab.formats.block import Format, Reading

WAFERS = {"lot/1": grid("0110", "1212", "1121"), "lot/2": grid("1112", "2111", "0110")}
FORMS = [(name, suffix) for name, form in FORMATS.items() for suffix in form.suffixes or ("",)]
NEEDED = {("lswmd", ".pkl"): "pandas", ("dies", ".parquet"): "pyarrow.parquet"}

Change = Callable[[bytes], bytes]


def cut(at: int) -> Change:
    return lambda content: content[: at % (len(content) or 1)]


def flipped(at: int, bit: int) -> Change:
    def change(content: bytes) -> bytes:
        made = bytearray(content or b"\0")
        made[at % len(made)] ^= 1 << bit
        return bytes(made)

    return change


def moved(at: int, size: int, between: bytes, times: int) -> Change:
    """Bytes deleted, kept or doubled, and others put before them."""

    def change(content: bytes) -> bytes:
        begin = at % (len(content) + 1)
        return content[:begin] + between + content[begin : begin + size] * times + content[begin + size :]

    return change


at = st.integers(0, 1 << 20)
changes = st.one_of(
    st.builds(cut, at),
    st.builds(flipped, at, st.integers(0, 7)),
    st.builds(moved, at, st.integers(1, 40), st.binary(max_size=8), st.integers(0, 2)),
)


def check(form: Format, path: Path) -> None:
    """Read all of a file's wafers; it may be refused."""
    with suppress(WaferlabError):
        for some in form.read(path, Reading()):
            assert len(some.names) == len(some.maps) > 0
            for name, states in some:
                assert isinstance(name, str)
                assert states.dtype == "uint8"
                assert min(states.shape) > 0
                assert states.max() <= 2


@contextmanager
def little_memory(more: int = 1 << 27) -> Iterator[None]:
    """Whoever asks for more bytes than these gets a MemoryError."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize(("name", "suffix"), FORMS)
def test_a_damaged_file_is_read_or_refused(
    name: str, suffix: str, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    if library := NEEDED.get((name, suffix)):
        pytest.importorskip(library)
    form, path = FORMATS[name], tmp_path_factory.mktemp(name) / f"x{suffix}"
    number = 1 if name == "png" else 2
    form.write([block(dict(list(WAFERS.items())[:number]))], path)
    assert sum(len(some) for some in form.read(path, Reading())) == number
    files = {file: file.read_bytes() for file in ([path] if path.is_file() else sorted(path.iterdir()))}

    @settings(max_examples=40)
    @given(st.sampled_from(list(files)), st.lists(changes, min_size=1, max_size=3))
    def read_damaged(file: Path, made: list[Change]) -> None:
        for each, content in files.items():
            each.write_bytes(
                reduce(lambda content, change: change(content), made, content) if each == file else content
            )
        start = time.process_time()
        with little_memory():
            check(form, path)
        assert time.process_time() - start < 2
        capsys.readouterr()

    read_damaged()
