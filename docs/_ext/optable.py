"""The directive `{optable}`: the table of layers as it is in the code, one section a kind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

KINDS = {
    "Affine": "y = L(x) + c. Nothing needs to be chosen.",
    "Gate": "Finitely many affine branches a unit; a pattern says which one is taken.",
    "Product": "Linear in each of two computed parts. Frozen by a point, "
    "or by a pattern where one part becomes constant.",
    "Smooth": "Curved: has no regions. Frozen by a point only.",
}


class OpTable(SphinxDirective):
    """Sections and Markdown tables made from `gatewise.ops.TABLE`."""

    def run(self) -> list[nodes.Node]:
        from gatewise.ops import TABLE

        entries = list(TABLE)
        unknown = {entry.kind for entry in entries} - set(KINDS)
        if unknown:
            raise self.error(f"the op table has kinds this page does not know: {unknown}")
        text = "\n".join(_page(entries))
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def _page(entries: list) -> Iterator[str]:
    for kind, meaning in KINDS.items():
        rows = [entry for entry in entries if entry.kind == kind]
        yield from ["", f"## {kind}", "", meaning, ""]
        if rows:
            yield from ["| layer | what it is | torch | ONNX |", "|---|---|---|---|"]
            yield from map(_row, rows)


def _row(entry: object) -> str:
    torch = [name for name in entry.torch if not name.startswith("_") and not name.endswith("_")]
    cells = [entry.name, _escape(entry.doc), _code(torch or entry.torch), _code(entry.onnx)]
    return f"| {' | '.join(cells)} |"


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(set(names)))


def _escape(text: str) -> str:
    """Plain text in a cell of a Markdown table."""
    return "".join("\\" + letter if letter in "\\|*_<>[]$" else letter for letter in text)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("optable", OpTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
