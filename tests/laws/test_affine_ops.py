"""Every Affine node that the table makes is linear, has its transpose, and knows its rounding."""

from __future__ import annotations

import dataclasses
import warnings

import pytest
import torch

from gatewise.ir.kinds import Affine
from gatewise.ops import TorchExample
from gatewise.ops.affine import dense, dense_back
from gatewise.read.torch import read_exported
from laws import affine_laws
from laws.examples import params, read_example, torch_source


@pytest.mark.parametrize("law", affine_laws.LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize(("entry", "k"), params("Affine", "Product", "Gate", "Smooth"))
def test_law(entry, k, law):
    network, _, _ = read_example(entry.name, k)
    for node in network.nodes + network.head:
        if isinstance(node.kind, Affine):
            law(node.kind, [network.shape(name) for name in node.inputs], node.shape)


# -- the laws can fail --

W = torch.linspace(-1, 1, 600, dtype=torch.float64).reshape(2, 300)
GOOD = Affine(dense, (W,), torch.ones(2, dtype=torch.float64), 300, 2, dense_back)
SHAPES = [(300,)]


def negated(w, x):
    return -dense(w, x)


def cubed(w, x):
    return dense(w, x) ** 3


def across(w, x):
    return dense(w, x.roll(1, 0))


BROKEN = {
    "linear": dataclasses.replace(GOOD, rule=cubed),
    "transpose": dataclasses.replace(GOOD, pullback=lambda w, g: (2 * (g @ w),)),
    "magnitude": dataclasses.replace(GOOD, rule=negated, pullback=None),
    "rounding": dataclasses.replace(GOOD, terms=0),
    "rounding_back": dataclasses.replace(GOOD, terms_back=0),
    "any_rows": dataclasses.replace(GOOD, rule=across),
}


@pytest.mark.parametrize("law", affine_laws.LAWS, ids=lambda law: law.__name__)
def test_a_law_tells_good_from_broken(law):
    law(GOOD, SHAPES, (2,))
    with pytest.raises(AssertionError):
        law(BROKEN[law.__name__], SHAPES, (2,))


# -- the other names torch has for the same --


def torch_cases():
    chosen = [p for p in params("Affine") if is_torch(*p.values)]
    return pytest.mark.parametrize(("entry", "k"), chosen)


def is_torch(entry, k):
    return isinstance(entry.examples[k], TorchExample)


@torch_cases()
def test_core_aten_reads_the_same(entry, k):
    """torch takes operators apart (run_decompositions): the table knows those names too."""
    module, x = torch_source(entry.examples[k])
    network = read_exported(core_aten(module, x))
    with torch.no_grad():
        expected = module(x).reshape(len(x), -1)
    assert torch.allclose(network.predict(x), expected, rtol=1e-12, atol=1e-12)


def core_aten(module, x):
    """Exported for any number of rows (for one, where torch fixes it) and taken apart."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about its own code
        try:
            rows = {0: torch.export.Dim("rows")}
            program = torch.export.export(module, (x,), dynamic_shapes=(rows,))
        except torch._dynamo.exc.UserError:
            program = torch.export.export(module, (x[:1],))
        return program.run_decompositions()
