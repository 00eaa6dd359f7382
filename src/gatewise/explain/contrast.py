"""contrast(exp, a, b): f_a - f_b is piecewise affine on the same regions, and explained as such."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gatewise.errors import DataError
from gatewise.explain.compute import certificate
from gatewise.explain.names import output_index, output_names
from gatewise.ir.kinds import Affine, Smooth
from gatewise.ir.network import Network, Node
from gatewise.tables import listed

if TYPE_CHECKING:
    from gatewise.explain.explanation import Explanation


def contrast(exp: Explanation, one: int | str, other: int | str) -> Explanation:
    """The Explanation of f_one - f_other: one output, of a network with that last step.

    For the logits of a softmax it is exactly log(p_one / p_other), and the sigmoid of it is the
    network's head. Coefficients are differences of the two outputs' own; clusters, regions and
    margins are the same. Raises DataError where there is only one output, or both are the same.
    """
    names = output_names(exp.network)
    if len(names) == 1:
        raise DataError(
            f"a contrast needs two outputs, and the network has one ({names[0]}): its value is "
            "already what sets the two apart"
        )
    a, b = output_index(one, names), output_index(other, names)
    if a == b:
        raise DataError(f"'{names[a]}' against itself is 0: name two of {listed(names)}")
    network = difference(exp.network, a, b)
    return _explained(exp, network, [a, b])


def _explained(exp: Explanation, network: Network, pair: list[int]) -> Explanation:
    first, second = (exp.census.output[:, [k]] for k in pair)
    found = replace(exp.census, network=network, output=first - second)
    sign = torch.tensor([1.0, -1.0], dtype=network.dtype, device=network.device)
    weight, offset = exp.census.maps.rows(pair)
    weight, offset = (torch.einsum("co...,o->c...", t, sign)[:, None] for t in (weight, offset))
    error, bound = certificate(found, network.rows(exp.data), weight, offset, [0])
    return replace(
        exp,
        network=network,
        census=found,
        outputs=(0,),
        output_names=network.output_names,
        coefficients=weight.cpu().numpy(),
        intercepts=offset.cpu().numpy(),
        error=error,
        bound=bound,
    )


def difference(network: Network, a: int, b: int) -> Network:
    """The network f_a - f_b; where a softmax was set aside, a sigmoid is: p_a / (p_a + p_b)."""
    names = output_names(network)
    weight = torch.zeros(network.outputs, dtype=network.dtype, device=network.device)
    weight[a], weight[b] = 1, -1
    name, title = _free("difference", network), f"{names[a]} - {names[b]}"
    kind = Affine(_subtract, (weight,), terms=2, terms_back=1)
    last = Node(name, "Difference", kind, (network.output,), (1,))
    odds = Node(
        _free("sigmoid", network), "Sigmoid", Smooth(torch.sigmoid, (), 0.25), (name,), (1,)
    )
    return replace(
        network,
        nodes=(*network.nodes, last),
        output=name,
        head=(odds,) if is_softmax(network) else (),
        output_names=(title,),
        classes=(),  # above 0 says one of a pair, and there may be others
        notes=(*network.notes, f"the output is a difference of two: {title}"),
    )


def is_softmax(network: Network) -> bool:
    """Are the outputs logits of a softmax that was set aside?"""
    return bool(network.head) and network.head[0].layer.lower() == "softmax"


def _subtract(weight: Tensor, x: Tensor) -> Tensor:
    """x . weight, where weight is +1 at one output, -1 at another, 0 elsewhere."""
    return (x.reshape(len(x), -1) * weight).sum(1, keepdim=True)


def _free(name: str, network: Network) -> str:
    """A name no node has."""
    taken = {n.name for n in (*network.nodes, *network.head)}
    return next(n for n in (name, *(f"{name}{k}" for k in range(len(taken) + 1))) if n not in taken)
