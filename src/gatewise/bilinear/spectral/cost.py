"""Which way to eigenpairs is cheapest: a model of the work, from the sizes alone.

Units are multiply-adds of a large matrix product; what runs slower is charged more, by factors
measured on one core (eigh of n = 512 takes as long as 9 n³ of them).
"""

from __future__ import annotations

from dataclasses import dataclass

EIGH = 9.0  # n³ units of one symmetric eigenproblem with vectors
THIN = 8.0  # products of m rows cost as if there were m + THIN
STREAM = 6.0  # a basis is read, not multiplied
CALL = 3e6  # what starting a step costs, however small


@dataclass(frozen=True)
class Plan:
    """method: dense, implicit or small; costs: units of work each would take (of `small`: after
    the reduction, what comes next is planned anew)."""

    method: str
    costs: dict[str, float]

    def __str__(self) -> str:
        listed = ", ".join(f"{name} {cost / 1e9:.3g} G" for name, cost in self.costs.items())
        return f"{self.method} ({listed})"


def plan(m: int, h: int, n: int, k: int) -> Plan:
    """The cheapest way to k eigenpairs of m forms of h products over n coordinates."""
    costs = {"dense": dense_cost(m, h, n), "implicit": implicit_cost(m, h, n, k)}
    rank = 2 * h
    if rank < n:
        reduced = min(dense_cost(m, h, rank), implicit_cost(m, h, rank, k))
        costs["small"] = 3.0 * n * rank**2 + reduced + m * k * n * rank
    return Plan(min(costs, key=costs.__getitem__), costs)


def dense_cost(m: int, h: int, n: int) -> float:
    """Build every form, then eigh."""
    return m * (1.0 * h * n**2 + EIGH * n**3)


def implicit_cost(m: int, h: int, n: int, k: int) -> float:
    """s steps of four thin products, and s² / 2 vectors read four times; inf where s is not < n."""
    steps = 4.0 * k + 40
    if steps >= n:
        return float("inf")
    work = 4 * (m + THIN) * h * n + STREAM * 2 * m * n * steps
    return steps * (work + CALL)
