"""A matplotlib figure as SVG that can stand inside a page: text as text, colours from the page."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SVG = "{http://www.w3.org/2000/svg}"
LINK = "{http://www.w3.org/1999/xlink}href"


def inline(figure: Figure, label: str, key: str, colours: Mapping[str, str]) -> str:
    """The figure as one <svg> element that names nothing outside itself.

    label: what a screen reader says; key: keeps its ids apart from those of other figures;
    colours: hex -> what the page uses instead (a CSS variable).
    """
    root = ET.fromstring(_rendered(figure))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (SVG + "metadata", SVG + "style"):
                parent.remove(child)
    targets = {name for e in root.iter() for name in _targets(e)}
    for element in root.iter():
        _localise(element, key, targets, colours)
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    root.attrib |= {"role": "img", "aria-label": label}
    return ET.tostring(root, encoding="unicode")


def _rendered(figure: Figure) -> bytes:
    import matplotlib

    target = io.BytesIO()
    text = matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "gatewise"})
    with text, warnings.catch_warnings():
        # a glyph that matplotlib's own font lacks: the page has fonts of its own
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(target, format="svg", transparent=True)
    return target.getvalue()


def _targets(element: ET.Element) -> list[str]:
    """The ids that an element refers to."""
    found = [v[1:] for k, v in element.attrib.items() if k in (LINK, "href") and v.startswith("#")]
    for value in element.attrib.values():
        found += re.findall(r"url\(#([^)]*)\)", value)
    return found


def _localise(element: ET.Element, key: str, targets: set[str], colours: Mapping[str, str]) -> None:
    """No namespaces (a page needs none), only ids that are used, colours by the page's names."""
    element.tag = element.tag.removeprefix(SVG)
    own = element.attrib
    if LINK in own:
        own["href"] = f"#{key}-{own.pop(LINK)[1:]}"
    name = own.pop("id", None)
    if name in targets:
        own["id"] = f"{key}-{name}"
    for attribute, value in own.items():
        if attribute != "href" and "url(#" in value:
            own[attribute] = value.replace("url(#", f"url(#{key}-")
    if "style" in own:
        own["style"] = _coloured(own["style"], colours)


def _coloured(style: str, colours: Mapping[str, str]) -> str:
    """A style with the page's colours, and without a font (the page's own is inherited)."""
    for colour, name in colours.items():
        style = style.replace(colour, name)
    size = re.search(r"font:\s*([\d.]+px)[^;]*", style)
    return style.replace(size[0], f"font-size: {size[1]}") if size else style
