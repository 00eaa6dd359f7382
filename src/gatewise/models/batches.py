"""From arrays to tensors a module can learn from, or a plain refusal; rows held out; batches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from gatewise.errors import BadRows, DataError, EmptyData, ModelError, WrongShape
from gatewise.models.checks import is_number
from gatewise.models.training import NOTHING, modes

Task = Literal["labels", "numbers"]


@dataclass(frozen=True, eq=False)
class Data:
    """X (rows, *input); y (rows,) int64 labels or (rows, outputs) numbers, where they are used."""

    X: Tensor
    y: Tensor

    @property
    def task(self) -> Task:
        """What y holds."""
        return "numbers" if self.y.is_floating_point() else "labels"

    def __len__(self) -> int:
        return len(self.X)

    def rows(self, chosen: Tensor) -> Data:
        """The rows at these positions."""
        at = chosen.to(self.X.device)
        return Data(self.X[at], self.y[at])

    def to(self, device: torch.device) -> Data:
        """The same on another device."""
        return Data(self.X.to(device), self.y.to(device))

    def batches(self, size: int, rng: torch.Generator | None) -> Iterator[Data]:
        """Parts of `size` rows, the last perhaps smaller, in an order from `rng` (None: as is)."""
        n = len(self)
        order = torch.arange(n) if rng is None else torch.randperm(n, generator=rng)
        for part in order.split(size):
            yield self.rows(part)


def prepared(X: Any, y: Any, module: nn.Module, what: str = "X") -> Data:
    """X and y as tensors that fit each other, in the module's dtype and on its device."""
    inputs, targets = _tensor(X, what), _tensor(y, "y")
    if inputs.dim() < 2:
        raise WrongShape(
            f"{what} is one row an entry of its first axis, (rows, *input), and its shape is "
            f"{tuple(inputs.shape)}"
        )
    if len(inputs) != len(targets):
        raise WrongShape(f"{what} has {len(inputs)} rows and y has {len(targets)}: give one each")
    if not len(inputs):
        raise EmptyData(f"{what} has no rows: give at least one")
    kind, place = like(module)
    inputs = inputs.to(kind)
    _finite(inputs, what)
    if targets.is_floating_point():
        targets = targets.to(kind)
        _finite(targets, "y")
        return Data(inputs, targets[:, None] if targets.dim() == 1 else targets).to(place)
    if targets.dim() != 1:
        raise WrongShape(f"labels are one a row, (rows,), and y's shape is {tuple(targets.shape)}")
    return Data(inputs, targets.to(torch.int64)).to(place)


def like(module: nn.Module) -> tuple[torch.dtype, torch.device]:
    """Dtype and device of the first parameter to train; ModelError if there is none."""
    for parameter in module.parameters():
        if parameter.is_floating_point() and parameter.requires_grad:
            return parameter.dtype, parameter.device
    raise ModelError(NOTHING)


def checked_outputs(module: nn.Module, data: Data) -> None:
    """A trial of two rows: the module takes X, and its outputs fit y; else DataError."""
    back = modes(module)
    try:
        with torch.no_grad():
            out = module.eval()(data.X[:2])
    except RuntimeError as error:
        raise WrongShape(
            f"the module does not take rows of shape {tuple(data.X.shape[1:])}: {error}"
        ) from error
    finally:
        back()
    if not isinstance(out, Tensor) or out.dim() != 2:
        raise WrongShape(
            f"the module's outputs are (rows, outputs), and here "
            f"{tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__}"
        )
    if data.task == "labels":
        _labels(data.y, out.shape[1])
    elif data.y.shape[1] != out.shape[1]:
        raise WrongShape(
            f"y has {data.y.shape[1]} numbers a row and the module {out.shape[1]} outputs"
        )


def _labels(y: Tensor, outputs: int) -> None:
    """Whole numbers from 0, of two classes at least; one output stands for two classes."""
    found = torch.unique(y)
    classes = 2 if outputs == 1 else outputs
    if len(found) < 2:
        raise DataError(
            f"every label is {int(found[0])}: a classifier needs rows of at least two classes"
        )
    if int(found[0]) < 0 or int(found[-1]) >= classes:
        raise DataError(
            f"labels run from {int(found[0])} to {int(found[-1])}, and a module with {outputs} "
            f"output{'s' * (outputs > 1)} takes 0 .. {classes - 1}: number the classes from 0"
        )


def held_out(data: Data, share: float, rng: torch.Generator) -> tuple[Data, Data]:
    """(to learn from, held out): `share` of the rows at random, of each class where y is labels."""
    if not (is_number(share) and 0 < share < 1):
        raise DataError(f"`validation` is a share between 0 and 1, or (X, y), and it is {share!r}")
    order = torch.randperm(len(data), generator=rng)
    if data.task == "labels":  # by class, and within each in the random order
        order = order[torch.argsort(data.y[order].cpu(), stable=True)]
        chosen = torch.zeros(len(data), dtype=torch.bool)
        for part in order.split(torch.bincount(data.y[order].cpu()).tolist()):
            chosen[part[: math.floor(share * len(part) + 0.5)]] = True
    else:
        chosen = torch.zeros(len(data), dtype=torch.bool)
        chosen[order[: math.floor(share * len(data) + 0.5)]] = True
    if bool(chosen.all()) or not bool(chosen.any()):
        raise DataError(
            f"`validation` = {share:g} of {len(data)} rows leaves one side with no row: "
            f"give more rows, or rows of their own as (X, y)"
        )
    return data.rows((~chosen).nonzero()[:, 0]), data.rows(chosen.nonzero()[:, 0])


def _tensor(values: Any, what: str) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach()
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise DataError(
            f"{what} is to be numbers, and its dtype is {array.dtype}: number classes from 0"
        )
    return torch.from_numpy(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="))))


def _finite(values: Tensor, what: str) -> None:
    bad = (~torch.isfinite(values)).flatten(1).any(1) if values.dim() > 1 else ~values.isfinite()
    if bool(bad.any()):
        rows = tuple(int(i) for i in bad.nonzero()[:, 0])
        shown = ", ".join(map(str, rows[:10])) + (f" and {len(rows) - 10} more" * (len(rows) > 10))
        raise BadRows(
            f"{what} holds NaN or infinity in rows {shown}: repair or leave out these rows", rows
        )
