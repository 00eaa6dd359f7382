"""All paths of a small network, one by one: slow, obvious, and without the code under test.

A value is a numpy array of dictionaries, one an entry: path -> feature, where a path is the tuple
of the weights on it (a bias or the input begins one). The same path of a convolution runs at many
positions: its feature is the sum over them.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import defaultdict

import numpy as np
import torch
from torch import nn

from nets import dense


class Paths:
    """Walks one row through layers; `values` holds each weight by its name."""

    def __init__(self) -> None:
        self.weights: dict[tuple, float] = {}

    def start(self, x):
        """Every entry of the input is an empty path with that feature."""
        x = np.asarray(x, float)
        out = np.empty(x.shape, object)
        for at in np.ndindex(x.shape):
            out[at] = {(): float(x[at])}
        return out

    def numbers(self, value):
        """What each entry is: sum of features times products of weights."""
        out = np.empty(value.shape)
        for at in np.ndindex(value.shape):
            out[at] = sum(f * self.product(p) for p, f in value[at].items())
        return out

    def product(self, path):
        return float(np.prod([self.weights[w] for w in path])) if path else 1.0

    def through(self, edge, weight, entry):
        """Every path of an entry, one weight longer."""
        self.weights[edge] = float(weight)
        return {(*path, edge): f for path, f in entry.items()}

    def dense(self, name, layer, value):
        w = layer.weight.detach().double().numpy()
        out = np.empty(len(w), object)
        for o in range(len(w)):
            parts = [self.through((name, o, i), w[o, i], value[i]) for i in range(w.shape[1])]
            out[o] = plus(*parts, *self.bias(name, layer, o))
        return out

    def constant(self, name, numbers):
        """Equal numbers of a unit are one weight, wherever they stand."""
        out = np.empty(numbers.shape, object)
        for at in np.ndindex(out.shape):
            edge = (name, at[0], round(float(numbers[at]), 9))
            out[at] = self.through(edge, numbers[at], {(): 1.0})
        return out

    def bias(self, name, layer, o):
        if layer.bias is None:
            return []
        return [self.through((name, o, "bias"), layer.bias.detach()[o], {(): 1.0})]

    def conv(self, name, layer, value, wrap=False):
        """Any number of spatial axes; zeros (or, with wrap, the other end) outside."""
        w = layer.weight.detach().double().numpy()
        size, kernel = value.shape[1:], w.shape[2:]
        reach = [d * (k - 1) + 1 for k, d in zip(kernel, layer.dilation, strict=True)]
        span = [m + 2 * p - r for m, p, r in zip(size, layer.padding, reach, strict=True)]
        shape = [s // t + 1 for s, t in zip(span, layer.stride, strict=True)]
        out = np.empty((len(w), *shape), object)
        for at in np.ndindex(out.shape):
            o, q = at[0], at[1:]
            parts = list(self.bias(name, layer, o))
            for c, *t in np.ndindex(w.shape[1:]):
                each = zip(q, layer.stride, t, layer.dilation, layer.padding, strict=True)
                p = [a * s + b * d - e for a, s, b, d, e in each]
                if wrap:
                    p = [a % m for a, m in zip(p, size, strict=True)]
                elif any(a < 0 or a >= m for a, m in zip(p, size, strict=True)):
                    continue
                entry = value[(c, *p)]
                parts.append(self.through((name, o, c, *t), w[(o, c, *t)], entry))
            out[at] = plus(*parts)
        return out

    def norm(self, name, layer, value):
        """BatchNorm in evaluation: one scale and one offset a channel."""
        scale = layer.weight / (layer.running_var + layer.eps).sqrt()
        offset = layer.bias - layer.running_mean * scale
        out = np.empty(value.shape, object)
        for at in np.ndindex(value.shape):
            c = at[0]
            long = self.through((name, c), scale.detach()[c], value[at])
            out[at] = plus(long, self.through((name, c, "bias"), offset.detach()[c], {(): 1.0}))
        return out

    def relu(self, value):
        return masked(value, self.numbers(value) > 0)


def masked(value, mask):
    out = np.empty(value.shape, object)
    for at in np.ndindex(value.shape):
        out[at] = dict(value[at]) if mask[at] else {}
    return out


def plus(*entries):
    total = defaultdict(float)
    for entry in entries:
        for path, f in entry.items():
            total[path] += f
    return dict(total)


def added(a, b):
    out = np.empty(a.shape, object)
    for at in np.ndindex(a.shape):
        out[at] = plus(a[at], b[at])
    return out


def times(factor, entry):
    return {path: factor * f for path, f in entry.items()}


def scaled(factor, value):
    out = np.empty(value.shape, object)
    for at in np.ndindex(value.shape):
        out[at] = times(factor, value[at])
    return out


def averaged(value, window):
    """Means over blocks of the spatial axes (window: the size of a block)."""
    shape = [m // k for m, k in zip(value.shape[1:], window, strict=True)]
    out = np.empty((len(value), *shape), object)
    for at in np.ndindex(out.shape):
        corner = [a * k for a, k in zip(at[1:], window, strict=True)]
        places = itertools.product(*(range(c, c + k) for c, k in zip(corner, window, strict=True)))
        entries = [value[(at[0], *p)] for p in places]
        out[at] = times(1 / len(entries), plus(*entries))
    return out


class Add(nn.Module):
    """The value plus `factor` times the one `back` layers ago (1: its own input)."""

    def __init__(self, back, factor=1.0):
        super().__init__()
        self.back, self.factor = back, factor

    def forward(self, value, seen):
        old = seen[-self.back - 1]
        return value + (old if self.factor == 1 else self.factor * old)


class Opposites(nn.Module):
    """relu(z) + relu(factor z): with factor -1, |z|."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, value):
        return torch.relu(value) + torch.relu(self.factor * value)


class Ones(nn.Module):
    """A layer without bias at ones, in place of the value: its numbers are the first weights."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, value):
        return self.layer(torch.ones_like(value))


class Join(nn.Module):
    """The value and the one `back` layers ago, one after the other along the channels."""

    def __init__(self, back):
        super().__init__()
        self.back = back

    def forward(self, value, seen):
        return torch.cat([value, seen[-self.back - 1]], 1)


class Mask(nn.Module):
    """The value times 1 where a feature network of the input is positive (else 0)."""

    def __init__(self, feature):
        super().__init__()
        self.feature = feature

    def forward(self, value, seen):
        return value * (self.feature(seen[0]) > 0).to(value.dtype)


class Graph(nn.Module):
    """Layers in turn; those above also see what came before, the input first."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        seen = [x]
        for layer in self.layers:
            x = layer(x, seen) if isinstance(layer, Add | Join | Mask) else layer(x)
            seen.append(x)
        return x


def walk(layers, x, paths):
    """The output entries of a list of layers at one row."""
    paths.row = torch.as_tensor(x)[None]
    value = paths.start(x)
    seen = [value]
    for k, layer in enumerate(layers):
        value = step(paths, f"layer {k}", layer, value, seen)
        seen.append(value)
    return value.reshape(-1)


def step(paths, name, layer, value, seen):
    if isinstance(layer, nn.Linear):
        return paths.dense(name, layer, value)
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        return paths.conv(name, layer, value, layer.padding_mode == "circular")
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        return paths.norm(name, layer, value)
    if isinstance(layer, nn.ReLU):
        return paths.relu(value)
    if isinstance(layer, nn.Flatten):
        return value.reshape(-1)
    if isinstance(layer, nn.AvgPool1d | nn.AvgPool2d):
        n = value.ndim - 1
        size = layer.kernel_size
        return averaged(value, size if isinstance(size, tuple) else (size,) * n)
    if isinstance(layer, nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d):  # to one position
        return averaged(value, value.shape[1:])
    if isinstance(layer, Ones):
        return paths.constant(name, layer(paths.row)[0].detach().numpy())
    if isinstance(layer, Opposites):
        return added(paths.relu(value), paths.relu(scaled(layer.factor, value)))
    old = seen[-layer.back - 1] if isinstance(layer, Add | Join) else None
    if isinstance(layer, Join):
        return np.concatenate([value, old])
    if isinstance(layer, Add):
        return added(value, scaled(layer.factor, old))
    assert isinstance(layer, Mask)
    return masked(value, layer.feature(paths.row)[0].detach().numpy() > 0)


class LastAxis:
    """The taps of a dense layer, for networks that were built from kinds alone."""

    def __call__(self, x):
        return x.reshape(len(x), -1, x.shape[-1]).mT

    def units(self, y):
        return self(y)


def with_taps(network):
    """The network with taps on its dense layers (tests/nets.py gives none)."""
    nodes = [
        dataclasses.replace(n, kind=dataclasses.replace(n.kind, taps=LastAxis()))
        if getattr(n.kind, "rule", None) is dense
        else n
        for n in network.nodes
    ]
    return dataclasses.replace(network, nodes=tuple(nodes))


def features(layers, X):
    """For each row: output entries, their numbers, and the weights by the names paths use."""
    rows = []
    for x in X:
        paths = Paths()
        out = walk(layers, np.asarray(x), paths)
        rows.append((out, paths.numbers(out), paths.weights))
    return rows


def kernel(left, right=None):
    """Mean over outputs of the inner products of path features: (N, N')."""
    right = left if right is None else right
    out = np.zeros((len(left), len(right)))
    for i, (a, _, _) in enumerate(left):
        for j, (b, _, _) in enumerate(right):
            out[i, j] = np.mean([inner(p, q) for p, q in zip(a, b, strict=True)])
    return out


def inner(a, b):
    return sum(f * b[path] for path, f in a.items() if path in b)


def count(rows):
    """Number of different paths that some row has."""
    return len({path for out, _, _ in rows for entry in out for path in entry})
