"""The values that rows give inside a network, and moments gathered from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gatewise.ir.network import INPUT, Network, fold

STILL = 1e-12  # of a value's size: a spread below it is rounding


def streamed(
    network: Network, names: Sequence[str], x: Tensor, batch: int
) -> Iterator[list[Tensor]]:
    """The named values (rows, *shape), a batch of rows at a time; nodes past them are not run."""
    needed = set(names)
    for node in reversed(network.nodes):
        if node.name in needed:
            needed.update(node.inputs)
    nodes = tuple(n for n in network.nodes if n.name in needed)
    last = nodes[-1].name if nodes else INPUT
    part = dataclasses.replace(network, nodes=nodes, output=last)
    for rows in x.split(batch):
        values = {INPUT: rows}
        if nodes:
            values |= fold(part, rows, lambda n, xs: n.kind(*xs), keep=set(names) - {INPUT})
        yield [values[name] for name in names]


@dataclass(frozen=True, eq=False)
class Moments:
    """mean, standard deviation (h,) of y; of z its mean and covariance with y (0 without z).

    still (h,): y has one value on all rows (its deviation is given as 0).
    """

    mean: Tensor
    std: Tensor
    other: Tensor
    cov: Tensor

    @property
    def inverse(self) -> Tensor:
        """1 / std, 0 where y does not move."""
        return torch.where(self.std > 0, 1 / self.std, 0.0)


def moments(values: Iterator[tuple[Tensor, Tensor | None]]) -> Moments:
    """In one pass over (y, z), each (n, h): sums about the first batch's mean."""
    total, centre_y, centre_z = 0, None, None
    for y, z in values:
        z = torch.zeros_like(y) if z is None else z
        if centre_y is None or centre_z is None:
            centre_y, centre_z = y.mean(0), z.mean(0)
            sums = y.new_zeros(4, y.shape[1])
        a, b = y - centre_y, z - centre_z
        sums += torch.stack([a.sum(0), b.sum(0), a.square().sum(0), (a * b).sum(0)])
        total += len(y)
    assert centre_y is not None and centre_z is not None
    a, b, aa, ab = sums / total
    std = (aa - a.square()).clamp(min=0).sqrt()
    std = torch.where(std > STILL * (centre_y + a).abs(), std, 0.0)
    return Moments(centre_y + a, std, centre_z + b, torch.where(std > 0, ab - a * b, 0.0))
