"""Facets of one region, all proofs included, beside one linear program a row.

torch's default initialisation, seed 0, the region of a normal random row. The peers' rows are
`Region.halfspaces`, in the inputs themselves, as all that solve a program a row take them; where
all rows would take too long they solve some, drawn at random. Their answers must be ours. The
floor is what proves facets once they are known: a point beyond each, put into every row (left out
where that is microseconds).
"""

from __future__ import annotations

from functools import partial

import highspy
import numpy as np
from scipy.optimize import linprog

import gatewise as gw
from benchmarks.census import normal
from benchmarks.measure import Job, Setup, Way, gemm, perceptron
from gatewise.regions.halfspaces import region
from gatewise.regions.local.irredundant import facets

# sizes: how many rows the peers solve
CASES = {
    (2, 128, 128, 128, 1): 384,
    (8, 64, 64, 64, 1): 192,
    (20, 256, 256, 1): 128,
    (50, 256, 256, 1): 32,
    (784, 256, 256, 10): 2,
}


def highs_rows(a: np.ndarray, b: np.ndarray, rows: np.ndarray) -> dict[int, bool]:
    """One model, kept warm: the row's own bound is let down by 1 and its slack minimised."""
    h = highspy.Highs()
    h.setOptionValue("output_flag", False)
    h.setOptionValue("threads", 1)
    m, d = a.shape
    inf = highspy.kHighsInf
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = d, m
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = np.zeros(d), np.full(d, -inf), np.full(d, inf)
    lp.row_lower_, lp.row_upper_ = -b, np.full(m, inf)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.arange(m + 1) * d
    lp.a_matrix_.index_, lp.a_matrix_.value_ = np.tile(np.arange(d), m), a.ravel()
    h.passModel(lp)
    columns, found = np.arange(d, dtype=np.int32), {}
    for i in rows.tolist():
        h.changeColsCost(d, columns, a[i])
        h.changeRowBounds(i, -b[i] - 1, inf)
        h.run()
        found[i] = h.getObjectiveValue() + b[i] < -1e-9
        h.changeRowBounds(i, -b[i], inf)
    return found


def scipy_rows(a: np.ndarray, b: np.ndarray, rows: np.ndarray) -> dict[int, bool]:
    """linprog from the start for every row."""
    found = {}
    for i in rows.tolist():
        room = b.copy()
        room[i] += 1
        done = linprog(a[i], -a, room, bounds=(None, None), method="highs")
        found[i] = done.fun + b[i] < -1e-9
    return found


def build(sizes: tuple[int, ...], solved: int) -> Setup:
    """All contenders on one region."""
    home = region(gw.read(perceptron(sizes)), normal(1, sizes[0]))
    known, h = facets(home), home.halfspaces()
    a, b = h.a.numpy(), h.b.numpy()
    rows = np.random.default_rng(0).permutation(len(a))[:solved]
    scale = len(a) / len(rows)

    def right(found) -> str:
        differ = sum(v != (found.status[i] == 1) for i, v in highs_rows(a, b, rows[:40]).items())
        assert not differ and not len(found.undecided), (differ, found.undecided)
        return f"{len(a)} rows, {len(found)} facets"

    return Setup(
        Way("gatewise", lambda: facets(home)),
        [gemm(2 * len(known) * a.size, sizes[0], rows=512)] if sizes[0] >= 20 else [],
        [
            Way("highspy, a program a row", lambda: highs_rows(a, b, rows), scale),
            Way("scipy, a program a row", lambda: scipy_rows(a, b, rows), scale),
        ],
        right,
    )


def jobs(size: str) -> list[Job]:
    cases = list(CASES.items())[: 2 if size == "quick" else None]
    return [Job("-".join(map(str, s)), partial(build, s, solved)) for s, solved in cases]
