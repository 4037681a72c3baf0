"""A report as one HTML page that needs nothing else: its own Markdown, with the figures inside."""

import base64
from collections.abc import Iterator, MutableMapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import OptionsDict

from waferlab.whole_file import write_whole

PAGE = "report.html"
STYLE = Path(__file__).with_suffix(".css")
#: What a browser may load: nothing but what is in the page.
_NOTHING_ELSE = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_page(study: str, written: Sequence[Path], folder: Path) -> Path:
    """Write ``report.html`` of a report's Markdown and PNG files; return its path."""
    texts = [path.read_text(encoding="utf-8") for path in written if path.suffix == ".md"]
    figures = {path.name: path.read_bytes() for path in written if path.suffix == ".png"}
    return write_whole(folder / PAGE, page(study, texts, figures).encode())


def page(title: str, texts: Sequence[str], figures: MutableMapping[str, bytes]) -> str:
    """One HTML page of Markdown texts, in which HTML counts as text, and images are these PNG files or nothing.

    Args:
        title: of the page, as plain text.
        texts: Markdown, each with a heading of level 1.
        figures: contents of PNG files by the name that the Markdown has for them.
    """
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    reader.add_render_rule("image", _image)
    reader.add_render_rule("table_open", lambda *_: '<div class="table"><table>\n')
    reader.add_render_rule("table_close", lambda *_: "</table></div>\n")
    tokens = [token for text in texts for token in reader.parse(text)]
    contents = "".join(_contents(tokens))
    body = reader.renderer.render(tokens, reader.options, figures)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_NOTHING_ELSE}">
<title>{escape(title)}</title>
<style>
{STYLE.read_text(encoding="utf-8")}</style>
</head>
<body>
<nav><ul>
{contents}</ul></nav>
<main>
{body}</main>
</body>
</html>
"""


def _contents(tokens: Sequence[Token]) -> Iterator[str]:
    """A list entry for each heading, which gets what the entry points to."""
    headings = [index for index, token in enumerate(tokens) if token.type == "heading_open"]
    for number, index in enumerate(headings, 1):
        tokens[index].attrSet("id", f"part-{number}")
        words = "".join(child.content for child in tokens[index + 1].children or [])
        yield f'<li class="{tokens[index].tag}"><a href="#part-{number}">{escape(words)}</a></li>\n'


def _image(
    renderer: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, figures: MutableMapping[str, Any]
) -> str:
    token = tokens[index]
    shown = escape(renderer.renderInlineAsText(token.children or [], options, figures))
    content = figures.get(unquote(str(token.attrGet("src"))))
    if content is None:
        return shown
    encoded = base64.b64encode(content).decode()
    return f'<span class="figure"><img alt="{shown}" src="data:image/png;base64,{encoded}"></span>'
