"""A plain list of (W, b) -> Network: y = W_n act(... act(W_1 x + b_1) ...) + b_n."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatewise.errors import ModelError, UnsupportedLayer
from gatewise.ir.network import Network
from gatewise.ops import TORCH
from gatewise.ops.builder import Builder, Ref
from gatewise.read.check import check_reading

Layer = tuple[Tensor, Tensor | None]


def read_weights(layers: Sequence[Any], activation: str = "relu") -> Network:
    """The network of dense layers (W, b), W (out, in) as torch has it, `activation` between them.

    b may be None. Shapes that fit only with every W transposed (in, out) are refused.
    """
    pairs = [_layer(k, item) for k, item in enumerate(layers)]
    if not pairs:
        raise ModelError("the list of (W, b) is empty: pass at least one layer")
    _require_chain(pairs)
    b = Builder((1, pairs[0][0].shape[1]))
    value = b.input
    for k, (weight, bias) in enumerate(pairs):
        value = _call(b, "linear", f"{k}", value, weight, bias)
        if k + 1 < len(pairs):
            value = _call(b, activation, f"{k}.{activation}", value)
    if all(w.shape[0] == w.shape[1] for w, _ in pairs):
        b.notes.append("every W is square: each was taken as (out, in), y = W x + b")
    return check_reading(b.finish(value), _source(pairs, activation), source="the listed weights")


def is_weights(model: Any) -> bool:
    """Is it a list of pairs (anything else in it is explained by `read_weights`)?"""
    return isinstance(model, list | tuple)


def _call(b: Builder, op: str, path: str, *args: Any) -> Ref:
    """The table's entry for an aten operator, applied."""
    b.at(path, op)
    if op not in TORCH:
        raise UnsupportedLayer(
            f"activation={op!r} is not in the table: use 'relu', 'tanh' or another of torch's names"
        )
    entry, adapter = TORCH[op]
    b.at(path, entry.name)
    result = adapter(b, *args)
    assert isinstance(result, Ref)
    return result


def _layer(k: int, item: Any) -> Layer:
    """One (W, b) as float64 tensors."""
    if not isinstance(item, list | tuple) or len(item) != 2:
        raise ModelError(
            f"layer {k} of the list is {_what(item)}, not a pair (W, b): give every layer its "
            f"bias, or None for it"
        )
    weight = _numbers(k, "W", item[0])
    bias = None if item[1] is None else _numbers(k, "b", item[1])
    if weight.ndim != 2:
        raise ModelError(
            f"W of layer {k} has shape {tuple(weight.shape)}, not (out, in): pass it as a matrix"
        )
    return weight, bias


def _what(item: Any) -> str:
    size = f" of {len(item)}" if isinstance(item, list | tuple) else ""
    return f"a {type(item).__name__}{size}"


def _numbers(k: int, name: str, value: Any) -> Tensor:
    try:
        # through numpy, since torch would round Python numbers to float32
        tensor = value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))
        tensor = tensor.detach().cpu().double()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{name} of layer {k} is not an array of numbers ({type(value).__name__}): {error}"
        ) from error
    if not tensor.isfinite().all():
        raise ModelError(f"{name} of layer {k} holds NaN or infinity: check how it was trained")
    return tensor.clone()


def _require_chain(pairs: list[Layer]) -> None:
    """Each W takes what the one before gives; where only the transposes do, say so."""
    misfit = _misfit(pairs)
    if misfit is None:
        return
    if _misfit([(w.T, b) for w, b in pairs]) is None:
        raise ModelError(
            f"{misfit}, but the shapes fit with every W transposed: these are (in, out), as "
            f"scikit-learn's coefs_ are, and (out, in) is needed, so pass (W.T, b)"
        )
    raise ModelError(f"{misfit}: W must be (out, in) and b (out,)")


def _misfit(pairs: list[Layer]) -> str | None:
    """The first thing that does not fit, as a clause."""
    for k, (weight, bias) in enumerate(pairs):
        if bias is not None and bias.shape != weight.shape[:1]:
            return f"W of layer {k} has shape {tuple(weight.shape)} and its b {tuple(bias.shape)}"
        if k and weight.shape[1] != pairs[k - 1][0].shape[0]:
            return (
                f"layer {k - 1} gives {pairs[k - 1][0].shape[0]} values and W of layer {k} has "
                f"shape {tuple(weight.shape)}"
            )
    return None


def _source(pairs: list[Layer], activation: str) -> Callable[[Tensor], Tensor]:
    """The same written out, for the check."""

    def run(x: Tensor) -> Tensor:
        y = x.flatten(1)
        for k, (weight, bias) in enumerate(pairs):
            y = y @ weight.T if bias is None else y @ weight.T + bias
            if k + 1 < len(pairs):
                y = getattr(torch.ops.aten, activation)(y)
        return y

    return run
