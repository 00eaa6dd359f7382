"""The whole table: every example of every entry computes what its source computes."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
import torch
from onnx import helper

from gatewise.ir.network import with_head
from gatewise.ir.rounding import enclose
from gatewise.ops import TABLE, Entry, OnnxExample, TorchExample
from gatewise.read.onnx import read_onnx
from laws.examples import params, read_example, rows_of
from oracles import onnx_node

KINDS = ("Affine", "Gate", "Product", "Smooth")


def allowed(entry: Entry, k: int) -> torch.Tensor:
    """How far two computations of the same value can be apart: both round."""
    network, x, _ = read_example(entry.name, k)
    single = isinstance(entry.examples[k], OnnxExample)
    whole = with_head(network).to(torch.float32 if single else torch.float64)
    found = enclose(whole, whole.rows(x))
    fallback = (1e-5 if single else 1e-9) * (1 + found.value.double().abs())
    error = found.error.double()
    return torch.where(error.isfinite(), 2 * error, fallback).reshape(len(x), -1)


@pytest.mark.parametrize(("entry", "k"), params(*KINDS))
def test_agrees_with_source(entry, k):
    network, x, expected = read_example(entry.name, k)
    difference = (network.predict(x) - expected).abs()
    worst = (difference - allowed(entry, k)).max()
    assert difference.shape == expected.shape
    assert worst <= 0, f"apart by {difference.max():.3g}, allowed {allowed(entry, k).max():.3g}"


# Shown by models of their own below: their domain is not that of a random number.
ELSEWHERE = {"Log", "Sqrt", "Reciprocal", "And", "Or", "Not"}


@pytest.mark.parametrize("entry", TABLE, ids=lambda e: e.name)
def test_each_family_has_an_example(entry):
    if entry.torch:
        assert any(isinstance(e, TorchExample) for e in entry.examples)
    shown = {e.op for e in TABLE_EXAMPLES if isinstance(e, OnnxExample)} | ELSEWHERE
    assert set(entry.onnx) <= shown, f"no example of {set(entry.onnx) - shown}"


TABLE_EXAMPLES = [example for entry in TABLE for example in entry.examples]


@pytest.mark.parametrize("op", ["Log", "Sqrt", "Reciprocal"])
def test_on_positive_numbers(op):
    nodes = [
        helper.make_node("Abs", ["x"], ["size"]),
        helper.make_node("Add", ["size", "half"], ["positive"]),
        helper.make_node(op, ["positive"], ["y"]),
    ]
    half = np.array(0.5, np.float32)
    made = onnx_node.graph(nodes, {"half": half}, ("x", (1, 4)), "y", 17)
    network = read_onnx(made.SerializeToString())
    x, y = rows_of(made)
    assert (network(x) - y).abs().max() <= 1e-6 * (1 + y.abs().max())


@pytest.mark.parametrize("op", ["And", "Or"])
@pytest.mark.parametrize("turned", [False, True])
def test_logic(op, turned):
    nodes = [
        helper.make_node("Greater", ["x", "zero"], ["above"]),
        helper.make_node("Less", ["x", "one"], ["below"]),
        helper.make_node(op, ["above", "below"], ["both"]),
        helper.make_node("Not" if turned else "Identity", ["both"], ["mask"]),
        helper.make_node("Where", ["mask", "x", "one"], ["y"]),
    ]
    constants = {"zero": np.float32(0), "one": np.float32(1)}
    made = onnx_node.graph(nodes, constants, ("x", (1, 9)), "y", 17)
    network = read_onnx(made.SerializeToString())
    x, y = rows_of(made)
    assert torch.equal(network(x), y)


def test_names_of_entries_are_unique():
    names = [entry.name for entry in TABLE]
    assert len(set(names)) == len(names)


def test_shared_names_pass_on_to_the_earlier_entry():
    """A name in two rows is one an Affine row shares with a curved one, never two of a kind."""
    owners = defaultdict(list)
    for entry in TABLE:
        for source in ("torch", "onnx"):
            for name in getattr(entry, source):
                owners[source, name].append(entry.kind)
    twice = {name: kinds for name, kinds in owners.items() if len(kinds) > 1}
    assert all(kinds[0] == "Affine" and len(kinds) == 2 for kinds in twice.values()), twice
