"""What the page of gates says: sentences, and tables as plain text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gatewise.show.gates.facts import Gates, largest_units
from gatewise.show.results import Table
from gatewise.show.say import Figure
from gatewise.show.words import count, number, percent, plain, signed

WHOLE = {
    "inputs and gates": "Inputs and gates, all layers",
    "gates alone": "Gates without inputs, all layers",
}
FEW = 0.01  # of the absolute mass: below it single paths explain nothing
STARTS = 8  # places where paths start, in the table


# ---------------------------------------------------------------- what the gates know


def know_table(k: Any) -> Table:
    """The figures of `gates_know`: own gates beside random ones, accuracy and alignment."""
    what = "accuracy" if k.task == "classification" else "R²"
    columns = ("", f"Own gates, {what}", "Random gates", "Alignment", "of random gates")
    rows = [("The network itself", _score(k, [k.network]), "", "", "")]
    rows += [
        (
            WHOLE.get(line.kernel) or f"{line.units:,} gates of {plain(line.kernel)} alone",
            _score(k, [line.own]),
            _score(k, line.random),
            _spread([line.alignment], 3),
            _spread(line.random_alignment, 3),
        )
        for line in k.kernels
    ]
    rows.append(("A linear model", _score(k, [k.linear]), "", "", ""))
    return Table("What do the gates know?", columns, tuple(rows))


def know_says(k: Any) -> str:
    """The finding in two sentences."""
    first, alone = (_score(k, [k[name].own]) for name in WHOLE)
    random = _score(k, k["inputs and gates"].random)
    what = "of the test rows right" if k.task == "classification" else "of R² on the test rows"
    return (
        f"A kernel machine that learns the weights anew under the network's own gates gets {first} "
        f"{what} (the network itself: {_score(k, [k.network])}), and {alone} without the inputs' "
        f"numbers. Under gates of random weights it gets {random}, without any gates "
        f"{_score(k, [k.linear])}."
    )


def know_notes(k: Any) -> tuple[str, ...]:
    """On how many rows, and what must be known about the figures."""
    fitted = f"fitted on {count(k.rows, 'row')}, tested on {count(k.test_rows, 'row')}"
    drawn = len(k.kernels[0].random)
    spread = f"; random gates: mean ± deviation over {drawn} draws" if drawn > 1 else ""
    return (f"{fitted}, ridge {k.ridge:g}{spread}", *k.notes)


def _score(k: Any, values: Any) -> str:
    if k.task == "classification":
        return f"{_spread([100 * v for v in values], 1)} %"
    return _spread(values, 3)


def _spread(values: Any, digits: int) -> str:
    mean = f"{np.mean(values):.{digits}f}".replace("nan", "–")
    if len(values) == 1:
        return mean
    return f"{mean} ± {np.std(values, ddof=1):.{digits}f}"


# ---------------------------------------------------------------- overlap


def classes(g: Gates) -> bool:
    """Is the overlap between classes, and not only between rows?"""
    return len(g.overlap.classes) > 1


def overlap_table(g: Gates) -> Table:
    """A row a layer: gates on, gates equal at two rows, gates on at both; by classes if known."""
    o = g.overlap
    heads = (" within", " between") if classes(g) else ("",)
    columns = ["Layer", "Gates", "On"]
    columns += [f"{what}{head}" for what in ("Equal", "Both on") for head in heads]
    each = [part(t) for t in (o.equal, o.shared) for part in (o.within, o.between)[: len(heads)]]
    active = np.average(o.active, 1, o.rows)
    rows = tuple(
        (
            plain(name),
            f"{units:,}",
            percent(float(active[i])),
            *(percent(float(v[i])) for v in each),
        )
        for i, (name, units) in enumerate(zip(o.layers, o.units, strict=True))
    )
    return Table("Overlap of gates", tuple(columns), rows)


def overlap_says(g: Gates) -> str:
    """Where classes part most."""
    o = g.overlap
    if not classes(g):
        return (
            f"Two rows agree on {percent(float(o.within()[-1]))} of the gates, on average over all "
            f"pairs of {count(int(o.rows.sum()), 'row')}. Paths through gates that are on at both "
            f"are what the two rows share."
        )
    gap = (o.within() - o.between())[:-1]
    i = int(np.nanargmax(gap))
    return (
        f"Over all pairs of {count(int(o.rows.sum()), 'row')}. Rows of one class agree on "
        f"{percent(float(o.within()[-1]))} of the gates, rows of two classes on "
        f"{percent(float(o.between()[-1]))}. Layer {plain(o.layers[i])} tells classes apart most: "
        f"{percent(float(o.within()[i]))} against {percent(float(o.between()[i]))}."
    )


# ---------------------------------------------------------------- one row


def row_says(g: Gates) -> str:
    """The row, its output, its label."""
    label = f", {plain(g.labels_name)} {plain(g.label)}" if g.labels_name else ""
    value = number(float(g.shares.values[0]))
    return f"Row {g.row}{label}: output {plain(g.outputs[g.output])} is {value}."


def starts_table(g: Gates) -> Table:
    """Where the row's paths start, and what they bring."""
    parts, mass = g.starts.parts[0], float(np.abs(g.starts.parts[0]).sum()) or 1.0
    names = ["the inputs" if name == "" else name for name in g.starts.starts]
    names[0] = "the inputs"
    order = np.argsort(-np.abs(parts), kind="stable")[:STARTS]
    rows = tuple((plain(names[i]), signed(parts[i]), percent(abs(parts[i]) / mass)) for i in order)
    return Table("Where paths start", ("Paths from", "Bring", "Of the absolute sum"), rows)


def paths_table(g: Gates) -> Table:
    """The strongest paths, in words."""
    rows = tuple(
        (plain(g.paths.path(i)), signed(c), percent(abs(c) / (g.paths.mass or 1.0)))
        for i, c in enumerate(g.paths.contributions)
    )
    return Table("Strongest paths", ("Path", "Brings", "Of the absolute sum"), rows)


def paths_say(g: Gates) -> str:
    """How much single paths carry: nearly nothing, in a dense network."""
    p = g.paths
    said = (
        f"The {len(p)} strongest of {ways(p.active)} active paths. They carry "
        f"{percent(p.carried)} of the absolute sum of all contributions, "
        f"{number(p.mass)}; the output, {number(p.value)}, is {percent(p.cancellation)} of that "
        f"sum, for paths of both signs take each other away."
    )
    if p.carried < FEW:
        return (
            f"{said} So single paths of this network explain almost nothing, and the picture shows "
            f"what a path is, not why the network decides: read the units above, which add up all "
            f"paths through each."
        )
    return f"{said} Read the units above first: they add up all paths through each."


def ways(n: int) -> str:
    """A count of paths, in full while it is short."""
    return f"{n:,}" if n < 10**6 else number(float(n), 2)


# ---------------------------------------------------------------- the whole


def figures(g: Gates) -> list[Figure]:
    """The key figures of the page."""
    o, layers = g.overlap, len(g.gated.sites)
    found = [
        Figure("Gates", f"{o.units[-1]:,}", f"in {count(layers, 'layer')}"),
        Figure("Rows", f"{g.rows:,}", f"{int(o.rows.sum()):,} compared in pairs"),
        Figure("On at a row", percent(float(np.average(o.active[-1], weights=o.rows))), "of all"),
    ]
    if g.know is not None:
        name = "Gates alone" if g.know.task == "classification" else "R² of gates alone"
        note = f"the network itself: {_score(g.know, [g.know.network])}"
        found.append(Figure(name, _score(g.know, [g.know["gates alone"].own]), note))
    else:
        found.append(Figure("Equal gates", percent(float(o.within()[-1])), "of two rows"))
    return found


def verdict(g: Gates) -> str:
    """The page in two sentences."""
    head = (
        f"Its {count(g.overlap.units[-1], 'gate')} are on or off, so the network is a sum over "
        f"paths: the gates say which are active at a row, the weights what each is worth."
    )
    if g.know is None:
        return head
    alone, network = (_score(g.know, [v]) for v in (g.know["gates alone"].own, g.know.network))
    what = "accuracy" if g.know.task == "classification" else "R²"
    return f"{head} From its gates alone, {what} {alone}; the network itself, {network}."


def tables(g: Gates) -> Iterator[Table]:
    """What the command prints."""
    yield overlap_table(g)
    if g.know is not None:
        yield know_table(g.know)
    yield starts_table(g)
    yield units_table(g)
    if g.paths is not None:
        yield paths_table(g)


def units_table(g: Gates) -> Table:
    """The units with the largest shares of each layer."""
    rows = []
    for on, layer in zip(gates_on(g), g.shares.layers, strict=True):
        units = ", ".join(f"{name} {signed(share)}" for name, share in largest_units(layer, 4))
        held = percent(float(layer.in_top(20)[0]))
        later = signed(float(layer.later[0]))
        rows.append((plain(layer.name), f"{on:,} of {layer.shares.shape[1]:,}", held, units, later))
    columns = ("Layer", "On", "20 largest carry", "Largest shares", "Pass it by")
    return Table("Units of the row", columns, tuple(rows))


def gates_on(g: Gates) -> list[int]:
    """Gates on at the row, of each layer that the shares know."""
    by_name = dict(zip((s.at for s in g.gated.sites), g.on, strict=True))
    return [by_name.get(layer.name, int((layer.shares[0] != 0).sum())) for layer in g.shares.layers]


def closing(g: Gates) -> Iterator[str]:
    """Lines below the tables: what must be known to read them."""
    yield ""
    yield row_says(g)
    if g.paths is not None:
        yield paths_say(g)
    if g.know is not None:
        yield know_says(g.know)
        yield from (f"  note: {note}" for note in know_notes(g.know))
    yield from (f"  note: {plain(note)}" for note in g.notes)
    yield f"took {g.seconds:.1f} s of CPU time"
