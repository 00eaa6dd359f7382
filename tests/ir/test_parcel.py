"""A network travels as bytes: the same function arrives, and nothing else is ever made or run."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import torch as safetensors

import gatewise as gw
import relu_nets
from cases import CASES
from gatewise.errors import CorruptModel, ModelError, UnsafeModel
from gatewise.ir.network import fingerprint
from gatewise.ir.parcel import _metadata, bare, packed, unpacked
from nets import mlp

NET = relu_nets.read(3, 6, 1)


@pytest.mark.parametrize("name", CASES)
def test_every_case_arrives_and_computes_the_same_bits(name):
    case = CASES[name]
    x = case.rows(5)
    network = bare(gw.read(case.module().eval(), x))
    arrived = unpacked(packed(network))
    assert fingerprint(arrived) == fingerprint(network)
    assert torch.equal(arrived(x), network(x))
    assert packed(arrived) == packed(network)


def test_numbers_lie_as_they_lay():
    """Transposed and expanded weights: a sum is rounded in the order of memory."""
    node = NET.nodes[0]
    weight, bias = torch.randn(3, 6).double().mT, torch.zeros(1).double().expand(6)
    kind = dataclasses.replace(node.kind, weights=(weight,), bias=bias)
    network = dataclasses.replace(NET, nodes=(dataclasses.replace(node, kind=kind), *NET.nodes[1:]))
    arrived = unpacked(packed(network)).nodes[0].kind
    assert arrived.weights[0].stride() == weight.stride()
    assert arrived.bias.stride() == (0,)


def test_a_rule_of_ones_own_is_refused_by_name():
    with pytest.raises(ModelError, match=r"node 'n0' \(Affine\) cannot be sent .*dense"):
        packed(mlp(3, 2, 1))


def changed(change) -> bytes:
    """The bytes of NET with something else said in them."""
    data = packed(NET)
    told = json.loads(_metadata(data)["gatewise"])
    return safetensors.save(safetensors.load(data), {"gatewise": json.dumps(change(told))})


def renamed(old: str, new: str):
    return lambda told: json.loads(json.dumps(told).replace(old, new))


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (packed(NET)[:-1], CorruptModel, "no packed network"),
        (b"", CorruptModel, "no packed network"),
        (changed(lambda told: told | {"version": 9}), CorruptModel, "format 9, .* one version"),
        (changed(lambda told: told | {"fingerprint": ""}), CorruptModel, "arrived changed"),
        (changed(renamed("gatewise.ops.affine:dense", "os:system")), UnsafeModel, "'os:system'"),
        (changed(renamed("gatewise.ops.affine:dense", "torch:load")), UnsafeModel, "'torch:load'"),
        (changed(renamed("gatewise.ops.affine:dense", "torch:from_file")), UnsafeModel, "from_f"),
        (
            changed(renamed("gatewise.ops.affine:dense", "gatewise.tables.writing:os")),
            UnsafeModel,
            "writing:os",
        ),
        (
            changed(renamed("gatewise.ops.affine:dense", "gatewise.show.save:save")),
            UnsafeModel,
            "show.save:save",
        ),
        (changed(renamed('{"dtype": "float64"}', '{"dtype": "load"}')), UnsafeModel, "'load'"),
        (
            changed(renamed("gatewise.ir.network:Node", "gatewise.ir.network:fold")),
            UnsafeModel,
            "no part of a network",
        ),
    ],
)
def test_bytes_that_are_not_ours_make_nothing(data, error, words):
    with pytest.raises(error, match=words):
        unpacked(data)


@settings(max_examples=150)
@given(st.data())
def test_bytes_that_changed_on_the_way_are_told_in_a_sentence(data):
    whole = bytearray(packed(NET))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        arrived = unpacked(bytes(whole))
    except (CorruptModel, UnsafeModel):
        return
    assert fingerprint(arrived) == fingerprint(NET)
