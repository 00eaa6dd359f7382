"""Makes the pictures of bilinear layers in the docs: logic gates, and digits of a published net.

python docs/make_bilinear_pictures.py     # writes docs/_static/bilinear_*.png

The digits need the data folder (GATEWISE_DATA, or ../shared/data); without it they are left as is.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import nn

import gatewise as gw
from gatewise.show.bilinear import plots as bilinear_plots
from gatewise.show.bilinear.facts import Asked, bilinear
from gatewise.show.results import save_figure

STATIC = Path(__file__).parent / "_static"
DATA = Path(os.environ.get("GATEWISE_DATA") or STATIC.parents[2] / "shared" / "data")


class Layer(nn.Module):
    """head(left(e) * right(e)) (+ head(e)), e = embed(x), of arrays (weight, bias)."""

    def __init__(self, left, right, head, embed=None, residual: bool = False) -> None:
        super().__init__()
        self.left, self.right, self.head = (linear(*pair) for pair in (left, right, head))
        self.embed = nn.Identity() if embed is None else linear(embed)
        self.residual = residual

    def forward(self, x):
        e = self.embed(x)
        z = self.left(e) * self.right(e)
        return self.head(z + e if self.residual else z)


def linear(weight, bias=None) -> nn.Linear:
    weight = torch.tensor(np.asarray(weight), dtype=torch.float64)
    found = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None).double()
    found.weight.data = weight
    if bias is not None:
        found.bias.data = torch.tensor(bias, dtype=torch.float64)
    return found


def gates() -> None:
    """AND, XOR and XNOR of docs/tutorial/bilinear-by-hand.md: their matrices."""
    left = [[1, 0], [1, -1], [1, 0], [0, 1]], [0, 0, 0, 0]
    right = [[0, 1], [1, -1], [0, -1], [-1, 0]], [0, 0, 1, 1]
    head = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, -1]], [0, 0, 1]
    net = gw.read(
        Layer(left, right, head),
        torch.zeros(1, 2).double(),
        feature_names=["a", "b"],
        output_names=["AND", "XOR", "XNOR"],
    )
    figure = bilinear_plots.interactions(bilinear(net))
    save_figure(figure, STATIC / "bilinear_gates.png", dpi=120)


def digits() -> None:
    """Eigenvectors of three digits of the published MNIST network, over its own pixels."""
    file = DATA / "bilinear/bilinear_mnist_1layer/gaussian_0.15.npz"
    if not file.exists():
        print(f"{file} is missing: bilinear_digits.png is left as it is")
        return
    held = np.load(file)
    left, right = np.split(held["blocks.0.weight"], 2)
    sides = (left,), (right,), (held["head.weight"],)
    net = gw.read(
        Layer(*sides, embed=held["embed.weight"], residual=True),
        torch.zeros(1, 784).double(),
        output_names=[f"digit {d}" for d in range(10)],
    )
    found = bilinear(net, asked=Asked(outputs=("1", "4", "5"), image=(28, 28)))
    save_figure(bilinear_plots.eigenvectors(found), STATIC / "bilinear_digits.png", dpi=110)


if __name__ == "__main__":
    STATIC.mkdir(exist_ok=True)
    gates()
    digits()
