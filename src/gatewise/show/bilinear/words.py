"""What the page of a bilinear layer says: sentences, key figures, and tables as plain text."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gatewise.show.bilinear.facts import Bilinear
from gatewise.show.bilinear.parts import Floats, Row, beyond_dust
from gatewise.show.results import Table
from gatewise.show.say import Figure
from gatewise.show.words import count, number, percent, plain, signed

KEPT = (0, 1, 2, 3, 5, 10, 15, 20, 30, 50, 100)  # pairs an output, in the table of the curve
NAMED = 4  # pairs of inputs, in a table
SIDES = 3  # outputs that a direction raises, or lowers
TERMS = 10  # of a row


# ---------------------------------------------------------------- the layer


def title(b: Bilinear) -> str:
    """The heading, where none was given."""
    return "The bilinear layer of this network" if len(b.layers) == 1 else "A bilinear layer"


def reads(b: Bilinear) -> str:
    """What the eigenvectors are read in: 'the 784 inputs', and the constant."""
    n = count(b.view.inputs, "input")
    if b.view.source != "input":
        n = f"{count(b.view.inputs, 'number')} of {plain(b.view.source)}"
    return f"the {n} and the constant 1" if b.constant else f"the {n}"


def verdict(b: Bilinear) -> str:
    """The page in two sentences."""
    what = "the network's output" if b.final else f"what {plain(b.layer.target)} holds"
    few = f"the {b.found.k} largest of each hold {percent(float(b.kept.min()))} or more of Σλ²"
    if b.found.k == b.found.forms.size:
        few = "all of them are here"
    return (
        f"Layer {plain(b.layer.name)} multiplies two linear readings of its input, so {what} is a "
        f"quadratic form in {reads(b)}: exactly a sum of squares λ (v·x)² over eigenvectors v. "
        f"{few[0].upper()}{few[1:]}."
    )


def figures(b: Bilinear) -> list[Figure]:
    """The key figures of the page."""
    layer = b.layer
    sizes = f"{layer.inputs:,} → {layer.hidden:,} → {layer.outputs:,}"
    found = [Figure("Layer", sizes, "what it reads, products, outputs")]
    if b.ranks is not None:
        low, high = float(b.ranks.min()), float(b.ranks.max())
        spread = number(low) if low == high else f"{number(low, 2)} to {number(high, 2)}"
        note = f"of at most {count(b.found.forms.size, 'eigenvalue')} an output"
        found.append(Figure("Effective rank", spread, note))
    worst = float((b.found.residuals / b.found.values.abs().amax().clamp(min=1e-300)).max())
    found.append(Figure("Largest residual", number(worst, 2), "|Qv − λv|, of the largest |λ|"))
    if b.curve is not None and b.curve.score is not None:
        note = f"{_score(b, float(b.curve.score[-1]))} with {b.found.k} pairs an output"
        found.append(Figure(b.curve.what, _score(b, b.curve.whole), note))
    elif b.curve is not None:
        note = f"of the outputs' size, with {b.found.k} pairs each"
        found.append(Figure("Error of the pairs kept", percent(float(b.curve.measured[-1])), note))
    return found


def _score(b: Bilinear, value: float) -> str:
    assert b.curve is not None
    return f"{100 * value:.1f} %" if b.curve.what == "Accuracy" else number(value)


def outputs_table(b: Bilinear) -> Table:
    """A row an output: size, effective rank, what the pairs hold, the largest of both signs."""
    kept, signs = f"In {b.found.k} pairs", ("Largest λ > 0", "Largest λ < 0")
    columns = ("Output", "Size |Q|", "Effective rank", kept, *signs, "Residual")
    values, residuals = (t.numpy() for t in (b.found.values, b.found.residuals))
    rows = tuple(
        (
            plain(name),
            number(float(b.norms[u])),
            "–" if b.ranks is None else number(float(b.ranks[u])),
            percent(float(b.kept[u])),
            _first(values[u], 1),
            _first(values[u], -1),
            number(float(residuals[u].max()), 2),
        )
        for u, name in enumerate(b.outputs)
    )
    return Table("Quadratic forms", columns, rows)


def _first(values: Floats, sign: int) -> str:
    """The largest of a sign, or a dash."""
    of = values[(sign * values > 0) & beyond_dust(values)]
    return signed(of[0]) if len(of) else "–"


# ---------------------------------------------------------------- from rows


def curve_says(b: Bilinear) -> str:
    """How few pairs are enough, on these rows."""
    c = b.curve
    assert c is not None
    over = f"Over {count(b.rows, 'row')}."
    last = (
        f"With {count(b.found.k, 'eigenpair')} an output the error is "
        f"{percent(float(c.measured[-1]))} of the outputs' size (predicted from the rows' mean and "
        f"covariance alone: {percent(float(c.predicted[-1]))})."
    )
    if c.score is None:
        return f"{over} {last}"
    near = np.flatnonzero(c.score >= c.whole - 0.005)
    close = "half a point" if c.what == "Accuracy" else "0.005"
    enough = (
        f"{count(int(near[0]), 'pair')} an output are enough to come within {close} of it."
        if len(near)
        else f"{count(b.found.k, 'pair')} an output reach {_score(b, float(c.score[-1]))}."
    )
    return f"{over} All pairs together: {c.what} {_score(b, c.whole)}. {enough} {last}"


def curve_table(b: Bilinear) -> Table:
    """The curve at a few places."""
    c = b.curve
    assert c is not None
    at = [i for i in sorted({*KEPT, b.found.k}) if i <= b.found.k]
    columns = ["Pairs an output", "Error predicted", "Error measured"]
    columns += ["Same answer"] if c.agreement is not None else []
    columns += [c.what] if c.score is not None else []
    rows = []
    for i in at:
        row = [str(i), percent(float(c.predicted[i])), percent(float(c.measured[i]))]
        row += [percent(float(c.agreement[i]))] if c.agreement is not None else []
        row += [_score(b, float(c.score[i]))] if c.score is not None else []
        rows.append(tuple(row))
    return Table("Few eigenpairs", tuple(columns), tuple(rows))


def row_says(b: Bilinear) -> str:
    """The row, its output, and that the terms are all of it."""
    r = b.row
    assert r is not None
    label = f" ({label_of(b)})" if b.labels_name else ""
    first = f"Row {r.row}{label}: output {plain(b.outputs[r.output])} is {number(r.own)}"
    largest = (
        ", the largest. " if len(b.outputs) == len(b.every_output) else ", the largest shown. "
    )
    first += largest if len(b.outputs) > 1 else ". "
    if r.complete:
        few = float(r.terms[:TERMS].sum())
        most = f" The {TERMS} largest make {number(few)}." if len(r.terms) > TERMS else ""
        return (
            f"{first}Its {len(r.terms):,} terms λ (v·x)² sum to it with an error of "
            f"{number(r.error, 2)}.{most}"
        )
    return (
        f"{first}Its {len(r.terms)} largest terms λ (v·x)² make {number(float(r.terms.sum()))}, "
        f"all others {number(r.rest)}; error {number(r.error, 2)}."
    )


def label_of(b: Bilinear) -> str:
    """'digit 4'."""
    return f"{plain(b.labels_name)} {plain(b.label)}"


def row_table(b: Bilinear) -> Table:
    """What raises and lowers each output at the row."""
    r = b.row
    assert r is not None
    order = np.argsort(-r.given, kind="stable")
    rows = tuple(
        (
            plain(b.outputs[u]),
            number(float(r.given[u])),
            signed(float(r.raised[u])),
            signed(float(r.lowered[u])),
            signed(float(r.left[u])),
        )
        for u in order
    )
    columns = ("Output", "Value", "Raised by", "Lowered by", "Other pairs")
    return Table(f"Outputs of row {r.row}", columns, rows)


def terms_shown(r: Row) -> int:
    """How many terms are shown: the largest, and none that is rounding."""
    return min(TERMS, int(beyond_dust(r.terms).sum()))


def terms_table(b: Bilinear) -> Table:
    """The largest terms of the row's output."""
    r = b.row
    assert r is not None
    rows = tuple(
        (
            strongest(b, r.readers[i], 3),
            signed(float(r.values[i])),
            number(float(r.activations[i])),
            signed(float(r.terms[i])),
        )
        for i in range(terms_shown(r))
    )
    return Table("Largest terms", ("Strongest inputs of v", "λ", "v·x", "λ (v·x)²"), rows)


# ---------------------------------------------------------------- from weights


def strongest(b: Bilinear, reader: Floats, k: int = NAMED) -> str:
    """The inputs that an eigenvector reads most."""
    order, real = np.argsort(-np.abs(reader), kind="stable")[:k], beyond_dust(reader)
    return ", ".join(f"{input_name(b, int(j))} {signed(reader[j])}" for j in order if real[j])


def input_name(b: Bilinear, j: int) -> str:
    """Its name, with row and column where it is a pixel; the constant is 1."""
    if j == b.view.inputs:
        return "1"
    name = plain(b.inputs[j])
    return name if b.image is None else f"{name} ({j // b.image[1]},{j % b.image[1]})"


def pair_name(b: Bilinear, i: int, j: int) -> str:
    """'a × b', '(a)²', or 'a' where the other is the constant."""
    if j == b.view.inputs:
        return input_name(b, i)
    if i == j:
        return f"({input_name(b, i)})²"
    return f"{input_name(b, i)} × {input_name(b, j)}"


def interactions_table(b: Bilinear) -> Table:
    """The strongest products of each output, with their coefficients; the strongest input alone."""
    found = b.interactions
    assert found is not None
    alone = found.second == b.view.inputs
    rows = []
    for u, name in enumerate(b.outputs):
        here = found.outputs == u
        cells = [_product(b, p) for p in np.flatnonzero(here & ~alone)[:NAMED]]
        cells += [""] * (NAMED - len(cells))
        cells += [_product(b, p) for p in np.flatnonzero(here & alone)[:1]] or [""]
        rows.append((plain(name), *cells))
    heads = ("Output", "Strongest", "2nd", "3rd", "4th", "Strongest alone")
    wide = len(heads) if b.constant else len(heads) - 1
    return Table("Inputs that are multiplied", heads[:wide], tuple(row[:wide] for row in rows))


def _product(b: Bilinear, p: int) -> str:
    """A product and its coefficient."""
    found = b.interactions
    assert found is not None
    name = pair_name(b, int(found.first[p]), int(found.second[p]))
    return f"{name}: {signed(found.coefficient[p])}"


def interactions_say(b: Bilinear) -> str:
    """What the coefficients are, and how they are ordered."""
    order = (
        "ordered by coefficient times the root mean square of each input over the rows"
        if b.rows
        else "ordered by their size; with DATA they are weighed by the size of the inputs"
    )
    if b.image is not None:
        alone = " First, the coefficients of each pixel alone." if b.constant else ""
        return (
            "Each output is a sum of products of two pixels. Each image takes one pixel that is "
            "multiplied with much effect (outlined) and shows the coefficients of its products "
            f"with all others.{alone}"
        )
    return (
        "Each output is a sum of products of two inputs. These have the largest effect, with the "
        f"coefficient of the product in the output (2 Q for two inputs, Q for a square), {order}."
    )


def directions_table(b: Bilinear) -> Table:
    """Output directions: share of the tensor, and the outputs they raise and lower."""
    d = b.directions
    assert d is not None
    rows = tuple(
        (
            f"{i + 1}",
            percent(float(d.share[i])),
            number(float(d.singular[i])),
            _outputs(b, d.outputs[i]),
            _outputs(b, -d.outputs[i]),
        )
        for i in range(min(len(d.share), 6))
    )
    heads = ("Direction", "Of the squared norm", "Singular value", "Raises", "Lowers")
    return Table("Output directions", heads, rows)


def _outputs(b: Bilinear, u: Floats) -> str:
    """The outputs with the largest positive entries."""
    order = np.argsort(-u, kind="stable")[:SIDES]
    named = [f"{plain(b.every_output[o])} ({number(float(u[o]), 2)})" for o in order if u[o] > 0]
    return ", ".join(named) or "–"


# ---------------------------------------------------------------- the whole


def tables(b: Bilinear) -> Iterator[Table]:
    """What the command prints."""
    yield outputs_table(b)
    if b.curve is not None:
        yield curve_table(b)
    if b.row is not None:
        yield row_table(b)
        if b.image is None:
            yield terms_table(b)
    if b.directions is not None:
        yield directions_table(b)
    if b.interactions is not None and b.image is None:
        yield interactions_table(b)


def closing(b: Bilinear) -> Iterator[str]:
    """Lines below the tables: what must be known to read them."""
    yield ""
    yield verdict(b)
    if b.curve is not None:
        yield curve_says(b)
    if b.row is not None:
        yield row_says(b)
    yield from (f"  note: {plain(note)}" for note in b.notes)
    yield f"took {b.seconds:.1f} s of CPU time"
