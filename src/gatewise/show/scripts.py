"""The scripts of a page and the policy that lets these run, and nothing else, and no network."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from pathlib import Path

from gatewise.errors import missing

OWN = ("report.js", "network.js", "charts.js", "row.js", "try.js")
CHARTS = ("bokeh.min.js", "bokeh-api.min.js")


def scripts() -> tuple[str, ...]:
    """The chart library's own bundle, as its installed package holds it, and the page's script."""
    return (*(_safe(text) for text in _library()), _safe(_own()))


def policy(texts: tuple[str, ...]) -> str:
    """A Content-Security-Policy: these scripts by their hash, inline styles, data: pictures."""
    hashes = " ".join(f"'sha256-{_digest(text)}'" for text in texts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _library() -> list[str]:
    try:
        import bokeh
    except ImportError:
        raise missing("bokeh", "report", "the report") from None
    folder = Path(bokeh.__file__).parent / "server" / "static" / "js"
    return [(folder / name).read_text("utf-8") for name in CHARTS]


def _own() -> str:
    folder = resources.files("gatewise.show") / "templates"
    parts = (folder.joinpath(name).read_text("utf-8") for name in OWN)
    return '"use strict";\n{\n' + "\n".join(parts) + "}\n"


def _safe(text: str) -> str:
    """The text as it can stand between script tags; line ends as a browser hashes them."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    return plain.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
