"""Every Python block of README and docs runs and prints what its page says; and this can fail.

The blocks of a page run in order, in one fresh namespace and an empty folder. A ```text block
right after a ```python block is what it must print (`...` stands for anything, as in doctest);
with ```text about, a number may differ by a factor of two (the last digits of a training run do,
from processor to processor), and one in scientific notation by a factor of thirty. A block under
`<!-- skip: reason -->` does not run, and is listed as skipped with its reason.
"""

from __future__ import annotations

import contextlib
import difflib
import doctest
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import pytest

import shared

PAGES = [shared.ROOT / "README.md", *sorted((shared.ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if "_build" not in page.parts and page.exists()]
FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<info>[^`\n]*)$")
SKIP = re.compile(r"<!-- skip: (?P<reason>.+?) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the line it starts on, what stands before it."""

    language: str
    text: str
    line: int
    before: str

    @property
    def skip(self) -> str | None:
        last = self.before.strip().splitlines()[-1:]
        found = SKIP.fullmatch(last[0].strip()) if last else None
        return found["reason"] if found else None


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a Markdown page, in order."""
    opened, body, before = None, [], []
    for number, line in enumerate(text.splitlines(), 1):
        fence = FENCE.match(line)
        if opened is None and fence:
            opened, start, body = fence, number, []
        elif opened is None:
            before.append(line)
        elif fence and not fence["info"].strip() and fence["fence"].startswith(opened["fence"]):
            indent = len(opened["indent"])
            inside = "".join(row[indent:] + "\n" for row in body)
            yield Block(opened["info"].strip(), inside, start, "\n".join(before))
            opened, before = None, []
        else:
            body.append(line)
    if opened is not None:
        raise ValueError(f"the block of line {start} is never closed")


def run_page(text: str, name: str) -> None:
    """Run the blocks of a page, comparing what each prints."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block, after in pairwise([*blocks(text), None]):
        if block.language != "python" or block.skip:
            continue
        printed = _run(block, name, namespace)
        if after is None or after.before.strip():
            continue
        if after.language == "text about":
            printed = _borrow_numbers(after.text, printed)
        if after.language in ("text", "text about"):
            _compare(after.text, printed, f"{name}:{after.line}")


def _run(block: Block, name: str, namespace: dict[str, object]) -> str:
    source = "\n" * block.line + block.text  # so that a traceback gives the page's own lines
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(source, name, "exec"), namespace)
    return printed.getvalue()


NUMBER = re.compile(r"\d+(?:\.\d+)?(?P<power>e[-+]?\d+)?")


def _borrow_numbers(said: str, printed: str) -> str:
    """What was printed, with each number replaced by the page's where they are near enough."""
    claims = [match[0] for match in NUMBER.finditer(said)]
    if len(claims) != len(NUMBER.findall(printed)):
        return printed
    left = iter(claims)

    def nearest(match: re.Match[str]) -> str:
        claim = next(left)
        a, b = float(claim), float(match[0])
        factor = 30 if match["power"] else 2
        return claim if a == b or (a * b and 1 / factor < a / b < factor) else match[0]

    return NUMBER.sub(nearest, printed)


def _compare(said: str, printed: str, where: str) -> None:
    said, printed = said.rstrip() + "\n", printed.rstrip() + "\n"
    if not doctest.OutputChecker().check_output(said, printed, doctest.ELLIPSIS):
        lines = difflib.ndiff(said.splitlines(), printed.splitlines())
        pytest.fail("\n".join([f"{where}: the page (-) and the output (+) differ", *lines]), False)


def _pages_and_skips() -> Iterator[object]:
    for page in PAGES:
        name = str(page.relative_to(shared.ROOT))
        yield pytest.param(page, id=name)
        for block in blocks(page.read_text()):
            if block.language == "python" and block.skip:
                mark = pytest.mark.skip(reason=f"{name}:{block.line}: {block.skip}")
                yield pytest.param(page, id=f"{name}:{block.line}", marks=mark)


@pytest.mark.parametrize("page", list(_pages_and_skips()))
def test_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    run_page(page.read_text(), str(page))


# ---------------------------------------------------------------- the check can fail


def fences(*parts: str) -> str:
    """A page of blocks: language and text by turns."""
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return "\n".join(f"```{language}\n{text}\n```\n" for language, text in pairs)


def test_a_page_that_is_true_passes():
    run_page("No block.", "page")
    run_page(fences("python", "x = [1, 2]", "python", "print(*x)", "text", "1 2"), "page")
    run_page(fences("python", "print('from 1 to 9\\nend')", "text", "from ... to 9\nend"), "page")


@pytest.mark.parametrize("said", ["1 3", "1  2", "1 2\n3", "", "12", "1 ... 3"])
def test_output_that_differs_is_found(said):
    page = fences("python", "print('1 2')", "text", said)
    with pytest.raises(pytest.fail.Exception, match="page:5: the page"):
        run_page(page, "page")


def test_an_error_is_found_on_its_line():
    with pytest.raises(ZeroDivisionError) as caught:
        run_page("a\n\n" + fences("python", "x = 1\nx / 0"), "page")
    assert caught.traceback[-1].lineno == 4  # counted from 0: the page's fifth line


def test_a_page_starts_afresh():
    run_page(fences("python", "left_over = 1"), "page")
    with pytest.raises(NameError):
        run_page(fences("python", "left_over"), "page")


def test_a_skipped_block_does_not_run():
    run_page("<!-- skip: needs a cluster -->\n" + fences("python", "1 / 0"), "page")
    with pytest.raises(ZeroDivisionError):
        run_page("<!-- skip: needs a cluster -->\n\nText.\n\n" + fences("python", "1 / 0"), "page")
    with pytest.raises(ZeroDivisionError):
        run_page("<!-- skip: -->\n" + fences("python", "1 / 0"), "page")


def test_text_apart_from_its_block_is_not_its_output():
    run_page(fences("python", "print(1)") + "\nText between.\n\n" + fences("text", "2"), "page")


def test_an_open_block_is_found():
    with pytest.raises(ValueError, match="line 1 is never closed"):
        run_page("```python\nx = 1\n", "page")


def test_numbers_about_right_pass_and_others_do_not():
    for value in ("403 rows, error 3.6e-14", "400 rows, error 1e-14"):
        run_page(fences("python", f"print({value!r})", "text about", "390 rows, error 2e-14"), "p")
    for value in ("40 rows, error 2e-14", "390 rows, error 2e-9", "390 cows, error 2e-14"):
        with pytest.raises(pytest.fail.Exception, match="differ"):
            run_page(
                fences("python", f"print({value!r})", "text about", "390 rows, error 2e-14"), "p"
            )
