"""Least squares for `distill`: half-spaces of the input, the nodes they become, new weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gatewise.dual.gating import Site
from gatewise.ir.kinds import Affine, Pieces, Product
from gatewise.ir.network import INPUT, Network, Node, checked, fold
from gatewise.linear.collapse import by_columns

CUTOFF = 1e-10  # directions of the inputs with less of the largest variance carry nothing
PULL = 1e-6  # of the mean second moment: how firmly refitted weights keep to the trained ones


# -- least squares on the inputs --


@dataclass(frozen=True, eq=False)
class Inputs:
    """Second moments of the rows x, each input centred and in units of its range, decomposed.

    root (d, rank): eigenvectors over the root of (eigenvalue + ridge), so root root^T is the
    inverse that ridge regression takes; ridge in units of the mean eigenvalue.
    """

    x: Tensor
    mean: Tensor
    scale: Tensor
    root: Tensor

    @classmethod
    def of(cls, x: Tensor, ridge: float, batch: int) -> Inputs:
        """One pass over the rows, one decomposition for every gate."""
        flat = x.flatten(1)
        mean, scale = flat.mean(0), flat.amax(0) - flat.amin(0)
        scale = torch.where(scale > 0, scale, torch.inf)
        moment = flat.new_zeros(flat.shape[1], flat.shape[1])
        for part in flat.split(batch):
            moment.addmm_((part - mean).T, part - mean)
        values, vectors = torch.linalg.eigh(moment / torch.outer(scale, scale))
        kept = values > CUTOFF * values[-1]
        added = ridge * values.clamp(min=0).mean()
        return cls(x, mean, scale, vectors[:, kept] / (values[kept] + added).sqrt())

    @property
    def rank(self) -> int:
        """Dimensions that the rows span."""
        return self.root.shape[1]

    def notes(self) -> tuple[str, ...]:
        """What a reader should know about the fit."""
        if self.rank == len(self.mean):
            return ()
        return (
            f"the inputs span {self.rank} of {len(self.mean)} dimensions over these rows: the "
            f"half-spaces are the shortest that fit",
        )

    def fit(self, parts: Iterator[tuple[slice, list[Tensor]]]) -> list[tuple[Tensor, Tensor]]:
        """(U (w, d), b (w,)) with U x + b the least squares fit of each value (rows, w)."""
        products: list[Tensor] = []
        sums: list[Tensor] = []
        flat = self.x.flatten(1)
        for rows, values in parts:
            z = torch.cat([v.flatten(1) for v in values], 1)
            products = [((flat[rows] - self.mean).T @ z) + (products[0] if products else 0)]
            sums = [z.sum(0) + (sums[0] if sums else 0)]
            widths = [v.flatten(1).shape[1] for v in values]
        inside = self.root.T @ (products[0] / self.scale[:, None])
        u = (self.root @ inside / self.scale[:, None]).T
        b = sums[0] / len(flat) - u @ self.mean
        return list(zip(u.split(widths), b.split(widths), strict=True))


def planes_of(
    network: Network, sites: Sequence[Site], inputs: Inputs, batch: int
) -> list[tuple[Tensor, Tensor]]:
    """(U, b) of each site: as it is where no gate stands before it, else by least squares."""
    names = [decided(network, s) for s in sites]
    known = {name: plane for name in names if (plane := _affine(network, name)) is not None}
    open_ = [name for name in names if name not in known]
    if open_:
        found = inputs.fit(streamed(network, open_, inputs.x, batch))
        known |= dict(zip(open_, found, strict=True))
    return [known[name] for name in names]


def _affine(network: Network, name: str) -> tuple[Tensor, Tensor] | None:
    """(U, b) of a value that is U x + b exactly, everywhere."""
    needed, nodes = {name}, []
    for node in reversed(network.nodes):
        if node.name in needed:
            if not isinstance(node.kind, Affine):
                return None
            needed.update(node.inputs)
            nodes.append(node)
    u, b = by_columns(dataclasses.replace(network, nodes=tuple(nodes[::-1]), output=name))
    return u[0], b[0]


def streamed(
    network: Network, names: list[str], x: Tensor, batch: int
) -> Iterator[tuple[slice, list[Tensor]]]:
    """The named values of a network, a batch of rows at a time."""
    for start in range(0, len(x), batch):
        rows = slice(start, min(start + batch, len(x)))
        part = x[rows]
        values = fold(network, part, lambda node, xs: node.kind(*xs), keep=set(names) - {INPUT})
        yield rows, [part if name == INPUT else values[name] for name in names]


# -- the network with its gates replaced --


def decided(network: Network, site: Site) -> str:
    """The name of the value whose sign the gate is."""
    return network.node(site.gate).inputs[0]


def replaced(
    network: Network, sites: Sequence[Site], planes: list[tuple[Tensor, Tensor]]
) -> Network:
    """Affine (U x + b), step, product, in the place of each site's gate."""
    new: dict[str, list[Node]] = {}
    for site, (u, b) in zip(sites, planes, strict=True):
        new[site.gate] = _site_nodes(network, site, u, b)
    nodes = [n for node in network.nodes for n in new.get(node.name, [node])]
    needed = {network.output}
    for node in reversed(nodes):
        if node.name in needed:
            needed.update(node.inputs)
    kept = tuple(n for n in nodes if n.name in needed)
    return checked(dataclasses.replace(network, nodes=kept))


def _site_nodes(network: Network, site: Site, u: Tensor, b: Tensor) -> list[Node]:
    gate = network.node(site.gate)
    kind = gate.kind
    assert isinstance(kind, Pieces)
    plane, back = _HalfSpaces(network.shape(decided(network, site))), _Back(network.input_shape)
    affine = Affine(plane, (u,), b.reshape(plane.shape), u.shape[1], u.shape[0], back)
    above = Node(f"{site.gate}.plane", "Half-spaces", affine, (INPUT,), plane.shape)
    if kind.constant:  # a step already: it looks at the plane
        return [above, dataclasses.replace(gate, inputs=(above.name,))]
    table = torch.tensor(site.table, dtype=u.dtype).reshape(-1, *[1] * (kind.slopes.ndim - 1))
    step = Pieces(kind.knots, torch.zeros_like(table), table, kind.closed)
    below = Node(f"{site.gate}.step", "Step", step, (above.name,), plane.shape)
    product = Product(torch.mul)
    return [above, below, Node(gate.name, "Product", product, (site.value, below.name), gate.shape)]


@dataclass(frozen=True)
class _HalfSpaces:
    """U x over all the inputs, in the shape of a gate layer."""

    shape: tuple[int, ...]

    def __call__(self, u: Tensor, x: Tensor) -> Tensor:
        return (x.flatten(1) @ u.T).reshape(len(x), *self.shape)


@dataclass(frozen=True)
class _Back:
    """g U: the transpose of `_HalfSpaces`."""

    shape: tuple[int, ...]

    def __call__(self, u: Tensor, g: Tensor) -> tuple[Tensor, ...]:
        return ((g.flatten(1) @ u).reshape(len(g), *self.shape),)


# -- refitted weights --


def refitted(
    network: Network, made: Network, sites: Sequence[Site], x: Tensor, batch: int
) -> tuple[Network, tuple[str, ...]]:
    """Each dense layer behind a replaced gate, in order, fitted to its values when trained."""
    behind = _behind(made, {s.at for s in sites})
    names = [n.name for n in made.nodes if n.name in behind and _is_dense(n)]
    for name in names:
        made = _refitted_layer(network, made, name, x, batch)
    return made, tuple(names)


def _behind(network: Network, start: set[str]) -> set[str]:
    found = set(start)
    for node in network.nodes:
        if found.intersection(node.inputs):
            found.add(node.name)
    return found


def _is_dense(node: Node) -> bool:
    kind = node.kind
    return isinstance(kind, Affine) and kind.taps is not None and kind.weights[0].ndim == 2


def _refitted_layer(network: Network, made: Network, name: str, x: Tensor, batch: int) -> Network:
    """min |h W^T + c - z|^2 + ridge |W - W_0|^2, h as it is now, z as it is when trained."""
    node = made.node(name)
    kind = node.kind
    assert isinstance(kind, Affine) and kind.taps is not None
    w = kind.weights[0]
    size = w.shape[1] + (kind.bias is not None)
    moment, product = w.new_zeros(size, size), w.new_zeros(size, len(w))
    source = node.inputs[0]
    now, then = streamed(made, [source], x, batch), streamed(network, [name], x, batch)
    for (_, (h,)), (_, (z,)) in zip(now, then, strict=True):
        taps = kind.taps(h).mT.flatten(0, 1)
        ones = [taps.new_ones(len(taps), 1)] if kind.bias is not None else []
        inside = torch.cat([taps, *ones], 1)
        gap = (kind.taps.units(z) - kind.taps.units(kind(h))).mT.flatten(0, 1)
        moment.addmm_(inside.T, inside)
        product.addmm_(inside.T, gap)
    moment.diagonal().add_(PULL * float(moment.diagonal().mean()) + 1e-300)
    change = torch.cholesky_solve(product, torch.linalg.cholesky(moment)).T
    bias = kind.bias if kind.bias is None else kind.bias + change[:, -1].reshape(kind.bias.shape)
    fitted = dataclasses.replace(kind, weights=(w + change[:, : w.shape[1]],), bias=bias)
    nodes = tuple(dataclasses.replace(n, kind=fitted) if n is node else n for n in made.nodes)
    return dataclasses.replace(made, nodes=nodes)
