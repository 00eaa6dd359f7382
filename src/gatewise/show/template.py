"""The templates of the pages, with autoescape on and the words that they all use."""

from __future__ import annotations

from typing import Any

from gatewise.errors import missing
from gatewise.show import say, words


def template(name: str) -> Any:
    """A template of `show/templates`; what it is given is escaped unless it is Markup."""
    try:
        import jinja2
    except ImportError:
        raise missing("jinja2", "report", "the report") from None
    env = jinja2.Environment(
        loader=jinja2.PackageLoader("gatewise.show", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "number": words.number,
        "percent": words.percent,
        "count": words.count,
        "plain": words.plain,
        "short": words.short,
        "broken": _broken,
    }
    env.globals |= {"abs": abs, "signed": say.signed}
    return env.get_template(name)


def _broken(name: object) -> Any:
    """The name, escaped, with places where a line may end."""
    from markupsafe import Markup

    return Markup("<wbr>").join(words.pieces(name))
