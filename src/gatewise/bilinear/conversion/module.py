"""A Network as a torch module that trains, and a few epochs of it for a converted network."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from numbers import Real
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gatewise.bilinear.conversion.convert import BATCH, both_rows
from gatewise.bilinear.conversion.converted import Converted
from gatewise.bilinear.conversion.quadratic import LAYER
from gatewise.errors import DataError, Diverged
from gatewise.given.labels import Truth
from gatewise.ir.kinds import Affine, Kind
from gatewise.ir.network import INPUT, Network, Node
from gatewise.numeric import whole_number

Aim = Literal["outputs", "labels"]


class NetworkModule(nn.Module):
    """f of a Network, x (rows, *input_shape) -> (rows, outputs), its weights parameters.

    Trained are the weights of dense and convolutional layers, every bias, and the coefficients of
    converted units; moves, norms and activations stay as they are.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self._network = network
        self._held: dict[str, tuple[list[str], str | None]] = {}
        for i, node in enumerate(network.nodes):
            if isinstance(node.kind, Affine):
                self._held[node.name] = self._register(f"node{i}", node, node.kind)

    def _register(self, at: str, node: Node, kind: Affine) -> tuple[list[str], str | None]:
        free = kind.taps is not None or node.layer == LAYER
        names = [f"{at}_weight{j}" for j in range(len(kind.weights))]
        for name, w in zip(names, kind.weights, strict=True):
            if free and w.is_floating_point():
                self.register_parameter(name, nn.Parameter(w.clone()))
            else:
                self.register_buffer(name, w)
        if kind.bias is None:
            return names, None
        self.register_parameter(f"{at}_bias", nn.Parameter(kind.bias.clone()))
        return names, f"{at}_bias"

    def forward(self, x: Tensor) -> Tensor:
        values = {INPUT: x.reshape(-1, *self._network.input_shape)}
        for node in self._network.nodes:
            kind: Callable[..., Tensor] = self._kind(node)
            values[node.name] = kind(*(values[name] for name in node.inputs))
        return values[self._network.output].flatten(1)

    def _kind(self, node: Node) -> Kind:
        if node.name not in self._held:
            return node.kind
        assert isinstance(node.kind, Affine)
        names, bias = self._held[node.name]
        weights = tuple(getattr(self, name) for name in names)
        at = None if bias is None else getattr(self, bias)
        return dataclasses.replace(node.kind, weights=weights, bias=at)

    def network(self) -> Network:
        """The Network with the weights as they are now."""
        nodes = []
        for node in self._network.nodes:
            kind = self._kind(node)
            if isinstance(kind, Affine):
                bias = None if kind.bias is None else kind.bias.detach().clone()
                weights = tuple(w.detach().clone() for w in kind.weights)
                kind = dataclasses.replace(kind, weights=weights, bias=bias)
            nodes.append(dataclasses.replace(node, kind=kind))
        return dataclasses.replace(self._network, nodes=tuple(nodes))


def fine_tune(
    made: Converted,
    X: Any,
    y: Any = None,
    *,
    towards: Aim = "outputs",
    epochs: int = 2,
    rate: float = 1e-3,
    rows: int = 64,
    seed: int = 0,
    X_test: Any = None,
    y_test: Any = None,
) -> Converted:
    """The conversion after a few epochs of Adam, the rate falling to 0 along a half cosine.

    Gradients are cut at norm 1: a row far out counts with a high power in a network of products.
    The best epoch by the loss on all of X is kept, so that it never ends worse there than it began.

    towards: "outputs", squared distance to what the network gave before, in units of its spread
    (needs no labels); "labels", cross entropy with y, or squared distance to targets. rows: of a
    step. The result is measured on X and X_test as `to_bilinear` does.
    """
    if not isinstance(made, Converted):
        raise DataError(f"give what to_bilinear made, a Converted; got a {type(made).__name__}")
    for name, value, least in (("epochs", epochs, 1), ("rows", rows, 1), ("seed", seed, 0)):
        whole_number(value, name, least)
    if towards not in get_args(Aim):
        raise DataError(f"towards must be 'outputs' or 'labels', got {towards!r}")
    step: Any = rate
    if isinstance(step, bool) or not (isinstance(step, Real) and 0 < float(step) < math.inf):
        raise DataError(f"rate must be a number above 0, got {rate!r}")
    if towards == "labels" and y is None:
        raise DataError("towards='labels' needs y, one label or target for each row of X")
    fitted, held = both_rows(made.original, (X, y), (X_test, y_test))
    x, truth = fitted
    loss = _loss(made.original, x, truth if towards == "labels" else None)
    module = NetworkModule(made.tied)
    _train(module, x, loss, (epochs, rate, rows, seed))
    said = f"{made.how}, {epochs} epochs towards {towards}"
    return Converted.of(
        made.original, module.network(), made.blocks, (fitted, held), said, BATCH, made.notes
    )


def _loss(before: Network, x: Tensor, truth: Truth | None) -> Callable[[Tensor, Tensor], Tensor]:
    """loss(outputs, positions of the rows)."""
    if truth is not None and truth.labels:
        places = torch.from_numpy(truth.values)
        if before.outputs == 1:
            wanted = places.to(x.dtype)
            return lambda f, i: F.binary_cross_entropy_with_logits(f[:, 0], wanted[i])
        return lambda f, i: F.cross_entropy(f, places[i])
    with torch.no_grad():
        aim = torch.cat([before(part) for part in x.split(BATCH)])
    spread = float((aim - aim.mean(0)).square().mean()) or 1.0
    numbers = aim if truth is None else torch.from_numpy(truth.values).to(x.dtype)
    return lambda f, i: (f - numbers[i]).square().mean() / spread


def _train(
    module: NetworkModule,
    x: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    how: tuple[int, float, int, int],
) -> None:
    epochs, rate, rows, seed = how
    rng = torch.Generator().manual_seed(seed)
    adam = torch.optim.Adam(module.parameters(), lr=rate)
    steps = epochs * math.ceil(len(x) / rows)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    best, kept = _whole(module, x, loss), copy.deepcopy(module.state_dict())
    for epoch in range(epochs):
        for picked in torch.randperm(len(x), generator=rng).split(rows):
            adam.zero_grad(set_to_none=True)
            off = loss(module(x[picked]), picked)
            if not bool(off.isfinite()):
                raise Diverged(f"the loss is {off.item()} in epoch {epoch + 1}: lower the rate")
            off.backward()
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            adam.step()
            decay.step()
        found = _whole(module, x, loss)
        if found < best:
            best, kept = found, copy.deepcopy(module.state_dict())
    module.load_state_dict(kept)


@torch.no_grad()
def _whole(module: NetworkModule, x: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> float:
    """The mean loss over all rows."""
    parts = torch.arange(len(x)).split(BATCH)
    return sum(float(loss(module(x[i]), i)) * len(i) for i in parts) / len(x)
