"""Exact rules and paths beside SHAP, Captum and LIME; their time, and the literature's measures.

    python -m benchmarks.evaluate [--rows 60] [--peers saliency lime ...]

A 30-64-64-1 network on the breast cancer table; all methods get the same rows and reference. The
command above prints the measures, with the network trained three times; `jobs` only times.
"""

from __future__ import annotations

import argparse
import time
import warnings
from functools import partial

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import gatewise as gw
from benchmarks.measure import Job, Setup, Way
from gatewise.explain.evaluation.evaluate import evaluate, ours
from gatewise.explain.evaluation.peers import PEERS, peers

SLOW = ("kernel_shap", "permutation_shap", "lime")  # they do a few of the rows
RULES = ("saliency", "input_x_gradient")  # the peers of a rule; the others are of a path


def pipeline(frame, seed: int):
    """Scaling and a 64-64 ReLU network."""
    net = MLPClassifier((64, 64), max_iter=200, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return make_pipeline(StandardScaler(), net).fit(frame.drop(columns="target"), frame.target)


def timing(method: int, rows: int) -> Setup:
    """The exact rule (0) or path (1) and those that say the same kind of thing."""
    frame = load_breast_cancer(as_frame=True).frame
    e = gw.explain(pipeline(frame, 0), frame, target="target")
    exact = ours(e.network, e.reference, e.outputs[0])[method]
    x = e.data[:rows]
    few = x[: max(1, rows // 20)]
    names = RULES if method == 0 else [n for n in PEERS if n not in RULES]
    others = [
        Way(
            p.name,
            partial(p.attribute, few if n in SLOW else x),
            rows / len(few if n in SLOW else x),
        )
        for n in names
        for p in peers(e, [n])
    ]
    double = torch.from_numpy(x)
    floor = Way("the forward pass", lambda: e.network(double))
    return Setup(Way("gatewise", lambda: exact.attribute(x)), [floor], others)


def jobs(size: str) -> list[Job]:
    rows = {"quick": 20, "default": 40, "full": 100}[size]
    kinds = enumerate(("exact rule", "exact path"))
    return [Job(f"{what}, {rows} rows", partial(timing, i, rows)) for i, what in kinds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--peers", nargs="*", choices=PEERS)
    parser.add_argument("--radius", type=float, default=0.1)
    asked = parser.parse_args()
    frame = load_breast_cancer(as_frame=True).frame
    e = gw.explain(pipeline(frame, 0), frame, target="target")
    again = [gw.read(pipeline(frame, seed)) for seed in (1, 2)]
    others = peers(e, asked.peers)
    start = time.perf_counter()
    print(
        evaluate(e, peers=others, rows=asked.rows, radius=asked.radius, retrained=again),
        f"\n{time.perf_counter() - start:.0f} s for all measures",
    )


if __name__ == "__main__":
    main()
