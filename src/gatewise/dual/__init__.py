"""The dual view of a network with on/off gates, and the door to it: `gw.dual.npk(net, X)` ..

A network is a sum over paths: neural path features (inputs and gates) times neural path values
(weights). Each name is imported when it is asked for: `import gatewise` stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatewise.door import door

if TYPE_CHECKING:
    from gatewise.dual.distilling.network import distill
    from gatewise.dual.gates.alignment import alignment, centred_alignment, nu_alignment
    from gatewise.dual.gates.halfspaces import half_spaces
    from gatewise.dual.gates.overlap import overlap
    from gatewise.dual.gating import Chain, Gated, Site, gated, masks, pattern_of
    from gatewise.dual.kernels.expectation import (
        ExpectedKernel,
        Variance,
        expected_kernel,
        expected_tangent_kernel,
    )
    from gatewise.dual.kernels.gram import gram, overlaps
    from gatewise.dual.kernels.path_kernel import PathKernel, npk, npk_of_gates
    from gatewise.dual.kernels.tiles import npk_to_file
    from gatewise.dual.machines.classifier import NPKClassifier
    from gatewise.dual.machines.know import gates_know
    from gatewise.dual.machines.solvers import KernelMachine, ridge_machine, svm_machine
    from gatewise.dual.paths.explicit import explicit_paths
    from gatewise.dual.paths.partings import partings
    from gatewise.dual.paths.shares import layer_shares, unit_shares
    from gatewise.dual.paths.strongest import strongest_paths
    from gatewise.dual.tangents.empirical import tangent_kernel
    from gatewise.dual.tangents.split import tangent_split

WHERE = {
    "Chain": "gating",
    "ExpectedKernel": "kernels.expectation",
    "Gated": "gating",
    "KernelMachine": "machines.solvers",
    "NPKClassifier": "machines.classifier",
    "PathKernel": "kernels.path_kernel",
    "Site": "gating",
    "Variance": "kernels.expectation",
    "alignment": "gates.alignment",
    "centred_alignment": "gates.alignment",
    "distill": "distilling.network",
    "expected_kernel": "kernels.expectation",
    "expected_tangent_kernel": "kernels.expectation",
    "explicit_paths": "paths.explicit",
    "gated": "gating",
    "gates_know": "machines.know",
    "gram": "kernels.gram",
    "half_spaces": "gates.halfspaces",
    "layer_shares": "paths.shares",
    "masks": "gating",
    "npk": "kernels.path_kernel",
    "npk_of_gates": "kernels.path_kernel",
    "npk_to_file": "kernels.tiles",
    "nu_alignment": "gates.alignment",
    "overlap": "gates.overlap",
    "overlaps": "kernels.gram",
    "partings": "paths.partings",
    "pattern_of": "gating",
    "ridge_machine": "machines.solvers",
    "strongest_paths": "paths.strongest",
    "svm_machine": "machines.solvers",
    "tangent_kernel": "tangents.empirical",
    "tangent_split": "tangents.split",
    "unit_shares": "paths.shares",
}

__all__ = [
    "Chain",
    "ExpectedKernel",
    "Gated",
    "KernelMachine",
    "NPKClassifier",
    "PathKernel",
    "Site",
    "Variance",
    "alignment",
    "centred_alignment",
    "distill",
    "expected_kernel",
    "expected_tangent_kernel",
    "explicit_paths",
    "gated",
    "gates_know",
    "gram",
    "half_spaces",
    "layer_shares",
    "masks",
    "npk",
    "npk_of_gates",
    "npk_to_file",
    "nu_alignment",
    "overlap",
    "overlaps",
    "partings",
    "pattern_of",
    "ridge_machine",
    "strongest_paths",
    "svm_machine",
    "tangent_kernel",
    "tangent_split",
    "unit_shares",
]


__getattr__, __dir__ = door(__name__, WHERE)
