"""The evaluation measures of the exact methods, SHAP, Captum and LIME, and their time.

    python benchmarks/evaluate.py [--rows 60] [--peers saliency lime ...]

A 30-64-64-1 network on the breast cancer table, trained three times; all methods get the same rows,
reference and samples. Milliseconds are of one call of each method on the rows, after a warm-up.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import gatewise as gw
from gatewise.explain.evaluation.evaluate import evaluate, ours
from gatewise.explain.evaluation.peers import PEERS, peers


def pipeline(frame, seed: int):
    """Scaling and a 64-64 ReLU network."""
    net = MLPClassifier((64, 64), max_iter=200, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return make_pipeline(StandardScaler(), net).fit(frame.drop(columns="target"), frame.target)


def milliseconds(attribute, x: np.ndarray) -> float:
    """Of one row, in a batch."""
    attribute(x[:2])
    start = time.perf_counter()
    attribute(x)
    return (time.perf_counter() - start) / len(x) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser()
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
    for peer in (*ours(e.network, e.reference, e.outputs[0]), *others):
        print(f"{peer.name:36}{milliseconds(peer.attribute, e.data[: asked.rows]):10.4f} ms a row")


if __name__ == "__main__":
    main()
