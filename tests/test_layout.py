"""The shape of the project: imports run downwards, the command line starts light, files stay small and address-free."""

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"

#: The parts of the package, top to bottom. A part imports itself and what lies below it, not its neighbours in a row.
ORDER = (
    {"waferlab"},
    {"cli"},
    {"commands"},
    {"experiment"},
    {"deploy"},
    {"tracking"},
    {"tasks"},
    {"distillation"},
    {"models", "metrics"},
    {"edge"},
    {"formats"},
    {"data"},
    {"config"},
    {"schema", "conf_folder", "progress", "whole_file"},
    {"wafer", "processes"},
    {"errors"},
)
ROW = {part: row for row, parts in enumerate(ORDER) for part in parts}

HEAVY = {"torch", "torchvision", "lightning", "torchmetrics", "mlflow", "optuna", "timm", "sklearn", "scipy", "pandas"}

MACHINE_PATH = re.compile(r"(?<![\w.~])/(?:work|root|tmp|home|Users)(?![\w-])")
REGISTRY = re.compile(
    r"(?:pypi|pythonhosted|download\.pytorch|npmjs|anaconda)\.org|file:/{3}|--(?:extra-)?index-url|find-link[s]"
)
LARGEST = 1024**2  # bytes


def modules() -> dict[str, Path]:
    """The package's modules by dotted name."""
    paths = {
        path: path.relative_to(SOURCE).with_suffix("").parts for path in sorted((SOURCE / "waferlab").rglob("*.py"))
    }
    return {".".join(parts).removesuffix(".__init__"): path for path, parts in paths.items()}


def imported(name: str, path: Path, known: set[str]) -> Iterator[tuple[int, str]]:
    """Line and target of every import of the package's own modules, wherever in the file it stands."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *filter(None, [node.module])])
            for alias in node.names:
                target = f"{base}.{alias.name}"
                if target in known or base in known:
                    yield node.lineno, target if target in known else base


def part(module: str) -> str:
    """The part of the package that a module belongs to: ``waferlab.data.splits`` to ``data``."""
    package, _, inside = module.partition(".")
    return inside.partition(".")[0] or package


def downward(importer: str, target: str) -> bool:
    """Whether one module may import another."""
    above, below = part(importer), part(target)
    return above == below or ROW[above] < ROW[below]


@cache
def imports() -> tuple[tuple[str, int, str], ...]:
    """Every import within the package: (importer, line, target)."""
    known = modules()
    return tuple((name, *found) for name, path in known.items() for found in imported(name, path, set(known)))


@cache
def tracked_files() -> tuple[Path, ...]:
    """The files that git tracks."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = (ROOT / name for name in listed.stdout.split("\0") if name)
    return tuple(path for path in paths if path.is_file())


def offences(pattern: re.Pattern[str]) -> list[str]:
    """`file:line: text` of every match in the tracked text files."""
    found = []
    for path in tracked_files():
        content = path.read_bytes()
        if b"\0" not in content:
            lines = enumerate(content.decode("utf-8").splitlines(), 1)
            found += [f"{path.relative_to(ROOT)}:{number}: {line}" for number, line in lines if pattern.search(line)]
    return found


class TestImports:
    def test_every_part_has_its_place_in_the_order(self) -> None:
        homeless = {part(name) for name in modules()} - set(ROW)
        assert not homeless, f"place these in ORDER above: {sorted(homeless)}"

    @pytest.mark.parametrize(
        ("importer", "target", "allowed"),
        [
            ("waferlab.tasks.mixed_type", "waferlab.models.students", True),
            ("waferlab.models.students", "waferlab.tasks.mixed_type", False),
            ("waferlab.models.students", "waferlab.models.layers", True),
            ("waferlab.models.students", "waferlab.metrics.ranking", False),
            ("waferlab.wafer", "waferlab.errors", True),
            ("waferlab.errors", "waferlab.wafer", False),
            ("waferlab.data.dataset", "waferlab", False),
        ],
    )
    def test_the_rule_allows_downward_imports_only(self, importer: str, target: str, allowed: bool) -> None:
        assert downward(importer, target) is allowed

    @pytest.mark.parametrize(
        ("statement", "target"),
        [
            ("import waferlab.wafer", "waferlab.wafer"),
            ("from waferlab import wafer", "waferlab.wafer"),
            ("from waferlab.wafer import FAIL", "waferlab.wafer"),
            ("from .. import wafer", "waferlab.wafer"),
            ("from ..wafer import FAIL", "waferlab.wafer"),
            ("from . import dataset", "waferlab.data.dataset"),
            ("def late():\n    from .dataset import Wafers", "waferlab.data.dataset"),
        ],
    )
    def test_every_form_of_import_is_seen(self, tmp_path: Path, statement: str, target: str) -> None:
        path = tmp_path / "splits.py"
        path.write_text(statement)
        known = {"waferlab", "waferlab.wafer", "waferlab.data", "waferlab.data.dataset"}
        assert [found for _, found in imported("waferlab.data.splits", path, known)] == [target]

    def test_imports_run_downwards(self) -> None:
        assert imports(), "no import found: is the package where this test looks?"
        upward = [f"{name}:{line} imports {target}" for name, line, target in imports() if not downward(name, target)]
        assert not upward, "\n".join(["imports that do not run downwards:", *upward])

    def test_no_circles(self) -> None:
        graph: dict[str, set[str]] = {}
        for name, _, target in imports():
            graph.setdefault(name, set()).add(target)
        try:
            graphlib.TopologicalSorter(graph).prepare()
        except graphlib.CycleError as error:
            pytest.fail("modules import one another in a circle: " + " <- ".join(error.args[1]))

    def test_the_command_line_starts_without_heavy_libraries(self) -> None:
        script = "import sys, waferlab, waferlab.cli; print(*sys.modules)"
        loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        assert HEAVY.isdisjoint(loaded.split())


class TestTrackedFiles:
    def test_no_file_is_large(self) -> None:
        assert [str(path) for path in tracked_files() if path.stat().st_size > LARGEST] == []

    def test_no_file_names_a_path_of_somebodys_machine(self) -> None:
        assert offences(MACHINE_PATH) == []

    def test_no_file_names_a_package_registry(self) -> None:
        assert offences(REGISTRY) == []

    @pytest.mark.parametrize("path", ["/" + "work/data", "cd /" + "tmp", "'/" + "home/me/x'", "/" + "root/.cache"])
    def test_machine_paths_are_recognised(self, path: str) -> None:
        assert MACHINE_PATH.search(path)

    @pytest.mark.parametrize("text", ["src/" + "work/x", "https://example.org/home/", "/workspace", "~/tmp", "and/or"])
    def test_other_paths_are_not(self, text: str) -> None:
        assert not MACHINE_PATH.search(text)

    def test_constraints_are_versions_and_nothing_else(self) -> None:
        line = re.compile(r"[a-z0-9-]+==[\w.]+( ; [^#@]+)?")
        content = (ROOT / "constraints.txt").read_text(encoding="utf-8")
        assert [text for text in content.splitlines() if not line.fullmatch(text)] == []


def test_the_sweeper_could_be_taken_elsewhere() -> None:
    files = sorted((SOURCE / "hydra_plugins").rglob("*.py"))
    assert files
    assert not [file for file in files if "waferlab" in file.read_text(encoding="utf-8")]
