"""What each gate asks of its inputs for a pattern to stay: rows a.x + b >= 0, gate by gate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gatewise.ir.kinds import Pieces, Winner
from gatewise.ir.network import Network, Node, fold
from gatewise.ir.pattern import Pattern
from gatewise.linear.affine_map import magnitudes
from gatewise.linear.freeze import freeze


@dataclass(frozen=True, eq=False)
class Frozen:
    """A network frozen to P patterns, beside the gates as they were."""

    source: Network
    network: Network
    pattern: Pattern

    @property
    def gates(self) -> tuple[Node, ...]:
        return self.source.gates

    def codes(self, name: str) -> Tensor:
        """(P, 1, *shape)."""
        return self.pattern.codes(name, self.source.device).unsqueeze(1)


def frozen(network: Network, pattern: Pattern) -> Frozen:
    """The network frozen to its patterns, ready to ask its gates."""
    return Frozen(network, freeze(network, pattern), pattern)


def visit(
    f: Frozen,
    x: Tensor,
    step: Callable[[Node, list[Tensor]], Tensor],
    see: Callable[[Node, list[Tensor]], None],
) -> None:
    """Fold the frozen network over x; `see` gets each gate with its inputs (P or 1, k, *shape)."""
    gates = {g.name: g for g in f.gates}
    inputs = {name for g in f.gates for name in g.inputs}
    values = fold(f.network, x, step, keep=inputs)
    values["input"] = x
    for gate in gates.values():
        see(gate, [values[name] for name in gate.inputs])


def slack(kind: Pieces | Winner, zs: list[Tensor], codes: Tensor, linear: bool = False) -> Tensor:
    """(rows a unit, P, k, *shape): >= 0 exactly on the closed cell; `linear` leaves knots out.

    zs (P or 1, k, *shape), codes (P, 1, *shape). Rows that ask nothing are +inf (or 0 if linear).
    """
    if isinstance(kind, Pieces):
        signs = kind.signs(codes)
        knots = torch.zeros_like(kind.knots) if linear else kind.knots
        return torch.stack([s * (zs[0] - t) for s, t in zip(signs, knots, strict=True)])
    candidates, best = _candidates(kind, zs, codes)
    rows = kind.sign * (best - candidates)
    return rows.masked_fill(~asks(kind, codes), 0 if linear else torch.inf).movedim(-1, 0)


def magnitude(kind: Pieces | Winner, zs: list[Tensor], codes: Tensor) -> Tensor:
    """(rows a unit, P, k, *shape): the sum of |terms| in `slack`, given the |inputs|."""
    if isinstance(kind, Pieces):
        return torch.stack([zs[0] + t.abs() for t in kind.knots])
    candidates, best = _candidates(kind, zs, codes)
    return (best + candidates).masked_fill(~asks(kind, codes), 0).movedim(-1, 0)


def strict(kind: Pieces | Winner, codes: Tensor) -> Tensor:
    """(rows a unit, P, 1, *shape): rows whose boundary belongs to the neighbour (the tie rule)."""
    if isinstance(kind, Pieces):
        above = kind.signs(codes) > 0
        closed = torch.tensor(kind.closed, device=above.device)
        return above != closed.reshape(-1, *[1] * codes.ndim)
    places = torch.arange(kind.branches, device=codes.device)
    return (places < codes.unsqueeze(-1)).movedim(-1, 0)


def asks(kind: Winner, codes: Tensor) -> Tensor:
    """(P, 1, *shape, m): candidates that exist and are not the winner itself."""
    places = torch.arange(kind.branches, device=codes.device)
    return (kind.index >= 0) & (places != codes.unsqueeze(-1))


def _candidates(kind: Winner, zs: list[Tensor], codes: Tensor) -> tuple[Tensor, Tensor]:
    """Every candidate (P, k, *shape, m) and, in a last axis of one, the winner."""
    p = max(len(codes), *(len(z) for z in zs))
    flat = torch.cat([z.reshape(*z.shape[:2], -1).expand(p, -1, -1) for z in zs], -1)
    candidates = flat[:, :, kind.index.clamp(min=0)]
    where = codes.long().unsqueeze(-1).expand(*candidates.shape[:-1], 1)
    return candidates, candidates.gather(-1, where)


def spread(f: Frozen) -> Network:
    """The frozen network over |weights|: what rounding bounds are multiples of."""
    return magnitudes(f.network)
