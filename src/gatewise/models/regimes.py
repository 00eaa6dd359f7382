"""Where the gates come from, and what is trained: the regimes of arXiv:2006.10529.

FRNPF   random gates, frozen: independent of the values' start (II) or drawn the same (DI)
FLNPF   the gates of a trained network, frozen; values learnt anew
DNPFL   gates and values in two towers, both trained through soft gates
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from gatewise.errors import UnsupportedLayer
from gatewise.models.gates import Gate
from gatewise.models.towers import GatedNetwork, ReLUNetwork, ValueInput, Wiring
from gatewise.models.weights import Init, initialise


class Decoupled(GatedNetwork):
    """A ReLU network taken apart: copies of its layers make the gates, others the values."""

    def passed_on(self, q: Tensor) -> Tensor:
        """relu(q)."""
        return F.relu(q)


def decoupled(net: nn.Module) -> GatedNetwork:
    """A copy of a gated network, or a ReLU network's layers in both towers, with hard gates.

    `net`: a network of gatewise.models, or a Sequential of Linear, ReLU, .., Linear. A ReLU
    network and what is made of it compute the same.
    """
    if isinstance(net, GatedNetwork):
        return copy.deepcopy(net)
    if isinstance(net, nn.Sequential):
        net = _read_sequential(net)
    if not isinstance(net, ReLUNetwork):
        raise UnsupportedLayer(
            f"a {type(net).__name__} cannot be taken apart: give a network of gatewise.models, or "
            f"a Sequential of Linear, ReLU, .., Linear"
        )
    features, values = (list(copy.deepcopy(net.values)) for _ in range(2))
    return Decoupled(features[:-1], values, net.wiring, Gate("hard"))


def _read_sequential(net: nn.Sequential) -> ReLUNetwork:
    """Linear, ReLU, Linear, .., Linear as a ReLUNetwork of the same layers."""
    layers = list(net)
    for i, layer in enumerate(layers):
        if not isinstance(layer, nn.ReLU if i % 2 else nn.Linear):
            raise UnsupportedLayer(
                f"layer {i} of the Sequential is {type(layer).__name__}, where Linear, ReLU, .., "
                f"Linear take turns: give a network of gatewise.models for other layers"
            )
    if len(layers) < 3 or len(layers) % 2 == 0:
        raise UnsupportedLayer(
            f"the Sequential has {len(layers)} layers: Linear, ReLU, .., Linear take turns"
        )
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    return ReLUNetwork(linear, Wiring.plain([layer.out_features for layer in linear[:-1]]))


def frnpf(
    net: nn.Module, dependent: bool = False, *, init: Init = "glorot", seed: int | None = None
) -> GatedNetwork:
    """Fixed random features: net's layers drawn anew, the feature tower frozen, hard gates.

    dependent: the values start from the features' own weights (DI); else independently (II).
    """
    new = decoupled(net).hardened()
    initialise(new, init, seed=seed)  # the features come first, then the values
    if dependent:
        for feature, value in zip(new.features, new.values, strict=False):
            value.load_state_dict(feature.state_dict())
    return new.freeze_features()


def flnpf(
    trained: nn.Module,
    *,
    value_input: ValueInput = "x",
    order: Sequence[int] | None = None,
    init: Init = "glorot",
    seed: int | None = None,
) -> GatedNetwork:
    """Fixed learnt features: the gates of a trained network, frozen and hard; values drawn anew."""
    new = permuted(decoupled(trained).hardened(), order)
    new.value_input = value_input
    initialise(new.values, init, seed=seed)
    return new.freeze_features()


def dnpfl(
    net: nn.Module,
    *,
    beta: float = 4.0,
    epsilon: float = 0.1,
    init: Init = "glorot",
    seed: int | None = None,
) -> GatedNetwork:
    """Decoupled learning: both towers drawn anew and trained, gates (1 + eps) sigmoid(beta q).

    The feature tower of a ReLU network keeps its ReLUs; its pre-activations feed the soft gates.
    """
    new = decoupled(net)
    new.gate = Gate("scaled_sigmoid", beta, epsilon)
    initialise(new, init, seed=seed)
    return new


def permuted(net: GatedNetwork, order: Sequence[int] | None) -> GatedNetwork:
    """A copy whose value layer l is masked by gate layer order[l]; None leaves net's own order.

    The neural path kernel is a product over layers, and so is the same for every order.
    """
    if not isinstance(net, GatedNetwork):
        raise UnsupportedLayer(
            f"a {type(net).__name__} has no gate layers to change places: give a DGN, a DLGN, or "
            f"what decoupled(net) returns"
        )
    new = copy.deepcopy(net)
    if order is not None:
        new.order = net.wiring.ordered(order)
    return new


def gate_permutations(net: GatedNetwork | ReLUNetwork) -> Iterator[tuple[int, ...]]:
    """Every order but the layers' own: permutations among layers of equal shapes.

    23 for four layers of one width. Made one at a time: their number is a product of factorials.
    """
    if not isinstance(net, GatedNetwork | ReLUNetwork):
        raise UnsupportedLayer(
            f"a {type(net).__name__} has no gate layers to change places: give a network of "
            f"gatewise.models"
        )
    shapes = net.wiring.shapes
    own = tuple(range(len(shapes)))
    return (order for order in _orders(shapes, own) if order != own)


def _orders(shapes: Sequence[tuple[int, ...]], left: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Ways to give the last len(left) layers the gates `left`, each to a layer of its shape."""
    if not left:
        yield ()
        return
    layer = len(shapes) - len(left)
    for i, gate in enumerate(left):
        if shapes[gate] == shapes[layer]:
            for rest in _orders(shapes, left[:i] + left[i + 1 :]):
                yield (gate, *rest)
