"""Networks whose gates and values are apart, to train: DGN, DLGN and their kin.

Each name is imported when it is asked for: `import gatewise` stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatewise.door import door

if TYPE_CHECKING:
    from gatewise.models.annealing import anneal_beta, annealed, gaussian_noise
    from gatewise.models.bilinear import GLU, BilinearMLP
    from gatewise.models.bilinear_estimators import BilinearClassifier, BilinearRegressor
    from gatewise.models.bilinear_fitting import fit_bilinear
    from gatewise.models.chain import LinearChain
    from gatewise.models.convolutional import ConvDGN, ConvDLGN, ConvReLUNet, Layout
    from gatewise.models.dgn import DGN, ReLUNet
    from gatewise.models.dlgn import DLGN, DLGNShallow
    from gatewise.models.estimators import DLGNClassifier, DLGNRegressor
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
    from gatewise.models.transformer import BilinearTransformer
    from gatewise.models.transformer_fitting import fit_next_token
    from gatewise.models.tree import dlgn_to_tree
    from gatewise.models.weights import initialise

WHERE = {
    "BilinearClassifier": "bilinear_estimators",
    "BilinearMLP": "bilinear",
    "BilinearRegressor": "bilinear_estimators",
    "BilinearTransformer": "transformer",
    "Chains": "study.chains",
    "ConvDGN": "convolutional",
    "ConvDLGN": "convolutional",
    "ConvReLUNet": "convolutional",
    "DGN": "dgn",
    "DLGN": "dlgn",
    "DLGNClassifier": "estimators",
    "DLGNRegressor": "estimators",
    "DLGNShallow": "dlgn",
    "Decoupled": "regimes",
    "Descent": "study.descent",
    "Diagnosis": "study.saddles",
    "Epoch": "fitting",
    "GLU": "bilinear",
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
    "anneal_beta": "annealing",
    "annealed": "annealing",
    "c4gap": "layouts",
    "decoupled": "regimes",
    "descend": "study.descent",
    "diagnose": "study.saddles",
    "dlgn_to_tree": "tree",
    "dnpfl": "regimes",
    "fit": "fitting",
    "fit_bilinear": "bilinear_fitting",
    "fit_by_regressions": "regressions",
    "fit_next_token": "transformer_fitting",
    "flnpf": "regimes",
    "frnpf": "regimes",
    "gate_permutations": "regimes",
    "gaussian_noise": "annealing",
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
