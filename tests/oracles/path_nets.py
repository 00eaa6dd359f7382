"""Small networks with on/off gates of every form: layers and the shape of one row."""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.nn import AvgPool1d, AvgPool2d, BatchNorm1d, BatchNorm2d, Conv1d, Conv2d, Flatten, Linear

from oracles.paths import Add, Graph, Join, Mask, Ones, Opposites

GAP1, GAP2 = nn.AdaptiveAvgPool1d(1), nn.AdaptiveAvgPool2d(1)


def relu():
    return nn.ReLU()


def made(layers, seed=0):
    """The layers as a float64 module with random weights and statistics."""
    torch.manual_seed(seed)
    module = Graph(*layers).double().eval()
    for m in module.modules():
        if hasattr(m, "reset_parameters"):
            m.reset_parameters()
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            for t in (m.running_mean, m.weight, m.bias):
                nn.init.normal_(t)
            nn.init.uniform_(m.running_var, 0.5, 2)
    return module


def drawn(shape, n=3, seed=5):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed)).double()


def circular(i, o, k=3, bias=True):
    return Conv1d(i, o, k, padding=k // 2, padding_mode="circular", bias=bias)


def tower(*sizes):
    return nn.Sequential(*itertools.chain(*((Linear(a, b), nn.ReLU()) for a, b in pairs(sizes))))


def pairs(sizes):
    return itertools.pairwise(sizes)


NETS = {
    "fully connected": ([Linear(3, 4, bias=False), relu(), Linear(4, 3, bias=False)], (3,)),
    "with biases": ([Linear(3, 4), relu(), Linear(4, 3), relu(), Linear(3, 2)], (3,)),
    "a linear network": ([Linear(3, 2)], (3,)),
    "two layers and no gate": ([Linear(3, 2), Linear(2, 2)], (3,)),
    "ends in a gate": ([Linear(3, 4), relu(), Linear(4, 3), relu()], (3,)),
    "begins with a gate": ([relu(), Linear(3, 4), relu(), Linear(4, 2)], (3,)),
    "convolution, zeros, pooled": (
        [
            Conv1d(2, 3, 3, padding=1),
            relu(),
            Conv1d(3, 2, 3, padding=1),
            relu(),
            GAP1,
            Flatten(),
            Linear(2, 1),
        ],
        (2, 5),
    ),
    "convolution, circular, pooled, dense gates": (
        [
            circular(2, 3),
            relu(),
            circular(3, 2),
            relu(),
            GAP1,
            Flatten(),
            Linear(2, 3),
            relu(),
            Linear(3, 1),
        ],
        (2, 5),
    ),
    "convolution, flattened": (
        [Conv1d(2, 3, 3, padding=1), relu(), circular(3, 2), relu(), Flatten(), Linear(10, 2)],
        (2, 5),
    ),
    "pixels, stride, dilation": (
        [
            Conv2d(1, 2, 2, stride=2),
            relu(),
            Conv2d(2, 2, 2, dilation=2),
            BatchNorm2d(2),
            relu(),
            Flatten(),
            Linear(2, 2),
        ],
        (1, 6, 6),
    ),
    "pixels, pools between": (
        [
            Conv2d(1, 2, 3, padding=1),
            relu(),
            AvgPool2d(2),
            Conv2d(2, 2, 2),
            relu(),
            GAP2,
            Flatten(),
            Linear(2, 2),
        ],
        (1, 4, 4),
    ),
    "a pool before its gate": (
        [
            Conv1d(1, 2, 3, padding=1),
            AvgPool1d(2),
            relu(),
            Conv1d(2, 2, 2),
            relu(),
            GAP1,
            Flatten(),
            Linear(2, 2),
        ],
        (1, 6),
    ),
    "a pool, flattened": (
        [Conv1d(1, 2, 3, padding=1), relu(), AvgPool1d(2), Flatten(), Linear(6, 2)],
        (1, 6),
    ),
    "norms before and after gates": (
        [
            Linear(3, 4),
            BatchNorm1d(4),
            relu(),
            BatchNorm1d(4),
            Linear(4, 3),
            relu(),
            BatchNorm1d(3),
            Linear(3, 2),
        ],
        (3,),
    ),
    "norms of channels": (
        [
            Conv2d(1, 2, 3, padding=1),
            BatchNorm2d(2),
            relu(),
            BatchNorm2d(2),
            AvgPool2d(2),
            Conv2d(2, 2, 2),
            relu(),
            GAP2,
            Flatten(),
            Linear(2, 2),
        ],
        (1, 4, 4),
    ),
    "residual, gates inside": (
        [Linear(3, 4), relu(), Linear(4, 4), Add(2), relu(), Linear(4, 4), Add(2), Linear(4, 1)],
        (3,),
    ),
    "residual, gates after the sum": (
        [
            Linear(3, 4),
            relu(),
            Linear(4, 4),
            relu(),
            Linear(4, 4),
            Add(3),
            relu(),
            Linear(4, 4),
            Add(2),
            relu(),
            Linear(4, 2),
        ],
        (3,),
    ),
    "a skip from the input itself": ([Linear(3, 4), relu(), Linear(4, 3), Add(3), relu()], (3,)),
    "a difference": ([Linear(3, 4), relu(), Linear(4, 4), Add(2, -1.0), Linear(4, 2)], (3,)),
    "a scaled skip": (
        [Linear(3, 4), relu(), Linear(4, 4), Add(2, 0.1), relu(), Linear(4, 2)],
        (3,),
    ),
    "a scaled skip from the input itself": (
        [Linear(3, 4), relu(), Linear(4, 3), Add(3, 0.5), relu(), Linear(3, 2)],
        (3,),
    ),
    "a value and its opposite": ([Linear(3, 4), Opposites(-1), Linear(4, 2)], (3,)),
    "a value and a third of its opposite": ([Linear(3, 4), Opposites(-1 / 3), Linear(4, 2)], (3,)),
    "a norm of one channel": (
        [Conv1d(1, 1, 3), BatchNorm1d(1), relu(), Flatten(), Linear(3, 2)],
        (1, 5),
    ),
    "dense values that start from ones": (
        [
            Ones(Linear(3, 4, bias=False)),
            Mask(Linear(3, 4)),
            Linear(4, 3),
            Mask(Linear(3, 3)),
            Linear(3, 2),
        ],
        (3,),
    ),
    "convolutions that start from ones, circular": (
        [
            Ones(circular(1, 2, bias=False)),
            Mask(circular(1, 2)),
            circular(2, 2),
            Mask(circular(1, 2)),
            GAP1,
            Flatten(),
            Linear(2, 1),
        ],
        (1, 4),
    ),
    "convolutions that start from ones, zeros": (
        [
            Ones(Conv1d(1, 2, 3, padding=1, bias=False)),
            Mask(Conv1d(1, 2, 3, padding=1)),
            Conv1d(2, 2, 3, padding=1),
            Mask(Conv1d(1, 2, 3, padding=1)),
            GAP1,
            Flatten(),
            Linear(2, 1),
        ],
        (1, 6),
    ),
    "pixels that start from ones, flattened": (
        [
            Ones(Conv2d(1, 2, 3, padding=1, bias=False)),
            Mask(Conv2d(1, 2, 3, padding=1)),
            Flatten(),
            Linear(24, 1),
        ],
        (1, 4, 3),
    ),
    "one value twice, gated once": ([Linear(3, 4), relu(), Add(1), relu(), Linear(4, 2)], (3,)),
    "residual convolution": (
        [
            Conv1d(2, 2, 3, padding=1),
            relu(),
            BatchNorm1d(2),
            Conv1d(2, 2, 3, padding=1),
            Add(3),
            relu(),
            circular(2, 2),
            Add(2),
            relu(),
            GAP1,
            Flatten(),
            Linear(2, 1),
        ],
        (2, 4),
    ),
    "joined channels": (
        [
            Conv1d(1, 2, 3, padding=1),
            relu(),
            Conv1d(2, 1, 3, padding=1),
            relu(),
            Join(2),
            Conv1d(3, 2, 1),
            relu(),
            GAP1,
            Flatten(),
            Linear(2, 1),
        ],
        (1, 4),
    ),
    "joined with its own gate": (
        [Linear(3, 3), relu(), Join(1), Linear(6, 2), relu(), Linear(2, 1)],
        (3,),
    ),
    "gates of another network": (
        [Linear(3, 4), Mask(tower(3, 5, 4)), Linear(4, 4), Mask(Linear(3, 4)), Linear(4, 1)],
        (3,),
    ),
    "convolutions gated by convolutions": (
        [
            circular(1, 2),
            Mask(circular(1, 2)),
            circular(2, 2),
            Mask(circular(1, 2)),
            GAP1,
            Flatten(),
            Linear(2, 1),
        ],
        (1, 4),
    ),
}
