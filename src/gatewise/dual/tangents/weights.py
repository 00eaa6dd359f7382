"""Which numbers of a network count as its weights, and which uses share them.

A weight layer is an Affine with `taps`; a scale by a vector behind it (a batch norm in evaluation)
is a diagonal weight; a constant added straight behind one that has no bias is its bias. Fixed
coefficients (2 x, a mean, a mask, what stands before the first weight) are none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gatewise.errors import DataError, UnsupportedLayer
from gatewise.ir.kinds import Affine, Kind, Pieces, Smooth, scale
from gatewise.ir.network import Network, Node
from gatewise.tables.words import listed

Form = Literal["matrix", "scale", "bias"]
HOLD_WEIGHTS = {"Linear", "MatMul", "Gemm", "Einsum", "Conv", "ConvTranspose"}


@dataclass(frozen=True)
class Weight:
    """One set of numbers theta: a matrix (its bias with it), a scale, or a bias alone.

    nodes: those that use it, several where it is tied; size: how many numbers it is.
    """

    form: Form
    nodes: tuple[str, ...]
    with_bias: bool
    size: int


@dataclass(frozen=True)
class Weights:
    """All that counts, and in words what was left out or taken as one."""

    weights: tuple[Weight, ...]
    notes: tuple[str, ...]

    @property
    def nodes(self) -> set[str]:
        """Every node at which something counts."""
        return {name for w in self.weights for name in w.nodes}

    @property
    def size(self) -> int:
        """The number of parameters."""
        return sum(w.size for w in self.weights)


def weights_of(
    network: Network, nodes: str | Iterable[str] | None = None, tied: bool = True
) -> Weights:
    """The weights of a network, or of the named nodes alone; equal ones are one, if `tied`."""
    forms, live = _forms(network), _live(network)
    behind_steps = [name for name in forms if name not in live]
    forms = {name: form for name, form in forms.items() if name in live}
    if nodes is not None:
        forms = _only(forms, [nodes] if isinstance(nodes, str) else list(nodes))
    held = {name: _affine(network.node(name).kind) for name in forms}
    groups = _groups(forms, held, tied)
    if not groups:
        raise DataError("the network has no weights to differentiate by: nothing but fixed moves")
    found = [w for form, group in groups for w in _weights(form, group, held)]
    notes = _left_out(network, {*forms, *behind_steps}) + _tied_notes(groups)
    if behind_steps:
        notes.append(f"nothing flows back, through steps: {listed(behind_steps)}")
    return Weights(tuple(found), tuple(notes))


def _forms(network: Network) -> dict[str, Form]:
    """What each node that counts holds; a layer whose weights cannot be read is refused."""
    forms: dict[str, Form] = {}
    behind: set[str] = set()
    for node in network.nodes:
        form = _form(node, network, forms, behind)
        if form is not None:
            forms[node.name] = form
        if node.name in forms or behind.intersection(node.inputs):
            behind.add(node.name)
    return forms


def _live(network: Network) -> set[str]:
    """Nodes that something flows back to from the output: not those behind steps alone."""
    live = {network.output}
    for node in reversed(network.nodes):
        step = isinstance(node.kind, Pieces) and node.kind.constant
        if node.name in live and not step:
            live.update(node.inputs)
    return live


def _form(node: Node, network: Network, forms: dict[str, Form], behind: set[str]) -> Form | None:
    kind = node.kind
    if not isinstance(kind, Affine):
        return None
    if kind.taps is not None:
        return "matrix"
    if not kind.weights and kind.bias is not None and len(node.inputs) == 1:
        return "bias" if _lacks_bias(network, node.inputs[0], forms) else None
    if kind.rule is scale and node.layer == "BatchNorm":
        return "scale"
    if kind.rule is scale and _learnt(kind.weights[0]):
        return "scale" if behind.intersection(node.inputs) else None
    if node.layer in HOLD_WEIGHTS and any(w.is_floating_point() for w in kind.weights):
        raise UnsupportedLayer(
            f"node '{node.name}' ({node.layer}) holds weights that are not one matrix over taps "
            f"(groups, a transposed or batched product): the tangent kernel takes dense layers and "
            f"ungrouped convolutions; name the others in nodes= to leave it out"
        )
    return None


def _affine(kind: Kind) -> Affine:
    assert isinstance(kind, Affine)
    return kind


def _lacks_bias(network: Network, name: str, forms: dict[str, Form]) -> bool:
    kind = network.node(name).kind if name in forms else None
    return isinstance(kind, Affine) and kind.bias is None and forms[name] == "matrix"


def _learnt(factor: Tensor) -> bool:
    """A vector that is not a mask."""
    return factor.numel() > 1 and not bool(((factor == 0) | (factor.abs() == 1)).all())


def _only(forms: dict[str, Form], nodes: list[str]) -> dict[str, Form]:
    unknown = [name for name in nodes if name not in forms]
    if unknown:
        raise DataError(
            f"nodes= names nodes without weights: {listed(unknown)}; those with weights are "
            f"{listed(list(forms))}"
        )
    return {name: forms[name] for name in nodes}


# -- ties --

Group = list[str]
Held = dict[str, Affine]


def _groups(forms: dict[str, Form], held: Held, tied: bool) -> list[tuple[Form, Group]]:
    """Nodes whose main numbers are the same, in order of their first use."""
    groups: list[tuple[Form, Group]] = []
    for name, form in forms.items():
        for other, group in groups if tied else []:
            _refuse_turned(group[0], name, held)
            if other == form and _same(_main(held[group[0]]), _main(held[name])):
                group.append(name)
                break
        else:
            groups.append((form, [name]))
    return groups


def _refuse_turned(first: str, name: str, held: Held) -> None:
    a, b = (_main(held[n]) for n in (first, name))
    if a.ndim == b.ndim == 2 and not _same(a, b) and a.shape == b.mT.shape and _same(a, b.mT):
        raise UnsupportedLayer(
            f"the weight of node '{name}' is that of '{first}' transposed: tied weights count "
            f"once where all uses have one shape; pass tied=False to count them as two"
        )


def _main(kind: Affine) -> Tensor:
    main = kind.weights[0] if kind.weights else kind.bias
    assert main is not None
    return main


def _same(a: Tensor, b: Tensor) -> bool:
    """Equal number for number, and not by being one plain number, as fresh biases are."""
    if a.shape != b.shape or not torch.equal(a, b):
        return False
    first = float(a.reshape(-1)[0])
    return bool((a != first).any()) or (a.numel() == 1 and first not in (0.0, 1.0, -1.0))


def _weights(form: Form, group: Group, held: Held) -> list[Weight]:
    """A matrix takes its bias along where each use adds the same one number a row."""
    main = _main(held[group[0]])
    if form == "bias":
        return [Weight("bias", tuple(group), False, main.numel())]
    biases = {name: b for name in group if (b := held[name].bias) is not None}
    alike = len(biases) == len(group) and all(
        torch.equal(b, biases[group[0]]) for b in biases.values()
    )
    if form == "matrix" and alike and biases[group[0]].numel() == len(main):
        return [Weight("matrix", tuple(group), True, main.numel() + len(main))]
    apart = [tuple(group)] if alike else [(name,) for name in biases]
    own = [Weight("bias", names, False, biases[names[0]].numel()) for names in apart]
    return [Weight(form, tuple(group), False, main.numel()), *own]


# -- words --


def _left_out(network: Network, counted: set[str]) -> list[str]:
    """What holds numbers that might have been trained, and is not counted."""
    names = [n.name for n in network.nodes if n.name not in counted and _holds(n)]
    return [f"not counted as weights: {listed(names)}"] if names else []


def _holds(node: Node) -> bool:
    kind = node.kind
    if isinstance(kind, Pieces):
        return node.layer == "PReLU"
    if not isinstance(kind, Affine | Smooth):
        return False
    bias = kind.bias if isinstance(kind, Affine) else None
    held = [*kind.weights, *([] if bias is None else [bias])]
    return any(w.is_floating_point() and w.numel() > 1 for w in held)


def _tied_notes(groups: list[tuple[Form, Group]]) -> list[str]:
    return [f"equal, so counted once (tied): {listed(g)}" for _, g in groups if len(g) > 1]
