"""f(x; w) ~ f(x; w0) + J(x) (w - w0): a trained network, linear in its weights, solved exactly.

After "LQF: Linear Quadratic Fine-Tuning" (Achille et al., CVPR 2021): the squared error of the
linearised network has one minimum, and ridge regression finds it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, jvp, vmap

from gatewise.errors import DataError, ModelError, UnsupportedLayer
from gatewise.models.batches import checked_outputs, prepared
from gatewise.models.checks import is_number

Which = Literal["all", "readout"]
LARGEST = 100_000_000  # numbers in J, (rows x outputs) x weights: 0.8 GB
CHUNK = 256  # rows whose Jacobians are made at once


class Linearised(nn.Module):
    """x -> f(x; w0) + J(x) delta: one forward-mode pass a row, J is never formed.

    delta: {parameter: the change of its value}; before, after: mean squared errors on the rows
    it was solved on. In evaluation mode and float64; its weights are not to be trained further.
    """

    def __init__(self, module: nn.Module, delta: dict[str, Tensor], before: float, after: float):
        super().__init__()
        self.module, self.delta = module, delta
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> Tensor:
        """(rows, outputs), float64 for x of any float type."""
        x = x.double()
        held = {name: p.detach() for name, p in self.module.named_parameters()}
        moved = {name: held[name] for name in self.delta}

        def f(chosen: dict[str, Tensor]) -> Tensor:
            out: Tensor = functional_call(self.module, {**held, **chosen}, (x,))
            return out

        value, change = jvp(f, (moved,), (self.delta,))[:2]
        total: Tensor = value + change
        return total

    def __str__(self) -> str:
        count = sum(d.numel() for d in self.delta.values())
        return (
            f"linear in {count} weights: mean squared error {self.before:.4g} before, "
            f"{self.after:.4g} after"
        )


def linearise_weights(
    module: nn.Module,
    X: Any,
    y: Any,
    *,
    ridge: float = 1e-3,
    weights: Which | Iterable[str] = "all",
) -> Linearised:
    """The best network that is linear in the chosen weights around those of a trained `module`.

    Minimises mean |y - f(x; w0) - J(x) delta|^2 + ridge |delta|^2 over X (rows, *input), by
    normal equations, or in the kernel J J' where weights are more than rows x outputs. y: numbers
    (rows[, outputs]), or labels, which stand for one-hot rows. weights: "all", "readout" (the last
    Linear: then the network itself is linear in them), or names of parameters. `module` is copied.
    Raises DataError for rows, labels and a J of more than 1e8 numbers, ModelError for settings.
    """
    if not (is_number(ridge) and ridge > 0):
        raise ModelError(f"`ridge` is positive, and it is {ridge!r}: 1e-3 is usual")
    if not isinstance(module, nn.Module):
        raise ModelError(f"`module` is a torch module, got a {type(module).__name__}")
    own = copy.deepcopy(module).double().eval()
    data = prepared(X, y, own)
    checked_outputs(own, data)
    chosen = _chosen(own, weights)
    with torch.no_grad():
        out = own(data.X)
    target = data.y
    if data.task == "labels":
        if out.shape[1] == 1:
            raise DataError("labels need an output a class, and the module has 1: give numbers")
        target = nn.functional.one_hot(data.y, out.shape[1]).to(out.dtype)
    rest = (target - out).reshape(-1)
    jacobian = _jacobian(own, chosen, data.X, len(rest))
    flat = ridge_change(jacobian, rest, ridge * len(out))
    sizes = [own.get_parameter(name).shape for name in chosen]
    parts = flat.split([s.numel() for s in sizes])
    delta = {n: p.reshape(s) for n, p, s in zip(chosen, parts, sizes, strict=True)}
    left = rest - jacobian @ flat
    return Linearised(own, delta, float(rest.square().mean()), float(left.square().mean()))


def ridge_change(J: Tensor, r: Tensor, weight: float) -> Tensor:
    """argmin |r - J d|^2 + weight |d|^2: (J'J + weight)^-1 J'r = J'(JJ' + weight)^-1 r."""
    wide = J.shape[1] > J.shape[0]
    gram = J @ J.T if wide else J.T @ J
    gram.diagonal().add_(weight)
    factor, failed = torch.linalg.cholesky_ex(gram)
    if int(failed):
        raise ModelError(
            "the ridge is too small for these weights, whose Jacobian is singular to float64's "
            "digits: raise `ridge`"
        )
    right = r if wide else J.T @ r
    solved = torch.cholesky_solve(right[:, None], factor)[:, 0]
    return J.T @ solved if wide else solved


def _chosen(module: nn.Module, weights: Which | Iterable[str]) -> list[str]:
    """Names of the parameters that may move."""
    names = [name for name, _ in module.named_parameters()]
    if weights == "all":
        return names
    if weights == "readout":
        return _readout(module)
    several = isinstance(weights, Iterable) and not isinstance(weights, str)
    wanted: list[Any] = list(weights) if several else [weights]
    unknown = [name for name in wanted if name not in names]
    if unknown or not wanted:
        raise ModelError(
            f"`weights` is 'all', 'readout' or names of parameters, got {weights!r}: they are "
            f"{', '.join(names)}"
        )
    return list(dict.fromkeys(wanted))


def _readout(module: nn.Module) -> list[str]:
    """The weight and bias of the last Linear layer."""
    layers = [(n, m) for n, m in module.named_modules() if isinstance(m, nn.Linear)]
    if not layers:
        raise UnsupportedLayer("the module has no Linear layer to read out with: name `weights`")
    name, last = layers[-1]
    start = f"{name}." if name else ""
    return [start + part for part, _ in last.named_parameters()]


def _jacobian(module: nn.Module, chosen: list[str], X: Tensor, rows: int) -> Tensor:
    """J (rows x outputs, weights)."""
    held = {name: p.detach() for name, p in module.named_parameters()}
    moved = {name: held[name] for name in chosen}
    count = sum(p.numel() for p in moved.values())
    if rows * count > LARGEST:
        raise DataError(
            f"the Jacobian has {rows} rows x outputs by {count} weights, more than {LARGEST:.0e} "
            f"numbers: give fewer rows, or `weights`='readout'"
        )

    def f(values: dict[str, Tensor], x: Tensor) -> Tensor:
        out: Tensor = functional_call(module, {**held, **values}, (x[None],))
        return out[0]

    per_row = vmap(jacrev(f), in_dims=(None, 0), chunk_size=CHUNK)(moved, X)
    return torch.cat([per_row[name].reshape(rows, -1) for name in chosen], 1)
