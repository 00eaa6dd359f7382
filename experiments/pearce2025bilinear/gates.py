"""Toy gates: a bilinear layer learns AND, XOR or XNOR of pairs of inputs; its forms are read."""

from __future__ import annotations

from itertools import combinations, product

import torch
from reporting import Row

from gatewise.bilinear import BilinearLayer, effective_rank, interaction, spectrum

GATES = {
    "and": lambda a, b: a * b,
    "xor": lambda a, b: a + b - 2 * a * b,
    "xnor": lambda a, b: 1 - a - b + 2 * a * b,
}


def train(gate: str, inputs: int, hidden: int, seed: int, c: dict) -> tuple[BilinearLayer, float]:
    """Adam on the mean square error over inputs that are 1 with probability .3, all pairs."""
    draw = torch.Generator().manual_seed(seed)
    pairs = torch.tensor(list(combinations(range(inputs), 2))).T
    shapes = ((hidden, inputs), (hidden, inputs), (pairs.shape[1], hidden))
    held = [
        ((2 * torch.rand(s, generator=draw) - 1) / s[1] ** 0.5).requires_grad_() for s in shapes
    ]
    adam = torch.optim.AdamW(held, lr=c["lr"], weight_decay=c["decay"])
    plan = torch.optim.lr_scheduler.CosineAnnealingLR(adam, c["steps"])
    for _ in range(c["steps"]):
        x = (torch.rand(c["batch"], inputs, generator=draw) > 0.7).float()
        y = ((x @ held[0].mT) * (x @ held[1].mT)) @ held[2].mT
        loss = (y - GATES[gate](x[:, pairs[0]], x[:, pairs[1]])).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        plan.step()
    return BilinearLayer.from_weights(*held), float(loss.detach())


def by_hand(gate: str, inputs: int) -> torch.Tensor:
    """(pairs, inputs, inputs): ab is ½ off the diagonal; a xor b is (a - b)² where a = a²."""
    off, on = (0.5, 0.0) if gate == "and" else (-1.0, 1.0)
    found = []
    for i, j in combinations(range(inputs), 2):
        q = torch.zeros(inputs, inputs, dtype=torch.float64)
        q[i, j] = q[j, i] = off
        q[i, i] = q[j, j] = on
        found.append(q)
    return torch.stack(found)


def learnt(c: dict) -> list[Row]:
    """How near the learnt forms are to those by hand, a row a gate, size and seed."""
    rows: list[Row] = []
    for gate, hidden, seed in product(("and", "xor"), c["hidden"], range(c["seeds"])):
        layer, loss = train(gate, c["inputs"], hidden, seed, c)
        found = interaction(layer, torch.eye(layer.outputs, dtype=torch.float64))
        want = by_hand(gate, c["inputs"])
        cosine = torch.cosine_similarity(found.flatten(1), want.flatten(1)).mean()
        values = spectrum(layer, c["inputs"], method="dense").values
        row: Row = {"gate": gate, "hidden": hidden, "seed": seed, "loss": loss}
        row |= {"cosine": float(cosine), "error": float((found - want).abs().max())}
        rows.append({**row, "rank": float(effective_rank(values).mean())})
    return rows


COEFFICIENTS = {
    "and": (0.0, 0.0, 1.0),
    "xnor": (1.0, -1.0, 2.0),
    "xnor as printed": (1.0, -1.0, 1.0),
}


def truth_table(name: str) -> list[Row]:
    """The published layer with biases, γ + (aa + a) a + (bb + b) b + 2ab · a b, and its form.

    error: the largest, over the four rows of the truth table. The authors' notes print 2ab = 1 for
    XNOR; the truth table needs 2.
    """
    constant, linear, both = COEFFICIENTS[name]
    layer = BilinearLayer.from_weights(
        [[1.0, 0.0], [1.0, 1.0]],
        [[0.0, both], [0.0, 0.0]],
        [[1.0, linear]],
        v_bias=[0.0, 1.0],
        bias=[constant],
    )
    x = torch.tensor(list(product((0.0, 1.0), repeat=2)), dtype=torch.float64)
    Q, want = interaction(layer, [1.0]), GATES[name.split()[0]](x[:, 0], x[:, 1])
    row: Row = {"gate": name, "constant": float(Q[2, 2])}
    row |= {"of a": float(Q[0, 0] + 2 * Q[0, 2]), "of ab": float(2 * Q[0, 1])}
    return [{**row, "error": float((layer(x)[:, 0] - want).abs().max())}]
