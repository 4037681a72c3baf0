"""The Markdown of reports, in which names and tags stand as people wrote them, whatever characters these have."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote


def text(words: str) -> str:
    """Words on one line that mean nothing to Markdown."""
    return re.sub(r"[\\`*\[\]<>|~&#]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", " ".join(words.split()))


def code(words: str) -> str:
    """Words on one line as code."""
    fence = "`" * (_longest_fence(words) + 1)
    pad = " " if "`" in words else ""
    return fence + pad + " ".join(words.split()) + pad + fence


def code_block(lines: Sequence[str]) -> list[str]:
    """Lines as code."""
    fence = "`" * max(3, _longest_fence("\n".join(lines)) + 1)
    return [fence, *lines, fence]


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table whose first column holds names, the others numbers; what stands in it is Markdown."""
    return [_row(heads), "|---|" + "---:|" * (len(heads) - 1), *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def image(figure: Path) -> str:
    """A figure that lies beside the Markdown."""
    return f"![{text(figure.stem.replace('_', ' '))}]({quote(figure.name)})"


def _longest_fence(words: str) -> int:
    return max(map(len, re.findall("`+", words)), default=0)
