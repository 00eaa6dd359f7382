"""Networks whose gates and values are apart, to train: DGN, DLGN and their kin.

Each name is imported when it is asked for: `import gatewise` stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatewise.door import door

if TYPE_CHECKING:
    from gatewise.models.convolutional import ConvDGN, ConvDLGN, ConvReLUNet, Layout
    from gatewise.models.dgn import DGN, ReLUNet
    from gatewise.models.dlgn import DLGN, DLGNShallow
    from gatewise.models.estimators import DLGNClassifier, DLGNRegressor
    from gatewise.models.fitting import Epoch, History, fit
    from gatewise.models.gates import Gate
    from gatewise.models.layouts import c4gap, resnet_like, vgg_like
    from gatewise.models.oblique import ObliqueTree
    from gatewise.models.regimes import (
        Decoupled,
        decoupled,
        dnpfl,
        flnpf,
        frnpf,
        gate_permutations,
        permuted,
    )
    from gatewise.models.towers import GatedNetwork, ReLUNetwork
    from gatewise.models.tree import dlgn_to_tree
    from gatewise.models.weights import initialise

WHERE = {
    "ConvDGN": "convolutional",
    "ConvDLGN": "convolutional",
    "ConvReLUNet": "convolutional",
    "DGN": "dgn",
    "DLGN": "dlgn",
    "DLGNClassifier": "estimators",
    "DLGNRegressor": "estimators",
    "DLGNShallow": "dlgn",
    "Decoupled": "regimes",
    "Epoch": "fitting",
    "Gate": "gates",
    "GatedNetwork": "towers",
    "History": "fitting",
    "Layout": "convolutional",
    "ObliqueTree": "oblique",
    "ReLUNet": "dgn",
    "ReLUNetwork": "towers",
    "c4gap": "layouts",
    "decoupled": "regimes",
    "dlgn_to_tree": "tree",
    "dnpfl": "regimes",
    "fit": "fitting",
    "flnpf": "regimes",
    "frnpf": "regimes",
    "gate_permutations": "regimes",
    "initialise": "weights",
    "permuted": "regimes",
    "resnet_like": "layouts",
    "vgg_like": "layouts",
}

__all__ = [
    "DGN",
    "DLGN",
    "ConvDGN",
    "ConvDLGN",
    "ConvReLUNet",
    "DLGNClassifier",
    "DLGNRegressor",
    "DLGNShallow",
    "Decoupled",
    "Epoch",
    "Gate",
    "GatedNetwork",
    "History",
    "Layout",
    "ObliqueTree",
    "ReLUNet",
    "ReLUNetwork",
    "c4gap",
    "decoupled",
    "dlgn_to_tree",
    "dnpfl",
    "fit",
    "flnpf",
    "frnpf",
    "gate_permutations",
    "initialise",
    "permuted",
    "resnet_like",
    "vgg_like",
]


__getattr__, __dir__ = door(__name__, WHERE)
