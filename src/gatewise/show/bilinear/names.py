"""Which bilinear layer is shown, which of its outputs, their names, and how inputs are drawn."""

from __future__ import annotations

import re

import numpy as np

from gatewise.bilinear.layer import BilinearLayer
from gatewise.bilinear.quadratic import forms
from gatewise.bilinear.reading import bilinear_layers
from gatewise.errors import DataError, NotBilinear
from gatewise.explain import truth
from gatewise.explain.names import output_index, output_names
from gatewise.ir.kinds import Smooth
from gatewise.ir.network import INPUT, Network
from gatewise.show.bilinear import parts
from gatewise.tables import counted, listed

SHOWN = 10  # outputs, unless they are asked for by name

# -- which layer --


def layer_of(
    network: Network, name: str | None, notes: list[str]
) -> tuple[tuple[str, ...], BilinearLayer]:
    """The names of all bilinear layers, and the one asked for, or the last."""
    try:
        found = bilinear_layers(network, strict=False)
    except NotBilinear as why:
        raise NotBilinear(f"{why}{_instead(network)}") from None
    names = tuple(layer.name for layer in found)
    if name is not None and name not in names:
        raise DataError(
            f"no bilinear layer '{name}': the network has {listed([repr(n) for n in names])}"
        )
    layer = found[-1] if name is None else found[names.index(name)]
    if len(found) > 1 and name is None:
        notes.append(
            f"of {counted(len(found), 'bilinear layer')}, this is the last; --layer names another: "
            f"{listed([repr(n) for n in names])}"
        )
    return names, layer


def _instead(network: Network) -> str:
    """What else there is for a network without a bilinear layer."""
    if network.gates:
        gates = ", ".join(dict.fromkeys(node.layer for node in network.gates))
        return (
            f": its nonlinearity is {gates}, whose regions `gatewise explain` shows; "
            "gw.bilinear.to_bilinear makes bilinear layers of it"
        )
    smooth = ", ".join(dict.fromkeys(n.layer for n in network.nodes if isinstance(n.kind, Smooth)))
    if smooth:
        return f": its nonlinearity is {smooth}; gw.bilinear.to_bilinear makes it bilinear"
    return ""


# -- names and shapes --


def of_outputs(
    network: Network,
    layer: BilinearLayer,
    final: bool,
    target: truth.Target | None,
    reading: truth.Reading | None,
) -> tuple[str, ...]:
    """The network's names, else the labels that its outputs mean, else numbers of the value."""
    if not final:
        return tuple(f"{layer.target}[{i}]" for i in range(layer.outputs))
    if network.output_names:
        return tuple(network.output_names)
    if network.classes and len(network.classes) == network.outputs:
        return tuple(network.classes)
    if target and reading and network.outputs > 1:
        codes = reading.codes
        return tuple(target.names[c] if c >= 0 else f"y{i}" for i, c in enumerate(codes))
    return output_names(network)


def chosen_of(
    view: BilinearLayer, names: tuple[str, ...], asked: tuple[str, ...], notes: list[str]
) -> tuple[int, ...]:
    """Outputs asked for, else all, else those with the largest form."""
    if asked:
        return tuple(dict.fromkeys(output_index(o, names, "the layer has") for o in asked))
    if len(names) <= SHOWN:
        return tuple(range(len(names)))
    size = parts.numbers(forms(view).norms())
    largest = np.argsort(-size, kind="stable")[:SHOWN]
    notes.append(
        f"of {len(names):,} outputs, the {SHOWN} with the largest form are shown: --outputs names "
        "others"
    )
    return tuple(int(u) for u in largest)


def of_inputs(view: BilinearLayer, columns: tuple[str, ...]) -> tuple[str, ...]:
    """Columns of the network's input; numbers of the value that is read, where it is another."""
    if view.source == INPUT and len(columns) == view.inputs:
        return columns
    return tuple(f"{view.source}[{j}]" for j in range(view.inputs))


def image_size(
    network: Network, view: BilinearLayer, asked: tuple[int, int] | None
) -> tuple[int, int] | None:
    """Height and width to draw what is read in: asked for, or the network's own."""
    if asked is not None:
        if asked[0] * asked[1] != view.inputs:
            raise DataError(
                f"--image {asked[0]}x{asked[1]} has {asked[0] * asked[1]:,} pixels, and the layer "
                f"reads {counted(view.inputs, 'number')} ('{view.source}')"
            )
        return asked
    shape = tuple(n for n in network.input_shape if n > 1)
    if view.source == INPUT and len(shape) == 2 and shape[0] * shape[1] == view.inputs:
        return shape[0], shape[1]
    return None


def names_of(text: str | None) -> tuple[str, ...]:
    """Names from "a,b"."""
    return () if text is None else tuple(name.strip() for name in text.split(","))


def image_of(text: str | None) -> tuple[int, int] | None:
    """(height, width) from "28x28"."""
    if text is None:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,3})x([1-9][0-9]{0,3})", text)
    if not found:
        raise DataError(f"--image is HEIGHTxWIDTH, as 28x28, got '{text}'")
    return int(found[1]), int(found[2])
