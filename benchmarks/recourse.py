"""Nearest change that flips a denial: seconds a row, gap, replay error, against plain big-M.

    python -m benchmarks.recourse [--rows 24] [--limit 60] [--compare 6] [--hidden 32 32] [--stop]

HELOC (21 features in original units), StandardScaler and a perceptron of 2 x 32 read from its
Pipeline; rows are denied ones drawn at random (seed 0), the cost is the sum of |changes| over the
deviations, the bounds are the data's range. Three contenders on the same rows, in one process, one
thread: `exact` (ours), HiGHS's MILP with our bounds ("milp"), and HiGHS's MILP with big-M from
intervals on the whole box ("plain"), the last two on the first --compare rows and at most --limit
seconds each. Seconds are of the processor and of the wall (they differ on a busy machine).
The command prints a line a row and their spread; `jobs` times a few rows.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from functools import partial

import numpy as np

import gatewise as gw
from benchmarks.measure import Job, Setup, Way, data_folder
from gatewise.explain.recourse.milp import Goal
from gatewise.explain.recourse.milp_form import rectified
from gatewise.explain.recourse.problem import domain_of
from gatewise.explain.recourse.recourse import recourse, solved_by_milp

ASKED = {  # denied rows, hidden layers, seconds a row at most
    "quick": (1, (8, 8), 5.0),
    "default": (2, (32, 32), 4.0),
    "full": (4, (32, 32), 10.0),
}


def heloc(hidden: tuple[int, ...], stop: bool):
    """The fitted Pipeline and the inputs (rows, 21)."""
    import pandas as pd
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    table = pd.read_csv(data_folder("tabular", "heloc", "heloc.csv"))
    y = table.pop("RiskPerformance")
    train = np.random.default_rng(0).permutation(len(table))[:7500]
    net = MLPClassifier(hidden, max_iter=60, random_state=0, early_stopping=stop)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make_pipeline(StandardScaler(), net).fit(table.iloc[train], y.iloc[train])
    held = np.setdiff1d(np.arange(len(table)), train)
    print(
        f"accuracy on {len(held)} held-out rows {model.score(table.iloc[held], y.iloc[held]):.3f}"
    )
    return model, table.to_numpy(float)


def clocked(job):
    """What the job gives, its CPU seconds and its wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    found = job()
    return found, time.process_time() - cpu, time.perf_counter() - wall


def spread(values) -> str:
    """Median, ninth decile, largest."""
    q = np.quantile(values, [0.5, 0.9, 1])
    return " ".join(f"{v:8.2f}" for v in q)


def plain(network, x, box, scale, limit: float):
    """One MILP whose big-M come from intervals on the whole box."""
    names = tuple(network.feature_names)
    domain, _ = domain_of(network, x, names, bounds=box, norm="weighted", scale=scale)
    form, goal = rectified(network), Goal(np.array([[1.0]]), np.array([-1e-6]))
    return solved_by_milp(form, domain, goal, None, limit, plain=True)


def flipping(rows: int, hidden: tuple[int, ...], limit: float) -> Setup:
    """So many denied rows, drawn at random; the floor is a linear program in a row's own region."""
    model, X = heloc(hidden, stop=True)
    network, scale, box = gw.read(model), X.std(0), (X.min(0), X.max(0))
    denied = np.flatnonzero(network(X)[:, 0].numpy() < 0)
    some = X[np.random.default_rng(0).permutation(denied)[:rows]]
    ask = {"bounds": box, "norm": "weighted", "scale": scale}

    def each(method: str) -> list:
        return [recourse(network, x, method=method, time_limit=limit, **ask) for x in some]

    def right(found: list) -> str:
        gap, replayed = max(r.gap for r in found), max(r.replay_error for r in found)
        assert replayed < 1e-9, replayed
        return f"largest gap {gap:.0e}"

    return Setup(
        Way("gatewise", lambda: each("exact")),
        [Way("a linear program in the region", lambda: each("region"))],
        [
            Way("HiGHS, our bounds", lambda: each("milp")),
            Way("HiGHS, big-M", lambda: [plain(network, x, box, scale, limit) for x in some]),
        ],
        right,
    )


def jobs(size: str) -> list[Job]:
    rows, hidden, limit = ASKED[size]
    net = "-".join(map(str, (21, *hidden, 1)))
    name = f"{rows} denied rows, {net}; {limit:g} s a row at most"
    return [Job(name, partial(flipping, rows, hidden, limit))]


def main() -> None:
    """Print a line a row, then the spread."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--limit", type=float, default=60)
    parser.add_argument("--compare", type=int, default=6)
    parser.add_argument("--hidden", type=int, nargs="+", default=[32, 32])
    parser.add_argument("--stop", action="store_true", help="train with early stopping")
    args = parser.parse_args()
    model, X = heloc(tuple(args.hidden), args.stop)
    network = gw.read(model)
    scale, box = X.std(0), (X.min(0), X.max(0))
    score = network(X)[:, 0].numpy()
    denied = np.random.default_rng(0).permutation(np.flatnonzero(score < 0))[: args.rows]
    print(f"{network}; numpy {np.__version__}, {sys.version.split()[0]}")
    _, cpu, _ = clocked(lambda: recourse(network, X[denied[0]], method="region", bounds=box))
    print(f"first answer, loops compiled or read from the disk: {cpu:.1f} s of CPU, not counted")
    print("   row  score    region     exact    bound   gap  nodes open  CPU s wall s   replay")
    table = []
    for i in denied.tolist():
        ask = {"bounds": box, "norm": "weighted", "scale": scale, "model": model}
        near, fast, _ = clocked(lambda a=ask, i=i: recourse(network, X[i], method="region", **a))
        r, cpu, wall = clocked(
            lambda a=ask, i=i: recourse(network, X[i], time_limit=args.limit, **a)
        )
        print(
            f"{i:6} {score[i]:6.2f} {near.cost:9.5f} {r.cost:9.5f} {r.bound:8.5f} {r.gap:5.0e} "
            f"{r.nodes:6} {r.open:4} {cpu:6.2f} {wall:6.2f} {r.replay_error:8.1e} {r.status}",
            flush=True,
        )
        table.append((cpu, wall, fast, r.gap, r.replay_error, r.model_error, near.cost / r.cost))
        if len(table) <= args.compare:
            compare(network, X[i], box, scale, args.limit, cpu)
    summary(np.array(table, float), args.limit)


def compare(network, x, box, scale, limit: float, cpu: float) -> None:
    """HiGHS's MILP on the same row, with our bounds and with plain ones."""
    ask = {"bounds": box, "norm": "weighted", "scale": scale, "time_limit": limit}
    milp, cpu_milp, _ = clocked(lambda: recourse(network, x, method="milp", **ask))
    found, cpu_plain, _ = clocked(lambda: plain(network, x, box, scale, limit))
    for name, status, cost, bound, seconds in (
        ("milp", milp.status, milp.cost, milp.bound, cpu_milp),
        ("plain", found.status, found.cost, found.bound, cpu_plain),
    ):
        print(
            f"       {name:6} {status}: cost {cost:.5f}, bound {bound:.5f}, CPU {seconds:.2f} s, "
            f"{seconds / cpu:.1f} x ours",
            flush=True,
        )


def summary(table, limit: float) -> None:
    """Median, ninth decile and largest of every column."""
    cpu, wall, fast, gap, replayed, model, ratio = table.T
    done = gap <= 1e-6
    print(f"{'':24}   median  9th dec.  largest   ({len(table)} rows)")
    print(f"{'exact, CPU s':24} {spread(cpu)}")
    print(f"{'exact, wall s':24} {spread(wall)}")
    print(f"{'region, CPU s':24} {spread(fast)}")
    print(f"{'region cost / exact cost':24} {spread(ratio)}")
    print(
        f"proven {int(done.sum())} of {len(gap)} (limit {limit:g} s), in under 10 s of CPU "
        f"{int((done & (cpu < 10)).sum())}, of wall {int((done & (wall < 10)).sum())}; largest gap "
        f"{gap.max():.1e}, "
        f"|rule - network| {replayed.max():.1e}, |model - network| {model.max():.1e}"
    )


if __name__ == "__main__":
    main()
