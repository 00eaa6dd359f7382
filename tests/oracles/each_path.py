"""Paths of a perceptron or a 1-D convolution, one by one, by recursion over units: slow, obvious.

A path is (way, value, feature): way holds what is weighed on it, value the product of its weights,
feature its start times its gates.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

Path = tuple[tuple, float, float]


def dense(weights, biases, x, output: int) -> Iterator[Path]:
    """Paths of a ReLU perceptron: way = (start, unit of layer 1, .., output), start -1 a bias.

    A path that starts at the bias of layer l has None for the units of the layers before it.
    """
    gates, h = [], np.asarray(x)
    for w, c in zip(weights, biases, strict=True):
        z = w @ h + (0 if c is None else c)
        gates.append(z > 0)
        h = np.maximum(z, 0)

    def into(layer: int, unit: int) -> Iterator[Path]:
        """Paths to the pre-activation of a unit."""
        if biases[layer] is not None:
            yield (-1, *[None] * layer, unit), float(biases[layer][unit]), 1.0
        for j, w in enumerate(weights[layer][unit]):
            if layer == 0:
                yield (j, unit), float(w), float(x[j])
                continue
            for way, value, feature in into(layer - 1, j):
                yield (*way, unit), value * w, feature * gates[layer - 1][j]

    return into(len(weights) - 1, output)


def strongest(weights, biases, x, output: int, k: int) -> list[tuple[tuple, float]]:
    """The k paths of largest |contribution|, multiplied from the output back, then by `back`."""
    found = []
    for way, _, feature in dense(weights, biases, x, output):
        c = from_the_output(weights, biases, x, way) * (feature != 0)
        if c:
            found.append((way, c))
    found.sort(key=lambda f: (-abs(f[1]), back(f[0])))
    return found[:k]


def back(way: tuple) -> tuple:
    """Sources of the edges from the output back; a bias comes before every unit."""
    start, units = way[0], [u for u in way[1:] if u is not None]
    return (*units[::-1][1:], start)


def from_the_output(weights, biases, x, way: tuple) -> float:
    """The contribution of a path whose gates are on."""
    product, units = 1.0, way[1:]
    for layer in range(len(weights) - 1, -1, -1):
        if layer == 0 or units[layer - 1] is None:
            if way[0] < 0:
                return product * float(biases[layer][units[layer]])
            return product * float(weights[0][units[0], way[0]]) * float(x[way[0]])
        product *= float(weights[layer][units[layer], units[layer - 1]])
    raise AssertionError("a path has a start")


def convolution(weights, biases, head, x, output: int) -> Iterator[Path]:
    """Paths of 1-D convolutions (zero padding that keeps the length), ReLU, mean, a dense head.

    weights (out, in, 3); way = (("b", layer, channel) or none, then (channel, in, tap) a layer).
    """
    length, gates, h = x.shape[1], [], x
    for w, c in zip(weights, biases, strict=True):
        padded = np.pad(h, ((0, 0), (1, 1)))
        places = [padded[:, p : p + 3] for p in range(length)]
        z = np.array([[(w[o] * place).sum() + c[o] for place in places] for o in range(len(w))])
        gates.append(z > 0)
        h = np.maximum(z, 0)

    def into(layer: int, o: int, p: int) -> Iterator[Path]:
        yield (("b", layer, o),), float(biases[layer][o]), 1.0
        for i in range(weights[layer].shape[1]):
            for t in range(3):
                q, w = p + t - 1, float(weights[layer][o, i, t])
                if not 0 <= q < length:
                    continue
                if layer == 0:
                    yield ((o, i, t),), w, float(x[i, q])
                    continue
                for way, value, feature in into(layer - 1, i, q):
                    yield (*way, (o, i, t)), value * w, feature * gates[layer - 1][i, q]

    last = len(weights) - 1
    for o in range(len(weights[last])):
        for p in range(length):
            for way, value, feature in into(last, o, p):
                yield (*way, o), value * head[output, o], feature * gates[last][o, p] / length
