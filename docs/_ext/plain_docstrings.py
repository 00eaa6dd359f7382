"""Docstrings are plain text with `code` in single backticks: shown as written, never as reST.

So |W x + b| in a docstring stays a norm, and *args stays what it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

CODE = re.compile(r"(?P<ticks>`{1,2})(?P<code>[^`]+)(?P=ticks)")
SPECIAL = re.compile(r"([\\*_|`])")
TERM = re.compile(r"[\w`(][^:]{0,40}: ")  # "name: what it is" starts a line of its own


def plain(lines: list[str]) -> list[str]:
    """The docstring as reST that shows the same text."""
    out: list[str] = []
    for blank, group in groupby(lines, key=lambda line: not line.strip()):
        if not blank:
            paragraph = list(group)
            out += _literal(paragraph) if _indented(paragraph) else _lines(paragraph)
            out.append("")
    return out


def _indented(paragraph: list[str]) -> bool:
    return all(line.startswith("  ") for line in paragraph)


def _literal(paragraph: list[str]) -> list[str]:
    return ["::", "", *("    " + line for line in paragraph)]


def _lines(paragraph: list[str]) -> list[str]:
    return [f"| {_inline(line)}" for line in _joined(paragraph)]


def _joined(paragraph: list[str]) -> Iterator[str]:
    """Lines the author only broke for length are joined again."""
    text = last = ""
    for line in map(str.strip, paragraph):
        if text and (len(last) < 70 or TERM.match(line)):
            yield text
            text = ""
        text, last = f"{text} {line}".strip(), line
    yield text


def _inline(line: str) -> str:
    """Code becomes a literal; everything else is escaped."""
    out, end = "", 0
    for found in CODE.finditer(line):
        out += _escape(line[end : found.start()])
        out += rf"\ ``{found['code'].strip()}``\ "
        end = found.end()
    return out + _escape(line[end:])


def _escape(text: str) -> str:
    return SPECIAL.sub(r"\\\1", text)


def _process(app, what, name, obj, options, lines: list[str]) -> None:
    if what == "module":  # as written: autodoc takes a margin off that a module does not have
        lines[:] = (obj.__doc__ or "").splitlines()
    lines[:] = plain(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", _process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
