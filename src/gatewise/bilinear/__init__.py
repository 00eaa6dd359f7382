"""Bilinear layers read as third-order tensors: `gw.bilinear.spectrum(layer)` and the rest.

A layer y = P ((W x) * (V x)) is a quadratic form for every output: its interactions, eigenvectors
and truncations are read off the weights. Each name is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatewise.door import door

if TYPE_CHECKING:
    from gatewise.bilinear.bases.cp import CP, cp
    from gatewise.bilinear.bases.dictionaries import in_dictionary, strongest_pairs
    from gatewise.bilinear.bases.hosvd import HOSVD, hosvd
    from gatewise.bilinear.bases.similarity import effective_rank, eigenvector_agreement, similarity
    from gatewise.bilinear.circuits.loading import from_state, load_transformer
    from gatewise.bilinear.circuits.pairs import strongest_token_pairs, top_pairs
    from gatewise.bilinear.circuits.parts import TransformerLayer, attention, mlp, norm
    from gatewise.bilinear.circuits.paths import PathTable, path_expansion
    from gatewise.bilinear.circuits.transformer import Frozen, Transformer, freeze
    from gatewise.bilinear.circuits.weights import (
        Circuit,
        attention_table,
        mlp_layer,
        ov_circuit,
        qk_circuit,
        virtual_weight,
    )
    from gatewise.bilinear.conversion.convert import to_bilinear
    from gatewise.bilinear.conversion.converted import Converted
    from gatewise.bilinear.conversion.module import fine_tune
    from gatewise.bilinear.deep.directions import top_directions
    from gatewise.bilinear.deep.expansion import by_degree, expansion
    from gatewise.bilinear.deep.stack import Stack, embedded, homogenised, stack
    from gatewise.bilinear.deep.truncate import orthogonalise_diagonalise, truncate
    from gatewise.bilinear.layer import BilinearLayer, folded, linear_part, quadratic_part
    from gatewise.bilinear.quadratic import Forms, forms
    from gatewise.bilinear.reading import bilinear_layer, bilinear_layers, layer_input
    from gatewise.bilinear.spectral.spectrum import Spectrum, spectrum, spectrum_plan
    from gatewise.bilinear.spectral.truncation import truncation
    from gatewise.bilinear.tensors import (
        interaction,
        neurons,
        tensor,
        tensor_inner,
        three_way_identity,
    )
    from gatewise.bilinear.uses.contributions import contributions
    from gatewise.bilinear.uses.curvature import along, curvature
    from gatewise.bilinear.uses.masks import (
        Masks,
        eigenvector_masks,
        gradient_masks,
        pseudo_inverse_masks,
    )

WHERE = {
    "BilinearLayer": "layer",
    "CP": "bases.cp",
    "Circuit": "circuits.weights",
    "Converted": "conversion.converted",
    "Forms": "quadratic",
    "Frozen": "circuits.transformer",
    "HOSVD": "bases.hosvd",
    "Masks": "uses.masks",
    "PathTable": "circuits.paths",
    "Spectrum": "spectral.spectrum",
    "Stack": "deep.stack",
    "Transformer": "circuits.transformer",
    "TransformerLayer": "circuits.parts",
    "along": "uses.curvature",
    "attention": "circuits.parts",
    "attention_table": "circuits.weights",
    "bilinear_layer": "reading",
    "bilinear_layers": "reading",
    "by_degree": "deep.expansion",
    "contributions": "uses.contributions",
    "cp": "bases.cp",
    "curvature": "uses.curvature",
    "effective_rank": "bases.similarity",
    "eigenvector_agreement": "bases.similarity",
    "eigenvector_masks": "uses.masks",
    "embedded": "deep.stack",
    "expansion": "deep.expansion",
    "fine_tune": "conversion.module",
    "folded": "layer",
    "forms": "quadratic",
    "freeze": "circuits.transformer",
    "from_state": "circuits.loading",
    "gradient_masks": "uses.masks",
    "homogenised": "deep.stack",
    "hosvd": "bases.hosvd",
    "in_dictionary": "bases.dictionaries",
    "interaction": "tensors",
    "layer_input": "reading",
    "linear_part": "layer",
    "load_transformer": "circuits.loading",
    "mlp": "circuits.parts",
    "mlp_layer": "circuits.weights",
    "neurons": "tensors",
    "norm": "circuits.parts",
    "orthogonalise_diagonalise": "deep.truncate",
    "ov_circuit": "circuits.weights",
    "path_expansion": "circuits.paths",
    "pseudo_inverse_masks": "uses.masks",
    "qk_circuit": "circuits.weights",
    "quadratic_part": "layer",
    "similarity": "bases.similarity",
    "spectrum": "spectral.spectrum",
    "spectrum_plan": "spectral.spectrum",
    "stack": "deep.stack",
    "strongest_pairs": "bases.dictionaries",
    "strongest_token_pairs": "circuits.pairs",
    "tensor": "tensors",
    "tensor_inner": "tensors",
    "three_way_identity": "tensors",
    "to_bilinear": "conversion.convert",
    "top_directions": "deep.directions",
    "top_pairs": "circuits.pairs",
    "truncate": "deep.truncate",
    "truncation": "spectral.truncation",
    "virtual_weight": "circuits.weights",
}

__all__ = [
    "CP",
    "HOSVD",
    "BilinearLayer",
    "Circuit",
    "Converted",
    "Forms",
    "Frozen",
    "Masks",
    "PathTable",
    "Spectrum",
    "Stack",
    "Transformer",
    "TransformerLayer",
    "along",
    "attention",
    "attention_table",
    "bilinear_layer",
    "bilinear_layers",
    "by_degree",
    "contributions",
    "cp",
    "curvature",
    "effective_rank",
    "eigenvector_agreement",
    "eigenvector_masks",
    "embedded",
    "expansion",
    "fine_tune",
    "folded",
    "forms",
    "freeze",
    "from_state",
    "gradient_masks",
    "homogenised",
    "hosvd",
    "in_dictionary",
    "interaction",
    "layer_input",
    "linear_part",
    "load_transformer",
    "mlp",
    "mlp_layer",
    "neurons",
    "norm",
    "orthogonalise_diagonalise",
    "ov_circuit",
    "path_expansion",
    "pseudo_inverse_masks",
    "qk_circuit",
    "quadratic_part",
    "similarity",
    "spectrum",
    "spectrum_plan",
    "stack",
    "strongest_pairs",
    "strongest_token_pairs",
    "tensor",
    "tensor_inner",
    "three_way_identity",
    "to_bilinear",
    "top_directions",
    "top_pairs",
    "truncate",
    "truncation",
    "virtual_weight",
]

__getattr__, __dir__ = door(__name__, WHERE)
