"""What is in a page that Gatewise wrote: its elements, its words, its data; what may be unsafe."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np

# names that must come out as the text they are
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</title></style><script>x",
    r"$\frac{",
    "a\nb\x00\u202eevil",
    "列の名前",
    "{{ 7 * 7 }}",
    "]]><![CDATA[",
    "&lt;b&gt;",
    "\ud800",
    "x" * 300,
    "' onload='x",
)
TYPES = {"i1": np.int8, "i2": np.int16, "i4": np.int32, "f4": np.float32, "f8": np.float64}


class Elements(HTMLParser):
    """Every tag with its attributes, all text that is read, and every script by its type."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[str, str]] = []
        self.text = ""
        self._inside: str | None = None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs).get("type") or "", ""))
        self._inside = tag if tag in {"script", "style"} else None

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self._inside = None

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside == "script":
            kind, text = self.scripts[-1]
            self.scripts[-1] = (kind, text + data)
        elif self._inside is None:
            self.text += data


def words(page: str) -> str:
    """The page's text on one line, spaces plain."""
    return " ".join(Elements(page).text.replace("\xa0", " ").split())


def outside(page: str) -> list[object]:
    """Whatever could run without the policy's leave, or reach past the file."""
    tags = {"img", "link", "iframe", "object", "embed", "base", "form", "image"}
    bad: list[object] = []
    elements = Elements(page)
    for tag, attributes in elements.found:
        for name, value in attributes.items():
            local = name == "href" and str(value).startswith("#")
            if name.startswith("on") or (name in {"src", "href", "xlink:href"} and not local):
                bad.append((tag, name, value))
            if "url(" in str(value) and not re.search(r"url\(#", str(value)):
                bad.append((tag, name, value))
        bad += [tag] if tag in tags else []
    rest = page
    for kind, text in elements.scripts:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        harmless = kind == "application/json" and "<" not in text
        bad += [] if harmless or f"'sha256-{digest}'" in page else [("script", text[:80])]
        rest = rest.replace(text, "")
    return bad + re.findall(r"@import|https?://[^\s<]*", rest)


def payload(page: str) -> dict:
    """The data that the page's script reads."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found
    return json.loads(found[1])


def unpacked(packed: dict) -> np.ndarray:
    """A packed column, as the page's script unpacks it."""
    found = np.frombuffer(base64.b64decode(packed["b64"]), TYPES[packed["type"]])
    if "of" not in packed:
        return found.astype(np.float64)
    return unpacked(packed["of"])[found.astype(np.int64) + packed["from"]]
