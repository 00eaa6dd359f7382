"""Gated networks in numpy, unit by unit: the slow and obvious way."""

from __future__ import annotations

import itertools

import numpy as np
import torch


def rows(n, *shape, seed=0):
    """Normal rows in float64."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(n, *shape, generator=rng, dtype=torch.double)


def with_biases(net, seed=0):
    """The network in float64, its biases away from 0 so that they are seen."""
    rng = torch.Generator().manual_seed(seed)
    for name, p in net.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(p, generator=rng)
    return net.double()


def arrays(layers):
    """[(W, b)] of Linear layers, b zeros where there is none."""
    made = []
    for layer in layers:
        w = layer.weight.detach().double().numpy()
        made.append((w, np.zeros(len(w)) if layer.bias is None else layer.bias.detach().numpy()))
    return made


def masks(features, x, kind, gate):
    """The mask of each gate layer for one row x; kind "dgn", "dlgn" or "shallow"."""
    found, z = [], list(x)
    for w, b in arrays(features):
        source = list(x) if kind == "shallow" else z
        q = [sum(w[i, j] * source[j] for j in range(len(source))) + b[i] for i in range(len(w))]
        found.append(np.array([gate(v) for v in q]))
        z = [max(v, 0) for v in q] if kind == "dgn" else q
    return found


def output(values, start, gates):
    """V_d (g * V_{d-1} (.. g * V_1 start)) for one row, `gates` in the order of value layers."""
    *layers, (w, b) = arrays(values)
    h = np.asarray(start, float)
    for (v, c), g in zip(layers, gates, strict=True):
        h = np.array([g[i] * (sum(v[i] * h) + c[i]) for i in range(len(v))])
    return w @ h + b


def path_kernel(x, y, gates_x, gates_y):
    """sum over paths of phi_x(p) phi_y(p), every path by itself."""
    total = 0.0
    widths = [range(len(g)) for g in gates_x]
    for start in range(len(x)):
        for units in itertools.product(*widths):
            ends = [(gates_x[k][u], gates_y[k][u]) for k, u in enumerate(units)]
            total += x[start] * y[start] * np.prod([a * b for a, b in ends])
    return total


def cells_of_lines(lines, low, high):
    """Cells of generic lines a.x + c = 0 in a box of the plane: 1 + lines + crossings, inside it.

    Each line that meets the box's inside adds one cell, and one more for each crossing inside.
    """
    a, c = lines
    corners = np.array(list(itertools.product(*zip(low, high, strict=True))))
    at = corners @ a.T + c
    count = 1 + int(((at.min(0) < 0) & (at.max(0) > 0)).sum())
    for i, j in itertools.combinations(range(len(a)), 2):
        point = np.linalg.solve(a[[i, j]], -c[[i, j]])
        count += bool((point > low).all() and (point < high).all())
    return count
