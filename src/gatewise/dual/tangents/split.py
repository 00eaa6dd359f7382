"""K = K^v + K^f: how much of a tangent kernel comes from the values and how much from the gates.

For a network whose gates are made by weights of their own (DGN, DLGN), the gradient splits into
<phi, dv>, by the value weights with the gates held, and <dphi, v>, by the feature weights through
soft gates. Source: arXiv:2006.10529.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from gatewise.dual.tangents.empirical import add_gram, is_index, mirror
from gatewise.dual.tangents.factors import Factor, Outer, Whole, cheaper
from gatewise.errors import DataError, UnsupportedLayer, WrongShape
from gatewise.given.rows import finite
from gatewise.numeric import as_tensor, device_of, whole_number

BATCH = 256  # rows at once on their way through the module
Call = tuple[nn.Module, Tensor, Tensor]  # one use of a layer: what went in, what came out


@dataclass(frozen=True, eq=False)
class TangentSplit:
    """value + feature = the whole tangent kernel, each (rows, rows2) in float64.

    error: largest |K c - J (J^T c)| for a random c, relative to |K| |c|, the right side by
    automatic differentiation of the whole module; reason: why `feature` is 0, where it is.
    """

    value: NDArray[np.float64]
    feature: NDArray[np.float64]
    outputs: str
    error: float
    reason: str

    @property
    def total(self) -> NDArray[np.float64]:
        """K = K^v + K^f."""
        return self.value + self.feature

    def __str__(self) -> str:
        size = [float(np.linalg.norm(k)) for k in (self.value, self.feature, self.total)]
        share = size[1] / size[2] if size[2] else 0.0
        lines = [
            f"Tangent kernel of {len(self.value)} x {self.value.shape[1]} rows, {self.outputs}",
            f"  |K^v| {size[0]:.4g} (values), |K^f| {size[1]:.4g} (gates), |K| {size[2]:.4g}; "
            f"|K^f|/|K| = {share:.3f}",
            f"  K^v + K^f against the whole module by autograd: relative error {self.error:.1e}",
        ]
        return "\n".join([*lines, *([f"  K^f = 0: {self.reason}"] if self.reason else [])])


def tangent_split(
    module: Any,
    X: Any,
    X2: Any = None,
    *,
    outputs: Literal["sum", "trace"] | int = "sum",
    batch: int = BATCH,
    seed: int = 0,
) -> TangentSplit:
    """K^v and K^f of a torch module with `feature_parameters()` and `value_parameters()`.

    Exact, in float64, on a copy in evaluation mode; weights that are frozen (requires_grad False)
    are not part of theta. K^f is 0 for hard gates: a step has no derivative. Layers must be
    Linear, Conv1d, Conv2d (ungrouped, zero padding) or batch norms.
    seed: of the random vector of the check. Memory: the layers' inputs and gradients of all rows.

    theta are the module's own parameters, as autograd has them: gamma and beta of a batch norm,
    and V_1 of values that start from ones. tangent_kernel(gw.read(module)) differentiates by what
    reading folds them into, s = gamma / sqrt(var + eps) and c, and leaves V_1 out, so its K is
    another where a module has either.
    """
    whole_number(batch, "batch")
    run = _Run(_copied(module), outputs)
    x = _rows(X, "X", run.device)
    x2 = None if X2 is None else _rows(X2, "X2", run.device)
    for rows, name in ((x, "X"), (x if x2 is None else x2, "X2")):
        run.try_one(rows, name)
    mine = run.factors(x, batch)
    theirs = mine if x2 is None else run.factors(x2, batch)
    value, feature = (_gram(mine, theirs, part, x2 is None) for part in ("value", "feature"))
    error = _checked(run, x, x if x2 is None else x2, value + feature, seed)
    return TangentSplit(
        value.cpu().numpy(),
        feature.cpu().numpy(),
        run.words,
        error,
        "" if feature.any() else run.reason(),
    )


def _copied(module: Any) -> nn.Module:
    for name in ("feature_parameters", "value_parameters"):
        if not (isinstance(module, nn.Module) and callable(getattr(module, name, None))):
            raise DataError(
                f"tangent_split takes a torch module with feature_parameters() and "
                f"value_parameters(), such as gatewise.models.DLGN; got {type(module).__name__}; "
                f"for a Network, name the nodes: tangent_kernel(net, X, nodes=..)"
            )
    copied: nn.Module = copy.deepcopy(module).double().eval()
    return copied


def _rows(X: Any, name: str, device: torch.device) -> Tensor:
    x = as_tensor(X, torch.float64, device)
    if x.ndim < 2:
        raise WrongShape(f"{name} must be rows of inputs, got shape {tuple(x.shape)}")
    return finite(x, name)


Parts = dict[tuple[str, str], Factor]


def _gram(mine: Parts, theirs: Parts, part: str, same: bool) -> Tensor:
    """The kernel of the value or the feature weights."""
    rows, others = (len(next(iter(vars(next(iter(p.values()))).values()))) for p in (mine, theirs))
    there = device_of(*vars(next(iter(mine.values()))).values())
    out = torch.zeros(rows, others, dtype=torch.float64, device=there)
    for key in mine:
        if key[0] == part:
            add_gram(out, mine[key], theirs[key], half=same)
    if same:
        mirror(out)
    return out


# -- one module --


class _Run:
    """A module that is ours alone, and the outputs whose gradients are taken."""

    def __init__(self, module: nn.Module, outputs: str | int) -> None:
        self.module, self.outputs = module, outputs
        self.device = device_of(*module.parameters())
        feature = {id(p) for p in module.feature_parameters()}  # type: ignore[operator]
        value = {id(p) for p in module.value_parameters()}  # type: ignore[operator]
        self.layers = dict(_layers(module, feature, value))
        self.words = f'outputs="{outputs}"' if isinstance(outputs, str) else f"output {outputs}"

    @torch.no_grad()
    def try_one(self, x: Tensor, name: str) -> None:
        """WrongShape where the module does not take a row like these."""
        try:
            self.module(x[:1])
        except RuntimeError as error:
            raise WrongShape(
                f"the module does not take rows of {name}, of shape {tuple(x.shape[1:])}: {error}"
            ) from error

    def seeds(self, y: Tensor) -> list[Tensor]:
        """One scalar a row for each gradient to take: f itself, or each output of a trace."""
        if self.outputs == "sum":
            return [y.sum(1)]
        if self.outputs == "trace":
            return list(y.unbind(1))
        if is_index(self.outputs, y.shape[1]):
            return [y[:, int(self.outputs)]]
        raise DataError(
            f'outputs must be "sum", "trace" or an index below {y.shape[1]}, got {self.outputs!r}'
        )

    def reason(self) -> str:
        """Why nothing flowed to the features."""
        if not any(part == "feature" for part, _ in self.layers.values()):
            return "the feature weights are frozen"
        gate = getattr(self.module, "gate", None)
        if getattr(gate, "hard", gate == "hard"):
            return "the gates are hard, and a step has no derivative"
        return "no gradient reaches the feature weights"

    def factors(self, x: Tensor, batch: int) -> Parts:
        parts = [self._factors(rows) for rows in x.split(batch)]
        return {key: _joined([p[key] for p in parts]) for key in parts[0]}

    def _factors(self, x: Tensor) -> Parts:
        calls: list[Call] = []
        hooks = [
            layer.register_forward_hook(lambda m, a, y: calls.append((m, a[0], y)))
            for layer in self.layers
        ]
        with torch.enable_grad():
            seeds = self.seeds(self.module(x).reshape(len(x), -1))
            for hook in hooks:
                hook.remove()
            outs = [y for _, _, y in calls]
            grads = [
                torch.autograd.grad(
                    s.sum(), outs, retain_graph=True, allow_unused=True, materialize_grads=True
                )
                for s in seeds
            ]
        g = [torch.stack(same, 1) for same in zip(*grads, strict=True)]
        with torch.no_grad():
            return dict(self._layer(layer, calls, g, len(x)) for layer in self.layers)

    def _layer(
        self, layer: nn.Module, calls: list[Call], g: list[Tensor], rows: int
    ) -> tuple[tuple[str, str], Factor]:
        """The factor of one layer's weights, over all its uses."""
        uses = [(x, back) for (m, x, _), back in zip(calls, g, strict=True) if m is layer]
        part, name = self.layers[layer]
        for x, _ in uses:
            if len(x) != rows:
                raise UnsupportedLayer(f"layer '{name}' does not take one row of values for each")
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            return (part, name), Whole(torch.stack([_norm(layer, *use) for use in uses]).sum(0))
        outers = [_outer(layer, x.detach(), back) for x, back in uses]
        u, back = torch.cat([o.u for o in outers], 1), torch.cat([o.g for o in outers], 2)
        return (part, name), cheaper(Outer(u, back), True)


def _joined(parts: list[Factor]) -> Factor:
    fields = zip(*(vars(p).values() for p in parts), strict=True)
    return type(parts[0])(*(torch.cat(same) for same in fields))


def _layers(
    module: nn.Module, feature: set[int], value: set[int]
) -> Iterator[tuple[nn.Module, tuple[str, str]]]:
    """Each layer that holds weights, with the part it belongs to and its name."""
    for name, layer in module.named_modules():
        own = list(layer.parameters(recurse=False))
        if not any(p.requires_grad for p in own):
            continue
        if not _known(layer):
            raise UnsupportedLayer(
                f"layer '{name}' ({type(layer).__name__}): the split takes Linear, Conv1d and "
                f"Conv2d without groups and with zero padding, and batch norms"
            )
        ids = {id(p) for p in own}
        if not (ids <= feature or ids <= value):
            raise DataError(
                f"the parameters of layer '{name}' are in neither feature_parameters() nor "
                f"value_parameters()"
            )
        yield layer, ("feature" if ids <= feature else "value", name)


def _known(layer: nn.Module) -> bool:
    if isinstance(layer, (nn.Conv1d, nn.Conv2d)):
        return (
            layer.groups == 1 and layer.padding_mode == "zeros" and isinstance(layer.padding, tuple)
        )
    return isinstance(layer, (nn.Linear, nn.modules.batchnorm._BatchNorm))


# -- one use of a layer --


def _outer(layer: nn.Module, x: Tensor, g: Tensor) -> Outer:
    """u (rows, positions, taps), g (rows, k, positions, units) from g (rows, k, *out)."""
    if isinstance(layer, nn.Linear):
        u = x.reshape(len(x), -1, x.shape[-1])
        back = g.reshape(len(x), g.shape[1], -1, g.shape[-1])
    else:
        u, back = _patches(layer, x), g.flatten(3).mT
    bias = getattr(layer, "bias", None)
    return Outer(u if bias is None else torch.cat([u, u.new_ones(*u.shape[:2], 1)], 2), back)


def _patches(layer: nn.Module, x: Tensor) -> Tensor:
    """What the kernel sees at each position: (rows, positions, taps)."""
    assert isinstance(layer, (nn.Conv1d, nn.Conv2d))
    flat = isinstance(layer, nn.Conv1d)

    def two(amounts: Any, none: int) -> tuple[int, ...]:
        return (none, *amounts) if flat else tuple(amounts)

    patches = F.unfold(
        x.unsqueeze(2) if flat else x,
        two(layer.kernel_size, 1),
        dilation=two(layer.dilation, 1),
        padding=two(layer.padding, 0),
        stride=two(layer.stride, 1),
    )
    return patches.mT


def _norm(layer: nn.modules.batchnorm._BatchNorm, x: Tensor, g: Tensor) -> Tensor:
    """(rows, 1, numbers): the gradient by scale and shift, of one use of a norm in evaluation."""
    if layer.running_mean is None or layer.running_var is None:
        raise UnsupportedLayer("a batch norm without running statistics lets rows change another")
    shape = (-1, *[1] * (x.ndim - 2))
    x = x.detach() - layer.running_mean.reshape(shape)
    x = x / (layer.running_var + layer.eps).sqrt().reshape(shape)
    both = torch.cat([g * x.unsqueeze(1), g], 2)
    return (
        both.flatten(3).sum(3).flatten(1).unsqueeze(1) if x.ndim > 2 else both.flatten(1)[:, None]
    )


# -- the check --


def _checked(run: _Run, x: Tensor, x2: Tensor, kernel: Tensor, seed: int) -> float:
    """max |K c - J (J^T c)| / (|K| |c|): J^T backward and J forward through the whole module."""
    generator = torch.Generator().manual_seed(seed)
    c = torch.randn(len(x2), generator=generator, dtype=torch.float64).to(run.device)
    product = _jacobian_product(run, x, x2, c)
    size = float((kernel.abs() @ c.abs()).max())
    error = float((kernel @ c - product).abs().max())
    return error / size if size else error


def _jacobian_product(run: _Run, x: Tensor, x2: Tensor, c: Tensor) -> Tensor:
    """J(x) J(x2)^T c by reverse and forward differentiation, added up over the seeds."""
    counted = {id(p) for layer in run.layers for p in layer.parameters(recurse=False)}
    theta = {n: p.detach() for n, p in run.module.named_parameters() if id(p) in counted}

    def outputs(parameters: dict[str, Tensor], rows: Tensor) -> list[Tensor]:
        y = torch.func.functional_call(run.module, parameters, (rows,))
        return run.seeds(y.reshape(len(rows), -1))

    total = x.new_zeros(len(x))
    for o in range(len(outputs(theta, x[:1]))):

        def back(parameters: dict[str, Tensor], o: int = o) -> Tensor:
            return outputs(parameters, x2)[o] @ c

        def ahead(parameters: dict[str, Tensor], o: int = o) -> Tensor:
            return outputs(parameters, x)[o]

        direction = torch.func.grad(back)(theta)
        total += torch.func.jvp(ahead, (theta,), (direction,))[1].detach()
    return total
