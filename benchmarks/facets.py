"""Facets of one region: Gatewise, one linear program a row (highspy, warm; scipy), their ratio.

    python benchmarks/facets.py [--repeat 5] [--budget 20]

CPU seconds after one warm-up, all on one thread, ours the median of several; torch's default
initialisation, seed 0, the region of a normal random row. A peer that would take longer than the
budget solves as many rows as fit and is scaled up: such a figure is marked *. The peers' rows are
`Region.halfspaces`, in the inputs themselves, as all that solve a program a row take them; their
answers, for the rows they solved, must be ours. They prove nothing; ours includes every proof.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from itertools import pairwise

import highspy
import numpy as np
import torch
from scipy.optimize import linprog
from torch import nn

import gatewise as gw
from gatewise.regions.halfspaces import region
from gatewise.regions.local.irredundant import facets

CASES = [
    (2, 128, 128, 128, 1),
    (5, 50, 50, 50, 50, 50, 50, 5),
    (8, 64, 64, 64, 1),
    (20, 256, 256, 1),
    (50, 256, 256, 1),
    (784, 256, 256, 10),
]


def network(sizes: tuple[int, ...]) -> gw.Network:
    """A ReLU MLP with torch's default initialisation, seed 0, in float64."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return gw.read(nn.Sequential(*layers[:-1])).to(torch.float64)


def highs_rows(a, b, budget: float) -> tuple[dict[int, bool], float]:
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
    start = time.process_time()
    for i in np.random.default_rng(0).permutation(m):
        h.changeColsCost(d, columns, a[i])
        h.changeRowBounds(int(i), -b[i] - 1, inf)
        h.run()
        found[int(i)] = h.getObjectiveValue() + b[i] < -1e-9
        h.changeRowBounds(int(i), -b[i], inf)
        if time.process_time() - start > budget:
            break
    return found, time.process_time() - start


def scipy_rows(a, b, budget: float) -> tuple[dict[int, bool], float]:
    """linprog from the start for every row."""
    found = {}
    start = time.process_time()
    for i in np.random.default_rng(0).permutation(len(a)):
        room = b.copy()
        room[i] += 1
        done = linprog(a[i], -a, room, bounds=(None, None), method="highs")
        found[int(i)] = done.fun + b[i] < -1e-9
        if time.process_time() - start > budget:
            break
    return found, time.process_time() - start


def ours(home, repeat: int):
    """The facets and the median CPU seconds."""
    facets(home)
    took = []
    for _ in range(repeat):
        start = time.process_time()
        found = facets(home)
        took.append(time.process_time() - start)
    return found, statistics.median(took)


def case(sizes: tuple[int, ...], repeat: int, budget: float) -> dict[str, object]:
    """All contenders on one region."""
    net = network(sizes)
    x = torch.randn(1, sizes[0], generator=torch.Generator().manual_seed(1)).double()
    home = region(net, x)
    found, seconds = ours(home, repeat)
    h = home.halfspaces()
    a, b = h.a.numpy(), h.b.numpy()
    row = {
        "net": "-".join(map(str, sizes)),
        "rows": len(a),
        "facets": len(found),
        "undecided": len(found.undecided),
        "exact": int(found.exact.sum()),
        "ours_s": seconds,
    }
    for name, peer in (("highspy", highs_rows), ("scipy", scipy_rows)):
        answer, took = peer(a, b, budget)
        row[f"{name}_s"] = took * len(a) / len(answer)
        row[f"{name}_rows"] = len(answer)
        row[f"{name}_differs"] = sum(v != (found.status[i] == 1) for i, v in answer.items())
    return row


def line(row: dict[str, object]) -> str:
    """One line of the table."""
    text = f"{row['net']:28} {row['rows']:4} -> {row['facets']:4} {row['undecided']:5}"
    text += f" {row['exact']:5} {row['ours_s']:9.3f}"
    for name in ("highspy", "scipy"):
        mark = "*" if row[f"{name}_rows"] < row["rows"] else " "
        times = row[f"{name}_s"] / row["ours_s"]
        text += f" {row[f'{name}_s']:9.2f}{mark} {times:7.0f}x {int(row[f'{name}_differs']):4}"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--budget", type=float, default=20.0, help="CPU seconds a peer and case")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.json:
        print(
            f"{'net':28} rows -> facets undec exact    ours s  highspy s   ratio diff    scipy s"
            "   ratio diff"
        )
    for sizes in CASES:
        row = case(sizes, options.repeat, options.budget)
        print(json.dumps(row) if options.json else line(row), flush=True)


if __name__ == "__main__":
    main()
