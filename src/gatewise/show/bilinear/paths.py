"""`gatewise bilinear` of a transformer of arrays: the paths that make a logit, page and files."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gatewise.bilinear.circuits.loading import load_transformer
from gatewise.bilinear.circuits.pairs import StrongestPairs, strongest_token_pairs
from gatewise.bilinear.circuits.paths import PathTable, path_expansion
from gatewise.bilinear.circuits.transformer import Transformer
from gatewise.errors import DataError, GatewiseError, ModelError
from gatewise.explain.names import output_index
from gatewise.show.axes import label, new_axes
from gatewise.show.bilinear.facts import Asked
from gatewise.show.bilinear.files import FILES, PAGE, SCHEMA_VERSION
from gatewise.show.bilinear.page import inlined
from gatewise.show.bilinear.plots import sum_of
from gatewise.show.results import Drawn, Table, as_unicode, sources, write_folder
from gatewise.show.say import Figure
from gatewise.show.template import template
from gatewise.show.words import count, number, percent, plain, short, signed

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

PAIRS = 10  # of tokens
BARS = 16  # paths drawn


@dataclass(frozen=True, eq=False)
class Paths:
    """table: the strongest terms of the logit, the rest added up; terms: how many there are."""

    model: Transformer
    table: PathTable
    terms: int
    pairs: StrongestPairs | None
    notes: tuple[str, ...]
    seconds: float


def is_transformer(
    model: Path, data: Path | None, tokens: str | None, others: Mapping[str, object]
) -> bool:
    """Is MODEL a transformer of arrays? Options that do not go with what it is are refused.

    others: options of a layer alone, by name, None where not given.
    """
    kind = model.suffix.lower()
    if kind == ".safetensors":
        raise ModelError(
            f"'{model}' holds weights and does not say what is computed from them: export the "
            "network to .onnx or .pt2, or save a bilinear transformer's arrays as NAME.npz with "
            "its settings in NAME.config.json"
        )
    if kind != ".npz":
        if tokens is not None:
            raise DataError("--tokens are for a transformer of arrays, a .npz file")
        return False
    if data is not None:
        raise DataError("a transformer of arrays takes --tokens, no DATA")
    idle = [name for name, value in others.items() if value is not None]
    if idle:
        raise DataError(f"a transformer of arrays takes no {idle[0]}")
    if tokens is None:
        raise DataError("the paths of a transformer are those at some tokens: give --tokens 3,1,4")
    return True


def paths(model: Path, tokens: str, asked: Asked) -> Paths:
    """The largest logit at the last token, or that of --outputs, as its paths."""
    began, notes = time.process_time(), list[str]()
    read = load_transformer(model)
    outputs = [
        read.name(i) if i < read.vocabulary else str(i) for i in range(len(read.unembedding))
    ]
    if len(asked.outputs) > 1:
        raise DataError("the paths of one logit are shown: name one with --outputs")
    logit = output_index(asked.outputs[0], outputs, "the model has") if asked.outputs else None
    whole = path_expansion(read, _tokens(read, tokens), logit=logit)
    try:
        pairs = strongest_token_pairs(read, PAIRS, layer=len(read.layers) - 1)
    except GatewiseError as why:
        pairs = None
        notes.append(f"no pairs of tokens are shown: {why}")
    kept = whole.strongest(min(asked.top, len(whole)))
    return Paths(read, kept, len(whole), pairs, tuple(notes), time.process_time() - began)


def _tokens(model: Transformer, text: str) -> list[int]:
    """Numbers, or names where the model has some."""
    place = {name: i for i, name in enumerate(model.token_names)}
    found = []
    for part in text.split(","):
        number = part.strip()
        if part not in place and not (number.isdecimal() and int(number) < model.vocabulary):
            raise DataError(
                f"--tokens are numbers from 0 to {model.vocabulary - 1} with commas between, or "
                f"names the model gives them, got '{part}'"
            )
        found.append(place[part] if part in place else int(number))
    return found


# ---------------------------------------------------------------- words


def terms_table(p: Paths) -> Table:
    """The strongest paths, and what the others come to."""
    t = p.table
    rows = [
        (plain(t.term(i)), signed(t.contributions[i]), percent(float(t.shares[i])))
        for i in range(len(t))
    ]
    if t.pruned:
        rows.append((f"{t.pruned:,} other paths", signed(t.remainder), ""))
    rows.append(("the logit", signed(t.logit), ""))
    return Table("Paths", ("Path", "Brings", "Of the absolute sum"), tuple(rows))


def pairs_table(p: Paths) -> Table | None:
    """The pairs of tokens that the last MLP multiplies with most effect."""
    if p.pairs is None:
        return None
    rows = tuple((plain(p.pairs.pair(i)), signed(w)) for i, w in enumerate(p.pairs.weights))
    return Table("Strongest pairs of tokens", ("Pair and logit", "Weight"), rows)


def says(p: Paths) -> str:
    """What is summed, and how nearly."""
    t = p.table
    held = f" Held fixed at these tokens: {', '.join(t.frozen)}." if t.frozen else ""
    name = plain(t.name)
    return (
        f"{name[0].upper()}{name[1:]} at the last of {count(len(t.tokens), 'token')} is "
        f"{number(t.logit)}: the sum of {count(p.terms, 'path')}, of which the {len(t)} "
        f"strongest are listed. They sum to it with an error of {number(t.error, 2)}.{held}"
    )


def pairs_say(p: Paths) -> str:
    """How the pairs were found."""
    if p.pairs is None:
        return ""
    return (
        f"From the weights alone, at no tokens in particular: the strongest of "
        f"{count(p.pairs.total, 'pair')} that the last MLP multiplies, each token direct or "
        f"through one head. Not in the weights: {', '.join(p.pairs.left_out)}."
    )


def figures(p: Paths) -> list[Figure]:
    """The key figures of the page."""
    t, layers = p.table, len(p.model.layers)
    shown = float(t.shares.sum())
    return [
        Figure("Logit", number(t.logit), plain(t.name)),
        Figure("Paths", f"{p.terms:,}", f"{count(layers, 'layer')}, {len(t.tokens)} tokens"),
        Figure("Listed", percent(shown), f"of the absolute sum, in {len(t)} paths"),
        Figure("Error of the sum", number(t.error, 2), "terms, and the rest, less the logit"),
    ]


def tables(p: Paths) -> Iterator[Table]:
    """What the command prints."""
    yield terms_table(p)
    pairs = pairs_table(p)
    if pairs is not None:
        yield pairs


def closing(p: Paths) -> Iterator[str]:
    """Lines below the tables."""
    yield ""
    yield says(p)
    yield from (f"  note: {plain(note)}" for note in p.notes)
    yield f"took {p.seconds:.1f} s of CPU time"


# ---------------------------------------------------------------- page and files


def picture(p: Paths) -> Drawing:
    """The strongest paths as bars, the others together, and the logit."""
    t = p.table
    shown = min(BARS, len(t))
    rest = math.fsum([t.logit, *(-t.contributions[:shown])])
    names = [short(t.term(i), 44) for i in range(shown)] + [f"{p.terms - shown:,} other paths"]
    values = [*t.contributions[:shown].tolist(), rest]
    ax = new_axes(None, 8.4, 0.8 + 0.27 * len(values))
    return sum_of(names, values, t.logit, "the logit", label(t.name), ax)


def html(p: Paths, drawn: Drawn, title: str | None, source: dict[str, str]) -> str:
    """The page. Every name that came from a file is escaped."""
    page: str = template("bilinear_paths.html").render(
        title=plain(title) if title else "The paths of a logit",
        verdict="With its attention patterns held, the transformer is a sum over paths.",
        figures=figures(p),
        notes=p.notes,
        says=says(p),
        pictures={"paths": inlined(drawn)},
        terms=terms_table(p),
        pairs=pairs_table(p),
        pairs_say=pairs_say(p),
        provenance=[*source.items(), ("Transformer", str(p.model))],
    )
    return page


def write(
    p: Paths, out: str | Path, format: str = "svg", title: str | None = None, **about: Path
) -> list[str]:
    """Write everything into `out`, whole or not at all; the names of the files."""
    drawn = Drawn(
        "paths",
        picture(p),
        "The strongest paths",
        "Bars: what the strongest paths bring to the logit, all others, and the logit.",
        "Blue raises the logit, orange lowers it. They add up to the last bar.",
    )
    source = sources(about)
    page = html(p, drawn, title, {n.capitalize(): f for n, f in source.items()})
    texts = {PAGE: page, "summary.json": source | summary(p)}
    tables = [("paths.parquet", _columns(p.table))]
    return write_folder(out, FILES, texts, [drawn], format, tables)


def _columns(t: PathTable) -> dict[str, Any]:
    """A row a path, strongest first."""
    return {
        "path": np.array([as_unicode(t.term(i)) for i in range(len(t))]),
        "contribution": t.contributions,
        "share": t.shares,
    }


def summary(p: Paths) -> dict[str, Any]:
    """The numbers of the page as JSON."""
    t = p.table
    return {
        "schema_version": SCHEMA_VERSION,
        "tokens": [plain(token) for token in t.tokens],
        "logit": t.name,
        "value": t.logit,
        "paths": p.terms,
        "listed": len(t),
        "remainder": t.remainder,
        "absolute_sum": t.mass,
        "error": t.error,
        "held_fixed": list(t.frozen),
        "notes": list(p.notes),
        "cpu_seconds": round(p.seconds, 3),
    }
