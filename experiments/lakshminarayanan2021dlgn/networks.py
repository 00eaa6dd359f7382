"""The networks of a run by name, each from the same layers: a ReLU network, a DGN, DLGNs."""

from __future__ import annotations

from torch import nn

from gatewise import models

# name -> (family, value input, permuted?)
NAMES = {
    "DNN": ("relu", "x", False),
    "DLGN": ("dlgn", "x", False),
    "DLGN, constant 1": ("dlgn", "ones", False),
    "DLGN, permuted": ("dlgn", "x", True),
    "DGN": ("dgn", "x", False),
    "DGN, constant 1": ("dgn", "ones", False),
}
HARDENED = "DLGN, hardened"  # the DLGN with gates 1{q > 0}; nothing is trained anew


def dense(c: dict, name: str, seed: int, order: list[int] | None) -> nn.Module:
    """Fully connected: `layers` gated layers of `width` between 64 pixels and 10 digits."""
    family, value_input, _ = NAMES[name]
    sizes = (64, *[c["width"]] * c["layers"], 10)
    if family == "relu":
        return models.ReLUNet(sizes, bias=True, seed=seed)
    kind = models.DGN if family == "dgn" else models.DLGN
    return kind(
        sizes, "sigmoid", c["beta"], value_input=value_input, bias=True, order=order, seed=seed
    )


def layout(c: dict) -> models.Layout:
    """The layers of a convolutional run."""
    if c["layout"] == "c4gap":
        return models.c4gap(c["width"])
    if c["layout"] == "vgg":
        return models.vgg_like(c["width"])
    if c["layout"] == "resnet":
        return models.resnet_like(c["blocks"], c["width"])
    return models.Layout(tuple(c["channels"]), 10, pools=tuple(c["pools"]), bias=True)


def convolutional(c: dict, name: str, seed: int, order: list[int] | None) -> nn.Module:
    """A convolutional network of the run's layout."""
    family, value_input, _ = NAMES[name]
    if family == "relu":
        return models.ConvReLUNet(layout(c), seed=seed)
    kind = models.ConvDGN if family == "dgn" else models.ConvDLGN
    return kind(layout(c), "sigmoid", c["beta"], value_input=value_input, order=order, seed=seed)
