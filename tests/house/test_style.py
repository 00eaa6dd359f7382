"""Files of at most 400 lines, a median function of fewer than 12; and the checks can fail."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path

import shared

SOURCES = sorted((shared.ROOT / "src").rglob("*.py"))


def too_long(files: Iterable[Path], limit: int = 400) -> list[str]:
    """The files with more lines than the limit."""
    sizes = {file: len(file.read_text().splitlines()) for file in files}
    return [f"{file}: {size} lines" for file, size in sizes.items() if size > limit]


def body_lengths(source: str) -> Iterator[int]:
    """Lines in the body of each function, its docstring left out."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            yield body[-1].end_lineno - body[0].lineno + 1 if body else 0


def median_body(sources: Iterable[str]) -> float:
    """The median over all functions of all the sources."""
    return statistics.median([n for source in sources for n in body_lengths(source)])


def test_there_is_something_to_check():
    assert SOURCES


def test_files_are_short():
    assert too_long(SOURCES) == []


def test_functions_are_short():
    assert median_body(file.read_text() for file in SOURCES) < 12


def test_a_long_file_is_found(tmp_path):
    (tmp_path / "fits.py").write_text("x = 1\n" * 400)
    (tmp_path / "long.py").write_text("x = 1\n" * 401)
    found = too_long(sorted(tmp_path.iterdir()))
    assert [line.split("/")[-1] for line in found] == ["long.py: 401 lines"]


def test_long_functions_are_found():
    short = 'def f():\n    """Doc.\n\n    More.\n    """\n    return 1\n'
    long = "def g():\n" + "    x = 1\n" * 30
    assert list(body_lengths(short)) == [1]
    assert list(body_lengths(long)) == [30]
    assert median_body([short, long, long]) == 30
