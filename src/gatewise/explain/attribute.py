"""attribute(network, inputs, target, baselines): tensors in, tensors out, as in Captum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatewise.errors import DataError, WrongShape
from gatewise.explain.compute import require_finite
from gatewise.explain.names import output_index, output_names
from gatewise.ir.network import Network, require_piecewise_affine
from gatewise.linear.affine_map import AffineMap
from gatewise.patterns.observe import pattern
from gatewise.tables import counted


def attribute(
    network: Network,
    inputs: Any,
    target: Any = None,
    baselines: Any = None,
    return_convergence_delta: bool = False,
) -> Any:
    """W_target (x - baseline) by the rule of each input's own region, in the shape of `inputs`.

    They sum to the rule at the input less the rule at the baseline. inputs: a tensor (rows,
    *input_shape), or a tuple of one; target: an output by position, by name, or (for outputs of
    several axes) a tuple of positions; or a list, array or tensor with one a row; baselines: a
    number or a tensor that broadcasts, 0 by default. return_convergence_delta: also (rows,) the
    sum less f(x) - f(baseline), which is 0 where both lie in one region. Raises DataError.
    """
    given, alone = _single(inputs)
    require_piecewise_affine(network, "an attribution")
    exact = network.to(torch.float64)
    x = exact.rows(given.detach())
    require_finite(np.arange(len(x)), x.cpu())
    base = _baseline(baselines, given, x)
    chosen = _targets(target, exact, len(x))
    pick = torch.nn.functional.one_hot(chosen, exact.outputs).to(x)
    slope = AffineMap(exact, pattern(exact, x)).rmv(pick).reshape(x.shape)
    found = slope * (x - base)
    require_finite(np.arange(len(x)), found.cpu())
    parts = found.reshape(given.shape).to(given.device, _floating(given))
    answer = parts if alone else (parts,)
    if not return_convergence_delta:
        return answer
    change = ((exact(x) - exact(base.expand_as(x))) * pick).sum(1)
    return answer, (found.flatten(1).sum(1) - change).to(given.device, _floating(given))


def _single(inputs: Any) -> tuple[Tensor, bool]:
    """The one tensor among the inputs, and whether it stood alone."""
    alone = not isinstance(inputs, tuple)
    found = (inputs,) if alone else inputs
    if len(found) != 1 or not isinstance(found[0], Tensor):
        kinds = ", ".join(type(t).__name__ for t in found)
        raise WrongShape(
            f"attribute takes one tensor (rows, *input_shape), got {kinds or 'an empty tuple'}: "
            "for a table call the explainer itself"
        )
    return found[0], alone


def _floating(given: Tensor) -> torch.dtype:
    return given.dtype if given.is_floating_point() else torch.float64


def _baseline(given: Any, inputs: Tensor, x: Tensor) -> Tensor:
    """The baselines in the shape of x, or a sentence."""
    if isinstance(given, tuple) and len(given) == 1:
        given = given[0]
    try:
        base = torch.as_tensor(0.0 if given is None else given, dtype=x.dtype, device=x.device)
        base = base.broadcast_to(inputs.shape).reshape(x.shape)
    except (RuntimeError, TypeError, ValueError):
        shape = tuple(np.shape(given))
        raise WrongShape(
            f"baselines of shape {shape} do not fit inputs of shape {tuple(inputs.shape)}: give a "
            "number, one row, or one baseline a row"
        ) from None
    if not base.isfinite().all():
        raise DataError("baselines hold NaN or infinity: give finite numbers")
    return base


def _targets(target: Any, network: Network, rows: int) -> Tensor:
    """(rows,) the position of the output to attribute, for each row."""
    if target is None:
        if network.outputs > 1:
            raise DataError(
                f"the network has {counted(network.outputs, 'output')}: say which one as target="
            )
        return torch.zeros(rows, dtype=torch.long, device=network.device)
    single = isinstance(target, int | str | tuple | np.integer)
    asked = [target] if single else _listed(target)
    if not single and len(asked) not in (1, rows):
        raise DataError(
            f"target holds {counted(len(asked), 'output')} for {counted(rows, 'row')}: give one "
            "for all, or one a row"
        )
    places = torch.tensor([_place(t, network) for t in asked], device=network.device)
    return places.expand(rows) if len(places) == 1 else places


def _listed(target: Any) -> Sequence[Any]:
    if isinstance(target, Tensor | np.ndarray):
        found: Sequence[Any] = target.reshape(-1).tolist()
        return found
    if not isinstance(target, list):
        raise DataError(
            f"target is a {type(target).__name__}: give an output's position or name, or a list"
        )
    return target


def _place(asked: Any, network: Network) -> int:
    """The flat position of an output; a tuple counts along the output's own axes."""
    if not isinstance(asked, tuple):
        return output_index(asked, output_names(network))
    axes = network.output_shape[-len(asked) :] if asked else ()
    inside = all(isinstance(i, int) and -n <= i < n for i, n in zip(asked, axes, strict=False))
    if len(axes) != len(asked) or math.prod(axes) != network.outputs or not inside:
        raise DataError(
            f"no output {asked!r}: the outputs have shape {network.output_shape[1:]} a row"
        )
    return int(np.ravel_multi_index([i % n for i, n in zip(asked, axes, strict=True)], axes))
