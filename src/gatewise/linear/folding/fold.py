"""fold(network): the same function with fewer parameters, everywhere, on data, or in a box.

Everywhere: neighbouring affine layers become one where that is no larger; BatchNorms vanish. On
data or in a box also units that keep one branch there: those with one value go into the next
bias, gates that are affine become so. Several ways are tried, and the smallest network is kept.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gatewise.errors import DataError, NotPiecewiseAffine
from gatewise.given.rows import require_network, rows_of
from gatewise.ir.kinds import Pieces, Winner
from gatewise.ir.network import Network, Node, forward
from gatewise.ir.network import fold as walk
from gatewise.linear.folding.blocks import without_constants
from gatewise.linear.folding.difference import Difference, difference
from gatewise.linear.folding.merging import merged
from gatewise.linear.folding.pruning import pruned
from gatewise.numeric import as_tensor

F64 = torch.float64
ROWS = 256  # random rows that the two networks are compared on
NUMBERS = 1 << 21  # in all values of the rows compared or timed at once
BLOCKS = 1 << 24  # numbers in a value's columns: beyond, a network stays as its layers are
REPEAT = 5
EVERYWHERE = "everywhere"


@dataclass(frozen=True, eq=False)
class FoldedNetwork:
    """network: `before` in fewer parameters; the same function `where` it says, no wider.

    merged: the layers that became one; off, on: for each gate, how many units keep their first
    branch there, or one other. apart: the largest difference measured, and its bound.
    seconds: CPU seconds a row of either, in float64.
    """

    network: Network
    before: Network
    where: str
    merged: tuple[str, ...]
    off: Mapping[str, int]
    on: Mapping[str, int]
    apart: Difference
    seconds: tuple[float, float]

    @property
    def parameters(self) -> tuple[int, int]:
        """(before, after)."""
        return self.before.parameters, self.network.parameters

    @property
    def nodes(self) -> tuple[int, int]:
        """(before, after)."""
        return len(self.before.nodes), len(self.network.nodes)

    @property
    def units(self) -> tuple[int, int]:
        """Gate units (before, after)."""
        before, after = (
            sum(math.prod(n.shape) for n in network.gates)
            for network in (self.before, self.network)
        )
        return before, after

    def __str__(self) -> str:
        off, on = sum(self.off.values()), sum(self.on.values())
        rows = (
            ("parameters", *self.parameters),
            ("bytes in float32", *(4 * p for p in self.parameters)),
            ("nodes", *self.nodes),
            ("gate units", *self.units),
        )
        lines = [f"{name:<18}{a:>12,} -> {b:>12,}" for name, a, b in rows]
        a, b = (1e6 * s for s in self.seconds)
        lines.append(f"{'CPU us a row':<18}{a:>12,.1f} -> {b:>12,.1f}")
        lines.append(f"{len(self.merged)} layers merged; {off} units always off, {on} always on")
        apart = self.apart
        lines.append(
            f"the same function {self.where}: differs by {apart.error:.2g} on {apart.rows} rows "
            f"of it, bound {apart.bound:.2g}"
        )
        return "\n".join(lines)


def fold(
    network: Network, X: Any = None, *, constant: Any = None, box: Any = None
) -> FoldedNetwork:
    """A smaller network of the same function: everywhere, on the rows X, or in the box.

    X: rows; units that keep one branch on all of them are folded, so the function holds on these
    rows (and on the regions they lie in), and nothing is said of others.
    constant: units proven to keep one branch in `box` (low, high), as
    `gw.regions.constant_units(network, box)` gives them.
    Raises InternalError where the two differ by more than rounding explains.
    """
    require_network(network)
    if network.patterns > 1:
        raise DataError(
            f"the network is frozen to {network.patterns} patterns at once: fold the network "
            f"itself, or one pattern of it"
        )
    given, network = network, network.to(F64, "cpu")
    if (constant is None) != (box is None) or (X is not None and box is not None):
        raise DataError(
            "fold takes nothing (holds everywhere), rows X (holds on them), or constant= and box= "
            "together (holds in the box): constant=gw.regions.constant_units(network, box)"
        )
    rows, where = _rows(network, X, box)
    branch = _proven(network, constant) if constant is not None else {}
    branch = _on_data(network, rows) if X is not None else branch
    made, told = _smallest(network, branch)
    if where != EVERYWHERE:
        note = f"folded: the function it was made from {where}, and perhaps another elsewhere"
        made = dataclasses.replace(made, notes=(*network.notes, note))
    apart = difference(network, made, rows)
    few = rows[: _count(network, ROWS)]
    off = {g: int((b == 0).sum()) for g, b in branch.items()}
    on = {g: int((b > 0).sum()) for g, b in branch.items()}
    seconds = (_seconds(network, few), _seconds(made, few))
    small = made.to(given.dtype, given.device)
    return FoldedNetwork(small, given, where, told, off, on, apart, seconds)


def _smallest(network: Network, branch: Mapping[str, Tensor]) -> tuple[Network, tuple[str, ...]]:
    """Of several ways, the network of the fewest parameters; of equals that of the fewest units."""
    plain, told = merged(network)
    found = [(plain, told)]
    if any(bool((b >= 0).any()) for b in branch.values()):
        for fix in (False, True):
            again, more = merged(pruned(plain, branch, fix))
            found.append((again, told + more))
        found += _as_blocks(network, branch)
    return min(found, key=lambda f: (f[0].parameters, sum(math.prod(n.shape) for n in f[0].gates)))


def _as_blocks(
    network: Network, branch: Mapping[str, Tensor]
) -> list[tuple[Network, tuple[str, ...]]]:
    """Gates over affine functions of all before them, where the network is small enough for it."""
    try:
        made, _ = without_constants(network, branch, "", BLOCKS)
    except (DataError, NotPiecewiseAffine):
        return []
    made = dataclasses.replace(made, notes=network.notes)
    gone = len(network.nodes) - len(made.nodes)
    return [(made, (f"{gone} nodes into affine functions between gates",))]


# -- where it holds --


def _rows(network: Network, X: Any, box: Any) -> tuple[Tensor, str]:
    """The rows to compare on, and the words for where the function is the same."""
    if X is not None:
        x = rows_of(network, X)
        return x, f"on the {len(x)} rows given"
    count = _count(network, ROWS)
    generator = torch.Generator().manual_seed(0)
    if box is None:
        x = torch.randn(count, network.inputs, generator=generator, dtype=F64)
        return network.rows(x), EVERYWHERE
    low, high = _ends(network, box)
    x = low + (high - low) * torch.rand(count, network.inputs, generator=generator, dtype=F64)
    return network.rows(torch.cat([x, low, high])), "in the box"


def _ends(network: Network, box: Any) -> tuple[Tensor, Tensor]:
    try:
        low, high = (as_tensor(v, F64, torch.device("cpu")) for v in box)
        low, high = (v.reshape(-1).expand(network.inputs)[None] for v in (low, high))
    except (TypeError, ValueError, RuntimeError):
        raise DataError(
            f"box= is (low, high), two numbers or two rows of {network.inputs}, got {box!r}"
        ) from None
    if not bool((low <= high).all() and low.isfinite().all() and high.isfinite().all()):
        raise DataError("box= must be finite with low <= high")
    return low, high


def _count(network: Network, most: int) -> int:
    numbers = sum(math.prod(n.shape) for n in network.nodes) + network.inputs
    return max(2, min(most, NUMBERS // max(1, numbers)))


# -- units that keep one branch --


def _on_data(network: Network, x: Tensor) -> dict[str, Tensor]:
    """For each gate (*shape,): the branch that a unit takes on every row, or -1."""
    found: dict[str, Tensor] = {}

    def step(node: Node, xs: list[Tensor]) -> Tensor:
        if isinstance(node.kind, Pieces | Winner):
            codes = node.kind.choose(*xs).long()
            low, high = codes.amin(0), codes.amax(0)
            one = torch.where(low == high, low, -1)
            old = found.get(node.name, one)
            found[node.name] = torch.where(old == one, one, -1)
        return node.kind(*xs)

    with torch.no_grad():
        for part in x.split(_count(network, len(x))):
            walk(network, part, step)
    return found


def _proven(network: Network, constant: Any) -> dict[str, Tensor]:
    """What `constant_units` found, checked to be of this network."""
    branch = getattr(constant, "branch", constant)
    gates = {n.name: n.shape for n in network.gates}
    if not isinstance(branch, Mapping) or set(branch) != set(gates):
        raise DataError(
            f"constant= must have one entry for each of the {len(gates)} gates: pass what "
            f"gw.regions.constant_units(network, box) gives"
        )
    found = {}
    for gate, shape in gates.items():
        one = torch.as_tensor(branch[gate])
        if one.numel() != math.prod(shape):
            raise DataError(
                f"constant= has {one.numel()} units for gate '{gate}', which has "
                f"{math.prod(shape)}: was it made from another network?"
            )
        found[gate] = one.reshape(shape).long()
    return found


def _seconds(network: Network, x: Tensor) -> float:
    """CPU seconds a row: the median of some runs."""
    took = []
    with torch.no_grad():
        for _ in range(REPEAT):
            start = time.process_time()
            forward(network, x)
            took.append(time.process_time() - start)
    return statistics.median(took) / len(x)
