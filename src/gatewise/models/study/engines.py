"""The gradient of the loss by every weight of B chains, through the map M x + C they make.

With H_l = W_l H_{l-1} + b_l e' (H_0 = [I, 0]: a layer's own map) and T_L = [dloss/dM, dloss/dC],
T_{l-1} = W_l' T_l:  dloss/dW_l = T_l H_{l-1}'  and  dloss/db_l = the last column of T_l.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from gatewise.models.study.chains import Chains
from gatewise.models.study.moments import Bowl


class Engine(Protocol):
    """Weights in one tensor `values`, their gradient in `grad`; `per_case` shapes (B,) for them."""

    values: Tensor
    grad: Tensor

    def differentiate(self) -> None:
        """Fill `grad` at `values`."""

    def chains(self) -> Chains:
        """The chains as they are now; they share no memory with `values`."""

    def per_case(self, numbers: Tensor) -> Tensor:
        """(B,) numbers so that they multiply `values`."""

    def sizes(self) -> Tensor:
        """(B,) the Euclidean norm of each case's gradient."""


def engine(start: Chains, bowl: Bowl) -> Engine:
    """The fast one for scalar chains, the general one for all others."""
    return Scalar(start, bowl) if set(start.sizes) == {1} else Wide(start, bowl)


class Scalar:
    """Chains of numbers, h_l = m_l h_{l-1} + b_l: values (2 or 1, L, B), the cases innermost.

    Every step is 4 L + 12 vector operations on arrays that stay in the cache.
    """

    def __init__(self, start: Chains, bowl: Bowl) -> None:
        self.start, depth, count = start, start.depth, len(start)
        parts = [start.weights, *([start.biases] if start.biases else [])]
        self.values = torch.stack([torch.stack([t.reshape(-1) for t in p]) for p in parts])
        self.grad = torch.empty_like(self.values)
        self.slope, self.intercept = bowl.slope[:, 0, 0].clone(), bowl.intercept[:, 0].clone()
        self.xx, self.mean = 2 * bowl.xx[:, 0, 0], bowl.mean[:, 0].clone()
        self.q, self.c, self.s = (self.values.new_zeros(depth + 1, count) for _ in range(3))
        self.q[0] = self.s[depth] = 1  # slopes up to a layer; of what follows it
        self.rows = [list(t) for t in (*self.values, self.q, self.c, self.s)]
        self.off, self.shift, self.first, self.last = self.values.new_empty(4, count)

    def differentiate(self) -> None:
        """Forward: slopes q and intercepts c; backward: suffix products s; then all at once."""
        depth, off, shift, first, last = (
            self.start.depth, self.off, self.shift, self.first, self.last,
        )  # fmt: skip
        m, *b, q, c, s = self.rows
        for k in range(depth):
            torch.mul(m[k], q[k], out=q[k + 1])
            if b:
                torch.addcmul(b[0][k], m[k], c[k], out=c[k + 1])
        for k in range(depth - 1, 0, -1):
            torch.mul(s[k + 1], m[k], out=s[k])
        torch.sub(q[depth], self.slope, out=off)
        torch.sub(c[depth], self.intercept, out=shift)
        shift.addcmul_(off, self.mean)
        torch.add(shift, shift, out=last)  # dloss/dC
        torch.mul(off, self.xx, out=first).addcmul_(last, self.mean)  # dloss/dM
        torch.mul(self.q[:depth], first, out=self.grad[0])
        if b:
            self.grad[0].addcmul_(self.c[:depth], last)
            torch.mul(self.s[1:], last, out=self.grad[1])
        self.grad[0].mul_(self.s[1:])

    def chains(self) -> Chains:
        """As `Engine` says."""
        layers = [layer.clone() for part in self.values for layer in part]
        depth = self.start.depth
        shaped = [t[:, None, None] for t in layers[:depth]] + [t[:, None] for t in layers[depth:]]
        return self.start.like(shaped)

    def per_case(self, numbers: Tensor) -> Tensor:
        """(B,): cases are the last axis."""
        return numbers

    def sizes(self) -> Tensor:
        """(B,)."""
        return self.grad.square().sum((0, 1)).sqrt()


class Wide:
    """Chains of any width: values (B, parameters), a batched matrix product a layer each way."""

    def __init__(self, start: Chains, bowl: Bowl) -> None:
        self.start, self.bowl = start, bowl
        self.values = torch.cat([t.flatten(1) for t in start.tensors()], 1)
        self.grad = torch.zeros_like(self.values)
        self.parts, self.grads = (start.like(self._split(t)) for t in (self.values, self.grad))
        inputs = start.sizes[0]
        self.first = torch.eye(inputs, inputs + 1, dtype=torch.float64).repeat(len(start), 1, 1)

    def _split(self, flat: Tensor) -> list[Tensor]:
        shapes = [t.shape for t in self.start.tensors()]
        pieces = flat.split([s[1:].numel() for s in shapes], 1)
        return [p.view(s) for p, s in zip(pieces, shapes, strict=True)]

    def differentiate(self) -> None:
        """As the file says; `H` ends in a column of intercepts."""
        weights, biases = self.parts.weights, self.parts.biases
        grads, shifts = self.grads.weights, self.grads.biases
        H = [self.first]
        for layer, weight in enumerate(weights):
            H.append(torch.bmm(weight, H[-1]))
            if biases is not None:
                H[-1][..., -1] += biases[layer]
        by_slope, by_intercept = self.bowl.gradient(H[-1][..., :-1], H[-1][..., -1])
        T = torch.cat([by_slope, by_intercept[..., None]], 2)
        for layer in reversed(range(len(weights))):
            grads[layer].copy_(torch.bmm(T, H[layer].mT))
            if shifts is not None:
                shifts[layer].copy_(T[..., -1])
            if layer:
                T = torch.bmm(weights[layer].mT, T)

    def chains(self) -> Chains:
        """As `Engine` says."""
        return self.start.like([t.clone() for t in self.parts.tensors()])

    def per_case(self, numbers: Tensor) -> Tensor:
        """(B, 1): cases are the first axis."""
        return numbers[:, None]

    def sizes(self) -> Tensor:
        """(B,)."""
        return self.grad.square().sum(1).sqrt()
