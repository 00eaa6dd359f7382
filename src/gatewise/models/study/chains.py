"""f(x) = W_L (.. W_2 (W_1 x + b_1) + b_2 ..) + b_L: many linear chains of one shape, and starts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Generator, Tensor

from gatewise.errors import ModelError
from gatewise.models.checks import whole
from gatewise.models.weights import generator

ChainInit = Literal["default", "identity", "xavier", "orthogonal", "balanced"]


@dataclass(frozen=True, eq=False)
class Chains:
    """B chains of one shape: weights[l] (B, out, in); biases[l] (B, out), or None without bias."""

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...] | None

    @classmethod
    def draw(
        cls,
        count: int,
        depth: int,
        inputs: int = 1,
        width: int = 1,
        outputs: int = 1,
        bias: bool = True,
        *,
        init: ChainInit = "default",
        seed: int | None = None,
    ) -> Chains:
        """`count` chains of `depth` layers, `width` units between them, float64.

        default: as torch's Linear, uniform in +-1/sqrt(in), biases too. The others start biases
        at 0. identity: ones on the diagonal; xavier: uniform, variance 2 / (in + out); orthogonal:
        orthonormal rows or columns; balanced: U S^(1/L), S^(1/L), .., S^(1/L) V' for a map
        U S V' of xavier's entries, so that W_{l+1}' W_{l+1} = W_l W_l'. seed None: torch's global
        generator.
        """
        for name, value in (("count", count), ("depth", depth), ("inputs", inputs),
                            ("width", width), ("outputs", outputs)):  # fmt: skip
            if not whole(value, 1):
                raise ModelError(f"`{name}` is a whole number from 1, and it is {value!r}")
        if init not in INITS:
            names = ", ".join(f"'{name}'" for name in get_args(ChainInit))
            raise ModelError(f"there is no initialisation {init!r}: choose one of {names}")
        sizes = (inputs, *[width] * (depth - 1), outputs)
        rng = generator(seed)
        weights, biases = INITS[init](count, sizes, rng)
        return cls(weights, biases if bias else None)

    def __len__(self) -> int:
        return len(self.weights[0])

    def __getitem__(self, cases: slice) -> Chains:
        biases = None if self.biases is None else tuple(b[cases] for b in self.biases)
        return Chains(tuple(w[cases] for w in self.weights), biases)

    @property
    def depth(self) -> int:
        """L."""
        return len(self.weights)

    @property
    def sizes(self) -> tuple[int, ...]:
        """(inputs, width, .., width, outputs)."""
        return (self.weights[0].shape[2], *(w.shape[1] for w in self.weights))

    def tensors(self) -> list[Tensor]:
        """The weights, then the biases."""
        return [*self.weights, *(self.biases or ())]

    def repeat(self, times: int) -> Chains:
        """The same chains `times` over, end to end."""
        return self.like([t.repeat(times, *[1] * (t.dim() - 1)) for t in self.tensors()])

    def like(self, tensors: list[Tensor]) -> Chains:
        """Chains of this shape from other weights and biases."""
        biases = None if self.biases is None else tuple(tensors[self.depth :])
        return Chains(tuple(tensors[: self.depth]), biases)

    def map(self) -> tuple[Tensor, Tensor]:
        """M (B, outputs, inputs) and C (B, outputs) with f(x) = M x + C."""
        count, inputs = len(self), self.sizes[0]
        M = torch.eye(inputs, dtype=torch.float64).expand(count, inputs, inputs)
        C = torch.zeros(count, inputs, 1, dtype=torch.float64)
        for layer, weight in enumerate(self.weights):
            M, C = weight @ M, weight @ C
            if self.biases is not None:
                C = C + self.biases[layer][:, :, None]
        return M, C[..., 0]

    def imbalance(self) -> Tensor:
        """(B,) the largest |W_{l+1}' W_{l+1} - W_l W_l' - b_l b_l'| over l, in Frobenius norm.

        Gradient flow keeps each of these matrices as it is (Arora et al. 2018, with biases); what
        it changes in a run is due to the finite step. 0 for a single layer.
        """
        worst = torch.zeros(len(self), dtype=torch.float64)
        for layer, (first, second) in enumerate(pairwise(self.weights)):
            kept = second.mT @ second - first @ first.mT
            if self.biases is not None:
                b = self.biases[layer]
                kept = kept - b[:, :, None] * b[:, None]
            worst = torch.maximum(worst, kept.norm(dim=(1, 2)))
        return worst


Layers = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]


def _uniform(shape: tuple[int, ...], bound: float, rng: Generator | None) -> Tensor:
    drawn = torch.rand(shape, generator=rng, dtype=torch.float64)
    return drawn.mul_(2 * bound).sub_(bound)


def _default(count: int, sizes: tuple[int, ...], rng: Generator | None) -> Layers:
    weights, biases = [], []
    for n, m in pairwise(sizes):
        weights.append(_uniform((count, m, n), 1 / math.sqrt(n), rng))
        biases.append(_uniform((count, m), 1 / math.sqrt(n), rng))
    return tuple(weights), tuple(biases)


def _xavier(count: int, n: int, m: int, rng: Generator | None) -> Tensor:
    return _uniform((count, m, n), math.sqrt(6 / (n + m)), rng)


def _identity(count: int, n: int, m: int, rng: Generator | None) -> Tensor:
    return torch.eye(m, n, dtype=torch.float64).repeat(count, 1, 1)


def _orthogonal(count: int, n: int, m: int, rng: Generator | None) -> Tensor:
    """Q of a normal matrix, its signs those that make Q uniform."""
    tall = torch.randn(count, max(n, m), min(n, m), generator=rng, dtype=torch.float64)
    q, r = torch.linalg.qr(tall)
    q = q * torch.sign(r.diagonal(dim1=1, dim2=2))[:, None]
    turned: Tensor = q if m >= n else q.mT
    return turned.contiguous()


def _layer_by_layer(draw: Callable[[int, int, int, Generator | None], Tensor]) -> Starter:
    def start(count: int, sizes: tuple[int, ...], rng: Generator | None) -> Layers:
        return tuple(draw(count, n, m, rng) for n, m in pairwise(sizes)), _zeros(count, sizes)

    return start


def _zeros(count: int, sizes: tuple[int, ...]) -> tuple[Tensor, ...]:
    return tuple(torch.zeros(count, m, dtype=torch.float64) for m in sizes[1:])


def _balanced(count: int, sizes: tuple[int, ...], rng: Generator | None) -> Layers:
    """Left S^(1/L) Right, where only the first Right and the last Left are not the identity."""
    u, s, v = torch.linalg.svd(_xavier(count, sizes[0], sizes[-1], rng), full_matrices=False)
    k, depth = min(sizes), len(sizes) - 1  # a narrow chain keeps the largest k
    root = s[:, :k, None] ** (1 / depth)
    weights = []
    for layer, (n, m) in enumerate(pairwise(sizes)):
        left = u[:, :, :k] if layer == depth - 1 else torch.eye(m, k, dtype=torch.float64)
        right = v[:, :k] if layer == 0 else torch.eye(k, n, dtype=torch.float64)
        weights.append(left @ (root * right))
    return tuple(weights), _zeros(count, sizes)


Starter = Callable[[int, tuple[int, ...], Generator | None], Layers]
INITS: dict[str, Starter] = {
    "default": _default,
    "identity": _layer_by_layer(_identity),
    "xavier": _layer_by_layer(_xavier),
    "orthogonal": _layer_by_layer(_orthogonal),
    "balanced": _balanced,
}
