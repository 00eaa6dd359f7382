"""Small random networks built from the kinds alone, so that rooms are tested without a reader."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import strategies as st

from gatewise.ir.kinds import Affine, Kind, Pieces, Product, Winner
from gatewise.ir.network import Network, Node

F64 = torch.float64


def dense(w, x):
    return F.linear(x, w)


def add(a, b, x, y):
    return a * x + b * y


def times(u, v):
    return u * v


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=F64)


GATES: dict[str, Kind] = {
    "relu": Pieces(tensor(0), tensor(0, 1), tensor(0, 0), (False,), F.relu),
    "leaky": Pieces(tensor(0), tensor(0.1, 1), tensor(0, 0), (False,)),
    "hardtanh": Pieces(tensor(-1, 1), tensor(0, 1, 0), tensor(-1, 0, 1), (False, True)),
    "abs": Pieces(tensor(0), tensor(-1, 1), tensor(0, 0), (False,)),
    "step": Pieces(tensor(0), tensor(0, 0), tensor(0, 1), (False,)),
}


class Chain:
    """Adds nodes one after another; `at` is the name of the last one."""

    def __init__(self, inputs: int, seed: int = 0) -> None:
        self.inputs, self.nodes, self.at = inputs, [], "input"
        self.rng = torch.Generator().manual_seed(seed)

    @property
    def width(self) -> int:
        return self.nodes[-1].shape[0] if self.nodes else self.inputs

    def random(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.rng, dtype=F64)

    def put(self, kind: Kind, *inputs: str, shape: tuple[int, ...] | None = None) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(
            Node(name, type(kind).__name__, kind, inputs or (self.at,), shape or (self.width,))
        )
        self.at = name
        return name

    def linear(self, out: int, bias: bool = True, source: str | None = None) -> str:
        source = source or self.at
        width = (
            self.inputs
            if source == "input"
            else next(n for n in self.nodes if n.name == source).shape[0]
        )
        w = self.random(out, width) / width**0.5
        kind = Affine(dense, (w,), self.random(out) / 2 if bias else None, width, out)
        return self.put(kind, source, shape=(out,))

    def gate(self, name: str) -> str:
        return self.put(GATES[name])

    def maxout(self, groups: int) -> str:
        index = torch.arange(self.width).reshape(groups, -1)
        return self.put(Winner(index), shape=(groups,))

    def skip(self, other: str) -> str:
        return self.put(Affine(add, (tensor(1.0), tensor(-1.0)), None, 2, 1), self.at, other)

    def product(self, other: str) -> str:
        return self.put(Product(times), self.at, other)

    def network(self) -> Network:
        return Network(tuple(self.nodes), (self.inputs,), self.at)


def mlp(*sizes: int, gate: str = "relu", seed: int = 0, bias: bool = True) -> Network:
    chain = Chain(sizes[0], seed)
    for width in sizes[1:-1]:
        chain.linear(width, bias)
        chain.gate(gate)
    chain.linear(sizes[-1], bias)
    return chain.network()


def mixed(seed: int = 0) -> Network:
    """Residual, maxout, a three-piece gate, and a DLGN block: a step of one path times another."""
    chain = Chain(4, seed)
    chain.linear(6)
    first = chain.gate("relu")
    chain.linear(6)
    chain.gate("hardtanh")
    chain.skip(first)
    values = chain.linear(12)
    chain.maxout(4)
    pooled = chain.at
    chain.linear(4, source="input")
    chain.gate("step")
    chain.product(pooled)
    chain.linear(3)
    assert values
    return chain.network()


@st.composite
def networks(draw) -> Network:
    """MLPs of any small shape and gate, and the mixed one."""
    seed = draw(st.integers(0, 10_000))
    if draw(st.booleans()):
        return mixed(seed)
    sizes = draw(st.lists(st.integers(1, 7), min_size=2, max_size=5))
    gate = draw(st.sampled_from(["relu", "leaky", "hardtanh", "abs"]))
    return mlp(*sizes, gate=gate, seed=seed, bias=draw(st.booleans()))


def rows(network: Network, n: int = 9, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, network.inputs, generator=torch.Generator().manual_seed(seed), dtype=F64)
