"""Networks to train: gates apart from values (DGNs), bilinear ones, linear chains; as estimators.

Each name is imported when it is asked for: `import gatewise` stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatewise.door import door

if TYPE_CHECKING:
    from gatewise.models.bilinear.annealing import anneal_beta, annealed, gaussian_noise
    from gatewise.models.bilinear.fitting import fit_bilinear
    from gatewise.models.bilinear.layers import GLU, BilinearMLP
    from gatewise.models.chain import LinearChain
    from gatewise.models.convolutional import ConvDGN, ConvDLGN, ConvReLUNet, Layout
    from gatewise.models.dgn import DGN, ReLUNet
    from gatewise.models.dlgn import DLGN, DLGNShallow
    from gatewise.models.estimators.bilinear import BilinearClassifier, BilinearRegressor
    from gatewise.models.estimators.dlgn import DLGNClassifier, DLGNRegressor
    from gatewise.models.fitting import Epoch, History, fit
    from gatewise.models.gates import Gate
    from gatewise.models.layouts import c4gap, resnet_like, vgg_like
    from gatewise.models.linearised import Linearised, linearise_weights
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
    from gatewise.models.regressions import Regressions, fit_by_regressions
    from gatewise.models.study.chains import Chains
    from gatewise.models.study.descent import Descent, descend
    from gatewise.models.study.moments import Moments
    from gatewise.models.study.saddles import Diagnosis, diagnose
    from gatewise.models.towers import GatedNetwork, ReLUNetwork
    from gatewise.models.transformers.fitting import fit_next_token
    from gatewise.models.transformers.network import BilinearTransformer
    from gatewise.models.tree import dlgn_to_tree
    from gatewise.models.weights import initialise

WHERE = {
    "BilinearClassifier": "estimators.bilinear",
    "BilinearMLP": "bilinear.layers",
    "BilinearRegressor": "estimators.bilinear",
    "BilinearTransformer": "transformers.network",
    "Chains": "study.chains",
    "ConvDGN": "convolutional",
    "ConvDLGN": "convolutional",
    "ConvReLUNet": "convolutional",
    "DGN": "dgn",
    "DLGN": "dlgn",
    "DLGNClassifier": "estimators.dlgn",
    "DLGNRegressor": "estimators.dlgn",
    "DLGNShallow": "dlgn",
    "Decoupled": "regimes",
    "Descent": "study.descent",
    "Diagnosis": "study.saddles",
    "Epoch": "fitting",
    "GLU": "bilinear.layers",
    "Gate": "gates",
    "GatedNetwork": "towers",
    "History": "fitting",
    "Layout": "convolutional",
    "LinearChain": "chain",
    "Linearised": "linearised",
    "Moments": "study.moments",
    "ObliqueTree": "oblique",
    "ReLUNet": "dgn",
    "ReLUNetwork": "towers",
    "Regressions": "regressions",
    "anneal_beta": "bilinear.annealing",
    "annealed": "bilinear.annealing",
    "c4gap": "layouts",
    "decoupled": "regimes",
    "descend": "study.descent",
    "diagnose": "study.saddles",
    "dlgn_to_tree": "tree",
    "dnpfl": "regimes",
    "fit": "fitting",
    "fit_bilinear": "bilinear.fitting",
    "fit_by_regressions": "regressions",
    "fit_next_token": "transformers.fitting",
    "flnpf": "regimes",
    "frnpf": "regimes",
    "gate_permutations": "regimes",
    "gaussian_noise": "bilinear.annealing",
    "initialise": "weights",
    "linearise_weights": "linearised",
    "permuted": "regimes",
    "resnet_like": "layouts",
    "vgg_like": "layouts",
}

__all__ = [
    "DGN",
    "DLGN",
    "GLU",
    "BilinearClassifier",
    "BilinearMLP",
    "BilinearRegressor",
    "BilinearTransformer",
    "Chains",
    "ConvDGN",
    "ConvDLGN",
    "ConvReLUNet",
    "DLGNClassifier",
    "DLGNRegressor",
    "DLGNShallow",
    "Decoupled",
    "Descent",
    "Diagnosis",
    "Epoch",
    "Gate",
    "GatedNetwork",
    "History",
    "Layout",
    "LinearChain",
    "Linearised",
    "Moments",
    "ObliqueTree",
    "ReLUNet",
    "ReLUNetwork",
    "Regressions",
    "anneal_beta",
    "annealed",
    "c4gap",
    "decoupled",
    "descend",
    "diagnose",
    "dlgn_to_tree",
    "dnpfl",
    "fit",
    "fit_bilinear",
    "fit_by_regressions",
    "fit_next_token",
    "flnpf",
    "frnpf",
    "gate_permutations",
    "gaussian_noise",
    "initialise",
    "linearise_weights",
    "permuted",
    "resnet_like",
    "vgg_like",
]


__getattr__, __dir__ = door(__name__, WHERE)
