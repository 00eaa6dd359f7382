"""Domains of recourse at random, points in them, and what units say there."""

from __future__ import annotations

import numpy as np

from gatewise.explain.recourse.bounds import Domain


def domain(rng, d, **more):
    home = rng.normal(size=d)
    low, high = home - rng.uniform(0, 2, d), home + rng.uniform(0, 2, d)
    return Domain(home, low, high, rng.uniform(0.5, 2, d), np.zeros(d, bool), **more)


def points(dom, rng, count=400):
    """Points of the domain: of the box, drawn towards its centre until they are in the ball."""
    x = rng.uniform(dom.low, dom.high, (count, len(dom.low)))
    moved = x - dom.centre
    keep = rng.random(moved.shape) < rng.random((count, 1))
    moved = moved * keep
    cost = dom.weight * np.abs(moved)
    spent = cost.max(1) if dom.largest else cost.sum(1)
    spare = dom.radius - (0 if dom.largest else dom.cost(dom.centre))
    share = np.minimum(1, spare / np.maximum(spent, 1e-300))
    return dom.centre + moved * (share * np.where(rng.random(count) < 0.5, 1, 0.7))[:, None]


def preactivations(form, x):
    """(rows, units) P v + b at points."""
    v = np.concatenate([x, np.zeros((len(x), form.units))], 1)
    z = np.zeros((len(x), form.units))
    for s in form.stages:
        z[:, s] = v @ form.pre[s].T + form.bias[s]
        v[:, form.inputs + s.start : form.inputs + s.stop] = np.maximum(0, z[:, s])
    return z
