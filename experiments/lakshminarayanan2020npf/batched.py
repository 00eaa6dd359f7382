"""Networks of one shape trained side by side: forward and backward written out, one flat tensor.

y = W_d m_{d-1}(W_{d-1} ... m_1(W_1 x + b_1) ...) + b_d for every network of the batch at once
(torch.baddbmm), softmax cross-entropy, gradients into preallocated buffers, one fused Adam step.
The mask m_l of a hidden layer is what the regimes differ in:

`Own`        m = 1{u > 0} of the layer's own pre-activations u: a ReLU network
`Frozen`     m is given with the batch (a frozen feature network's gates, looked up by row)
`Decoupled`  m = (1 + epsilon) sigmoid(beta q), q of a feature ReLU network that is trained too

No autograd: at 32 rows and width 128 its bookkeeping costs more than the products.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

BETA, EPSILON = 4.0, 0.1


@dataclass(frozen=True, eq=False)
class Flat:
    """One tensor and its views: a tower's weights (nets, in, out) and biases (nets, 1, out)."""

    data: Tensor
    weights: list[list[Tensor]]
    biases: list[list[Tensor]]


def flat(towers: list[tuple[int, ...]], nets: int, dtype: torch.dtype) -> Flat:
    """Zeros for every tower of sizes (in, w, ..., out)."""
    pairs = [list(pairwise(sizes)) for sizes in towers]
    total = sum(nets * (a + 1) * b for tower in pairs for a, b in tower)
    data, at = torch.zeros(total, dtype=dtype), 0
    weights: list[list[Tensor]] = [[] for _ in towers]
    biases: list[list[Tensor]] = [[] for _ in towers]
    for k, tower in enumerate(pairs):
        for a, b in tower:
            weights[k].append(data[at : at + nets * a * b].view(nets, a, b))
            at += nets * a * b
            biases[k].append(data[at : at + nets * b].view(nets, 1, b))
            at += nets * b
    return Flat(data, weights, biases)


def glorot(sizes: tuple[int, ...], seed: int) -> list[Tensor]:
    """Weights (in, out) uniform in +-sqrt(6 / (in + out)), in float64; biases start at 0."""
    draw = torch.Generator().manual_seed(seed)
    found = []
    for a, b in pairwise(sizes):
        limit = math.sqrt(6 / (a + b))
        found.append((2 * torch.rand(a, b, generator=draw, dtype=torch.float64) - 1) * limit)
    return found


class Nets:
    """`nets` networks: parameters, gradients, buffers for `batch` rows; `gates` fills the masks."""

    def __init__(
        self, sizes: tuple[int, ...], nets: int, batch: int, dtype: torch.dtype = torch.float32
    ) -> None:
        self.sizes, self.nets, self.batch, self.dtype = tuple(sizes), nets, batch, dtype
        self.params, self.grads = (flat(self.towers(), nets, dtype) for _ in range(2))
        self.allocate(batch)

    def towers(self) -> list[tuple[int, ...]]:
        """The sizes of the value network, then of a feature network if there is one."""
        return [self.sizes]

    def buffers(self, sizes: tuple[int, ...]) -> list[Tensor]:
        """One (nets, rows, size) buffer a size."""
        return [torch.zeros(self.nets, self.rows, size, dtype=self.dtype) for size in sizes]

    def allocate(self, rows: int) -> None:
        """Buffers for that many rows: pre-activations u, masks m, values h, their gradients d."""
        self.rows, hidden = rows, self.sizes[1:-1]
        self.u, self.m, self.h, self.d = (self.buffers(hidden) for _ in range(4))
        self.logits = torch.zeros(self.nets, rows, self.sizes[-1], dtype=self.dtype)

    def start(self, net: int, weights: list[Tensor], tower: int = 0) -> None:
        """Give one network's tower its weights; biases 0."""
        for view, given in zip(self.params.weights[tower], weights, strict=True):
            view[net].copy_(given)
        for view in self.params.biases[tower]:
            view[net].zero_()

    def gates(self, x: Tensor) -> None:
        """Before the value network: masks that do not depend on it."""

    def gate(self, layer: int) -> None:
        """Masks of a layer from its own pre-activations."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits (nets, rows, out) of x (nets, rows, in)."""
        self.gates(x)
        weights, biases = self.params.weights[0], self.params.biases[0]
        h = x
        for k, (u, m, out) in enumerate(zip(self.u, self.m, self.h, strict=True)):
            torch.baddbmm(biases[k], h, weights[k], out=u)
            self.gate(k)
            h = torch.mul(u, m, out=out)
        return torch.baddbmm(biases[-1], h, weights[-1], out=self.logits)

    def backward(self, x: Tensor, target: Tensor) -> None:
        """Gradients of the mean cross-entropy; target (nets, rows, out) one-hot."""
        d = torch.softmax(self.logits, -1).sub_(target).mul_(1 / self.rows)
        weights, grads = self.params.weights[0], self.grads
        for k in range(len(weights) - 1, -1, -1):
            h = self.h[k - 1] if k else x
            torch.bmm(h.transpose(1, 2), d, out=grads.weights[0][k])
            torch.sum(d, 1, keepdim=True, out=grads.biases[0][k])
            if k:
                torch.bmm(d, weights[k].transpose(1, 2), out=self.d[k - 1])
                self.ungate(k - 1)
                d = self.d[k - 1]

    def ungate(self, layer: int) -> None:
        """d of a layer's masked values becomes d of its pre-activations."""
        self.d[layer].mul_(self.m[layer])


class Own(Nets):
    """ReLU networks."""

    def gate(self, layer: int) -> None:
        torch.gt(self.u[layer], 0, out=self.m[layer])


class Frozen(Nets):
    """Masks given: `look_up` copies them from one byte a gate, (nets, rows, all gates)."""

    def look_up(self, bits: Tensor) -> None:
        at = 0
        for m in self.m:
            m.copy_(bits[..., at : at + m.shape[-1]])
            at += m.shape[-1]


class Decoupled(Nets):
    """Soft gates (1 + epsilon) sigmoid(beta q) of a feature network of hard ReLUs, both trained."""

    def towers(self) -> list[tuple[int, ...]]:
        return [self.sizes, self.sizes[:-1]]

    def allocate(self, rows: int) -> None:
        super().allocate(rows)
        hidden = self.sizes[1:-1]
        self.q, self.f, self.dq, self.slope = (self.buffers(hidden) for _ in range(4))

    def gates(self, x: Tensor) -> None:
        """q_l, f_l = relu(q_l), m_l, and m's slope beta m (1 - sigmoid)."""
        weights, biases = self.params.weights[1], self.params.biases[1]
        f = x
        for k, (q, out, m) in enumerate(zip(self.q, self.f, self.m, strict=True)):
            torch.baddbmm(biases[k], f, weights[k], out=q)
            f = torch.clamp_min(q, 0, out=out)
            torch.mul(q, BETA, out=m).sigmoid_()
            torch.mul(m, m, out=self.slope[k]).neg_().add_(m).mul_((1 + EPSILON) * BETA)
            m.mul_(1 + EPSILON)

    def ungate(self, layer: int) -> None:
        torch.mul(self.d[layer], self.u[layer], out=self.dq[layer]).mul_(self.slope[layer])
        super().ungate(layer)

    def backward(self, x: Tensor, target: Tensor) -> None:
        """The value network's gradients, then the feature network's."""
        super().backward(x, target)
        weights, grads = self.params.weights[1], self.grads
        for k in range(len(weights) - 1, -1, -1):
            f, d = (self.f[k - 1] if k else x), self.dq[k]
            torch.bmm(f.transpose(1, 2), d, out=grads.weights[1][k])
            torch.sum(d, 1, keepdim=True, out=grads.biases[1][k])
            if k:
                back = torch.bmm(d, weights[k].transpose(1, 2), out=self.h[k - 1])
                self.dq[k - 1].add_(back.mul_(torch.gt(self.q[k - 1], 0, out=self.u[k - 1])))


@torch.no_grad()
def hard_gates(weights: list[Tensor], biases: list[Tensor], x: Tensor) -> Tensor:
    """(rows, gates of all layers) bytes: 1 where a ReLU network's hidden unit is on.

    weights (in, out) and biases (out) of its hidden layers; x (rows, in).
    """
    found, h = [], x
    for w, b in zip(weights, biases, strict=True):
        q = torch.addmm(b.reshape(-1), h, w)
        found.append(q > 0)
        h = q.clamp_min(0)
    return torch.cat(found, 1).to(torch.uint8)
