"""The check that a Network computes what its source computes; and that it can fail."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from cases import CASES
from gatewise.errors import ReadingMismatch
from gatewise.ir.kinds import Affine, Pieces
from gatewise.ir.network import Network, with_head
from gatewise.read.check import check_reading, sample_rows
from gatewise.read.torch import read_torch
from gatewise.read.weights import read_weights


def layers(*sizes: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    pairs = zip(sizes[1:], sizes[:-1], strict=True)
    return [
        tuple(torch.randn(*shape, generator=generator).double() for shape in [(o, i), (o,)])
        for o, i in pairs
    ]


@pytest.fixture
def network() -> Network:
    return dataclasses.replace(read_weights(layers(6, 9, 9, 3)), notes=())


def change(network: Network, name: str, **fields: object) -> Network:
    """The network with fields of one node's kind replaced."""
    nodes = [
        dataclasses.replace(n, kind=dataclasses.replace(n.kind, **fields)) if n.name == name else n
        for n in network.nodes
    ]
    return dataclasses.replace(network, nodes=tuple(nodes))


def run_of(network: Network):
    return with_head(network)


def test_the_same_network_passes_with_a_note(network):
    (note,) = check_reading(network, run_of(network), source="itself").notes
    assert note.startswith("checked against itself on 24 random rows in float64: largest diff")
    assert ", bound " in note


@pytest.mark.parametrize("relative", [1e-6, -1e-6, 1e-3])
@pytest.mark.parametrize("name", ["0", "1", "2"])
def test_one_weight_that_is_off_is_found(network, name, relative):
    weight = network.node(name).kind.weights[0].clone()
    weight[0, 1] *= 1 + relative
    wrong = change(network, name, weights=(weight,))
    with pytest.raises(ReadingMismatch, match="does not compute what its source computes"):
        check_reading(wrong, run_of(network), source="the source")


@pytest.mark.parametrize("name", ["0", "1", "2"])
def test_a_dropped_bias_is_found(network, name):
    with pytest.raises(ReadingMismatch):
        check_reading(change(network, name, bias=None), run_of(network), source="the source")


def test_a_lost_activation_is_found(network):
    gate = next(n for n in network.nodes if isinstance(n.kind, Pieces))
    nodes = tuple(
        dataclasses.replace(n, inputs=gate.inputs if gate.name in n.inputs else n.inputs)
        for n in network.nodes
    )
    with pytest.raises(ReadingMismatch):
        check_reading(dataclasses.replace(network, nodes=nodes), run_of(network), source="s")


@pytest.mark.parametrize("times", [5, 9, 11])
def test_weights_that_cancel_while_they_are_read(times):
    """Where a pixel lies on another its blend is 1e-17 here and 0 there, beside zeros of a row."""
    grow = nn.Upsample(scale_factor=times, mode="bilinear")
    found = read_torch(grow, torch.zeros(1, 2, 4, 5))
    assert "checked against" in found.notes[-1]


def test_the_message_names_output_values_and_bound(network):
    def run(x):
        y = network(x)
        y[5, 2] += 1
        return y

    words = (
        r"row 5, output 2 is \S+ in the source and \S+ in the Network, "
        r"1 apart where \d\S+ is allowed"
    )
    with pytest.raises(ReadingMismatch, match=words):
        check_reading(network, run, source="the source")


def test_a_wrong_number_of_outputs_is_found(network):
    with pytest.raises(ReadingMismatch, match="gives 3 outputs a row, but for 24 rows"):
        check_reading(network, lambda x: network(x)[:, :2], source="the source")


def test_nan_of_the_source_is_left_out_and_counted(network):
    def run(x):
        y = network(x)
        y[3:10, 0] = torch.nan
        return y

    (note,) = check_reading(network, run, source="s").notes
    assert "on 17 random rows (7 more left out: the source gives NaN or infinity)" in note


def test_nothing_but_nan_is_said(network):
    (note,) = check_reading(network, lambda x: network(x) * torch.nan, source="s").notes
    assert note == "could not be checked against s: it gives NaN or infinity on all 24 random rows"


def test_nan_of_the_network_is_wrong(network):
    bias = network.node("2").kind.bias * torch.nan
    with pytest.raises(ReadingMismatch):
        check_reading(change(network, "2", bias=bias), run_of(network), source="s")


def test_a_float32_source_agrees_to_float32(network):
    single = network.to(torch.float32)
    exact = single.to(torch.float64)
    (note,) = check_reading(exact, single, source="s", exact_dtype=torch.float32).notes
    assert "in float32" in note
    with pytest.raises(ReadingMismatch):
        check_reading(exact, lambda x: single(x) * 1.01, source="s", exact_dtype=torch.float32)


def test_curved_layers_are_held_to_a_stated_tolerance():
    from gatewise.read.torch import read_torch

    module = nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 2)).double().eval()
    network = read_torch(module, torch.randn(2, 4))
    assert "the rounding bound is wider or infinite" in network.notes[-1]
    with torch.no_grad(), pytest.raises(ReadingMismatch):
        check_reading(network, lambda x: module(x.flatten(0, 1)) * (1 + 1e-7), source="s")


def test_a_step_within_rounding_may_jump():
    """z = x - x + 1e-30 rounds either way; the source jumps, and the note says so."""
    from gatewise.read.torch import read_torch

    case = CASES["dlgn"]
    network = read_torch(case.module(), case.rows(2))
    steps = [n for n in network.nodes if isinstance(n.kind, Pieces)]
    x = sample_rows(network, 4)
    first = network.node(network.node(steps[0].name).inputs[0]).kind
    assert isinstance(first, Affine)
    weight, bias = first.weights[0].clone(), first.bias.clone()
    weight[0], bias[0] = 0.1, -0.1 * x[0].sum()  # the first row lies on the knot, up to rounding
    nearly = change(network, steps[0].inputs[0], weights=(weight,), bias=bias)
    moved = change(nearly, steps[0].inputs[0], weights=(weight,), bias=bias + 1e-16)
    (note,) = check_reading(dataclasses.replace(nearly, notes=()), moved, rows=x, source="s").notes
    assert "in 1 of the rows a step is undecided within rounding" in note


def test_given_rows_are_used(network):
    seen = []
    rows = torch.ones(2, 6)
    check_reading(network, lambda x: seen.append(x) or network(x), rows=rows, source="s")
    assert torch.equal(seen[0], torch.ones(2, 1, 6).double())


def test_rows_are_seeded_and_of_several_scales(network):
    x = sample_rows(network)
    assert torch.equal(x, sample_rows(network))
    assert not torch.equal(x, sample_rows(network, seed=1))
    assert (x == 0).any() and (x[-1] == 0).all() and x.abs().max() > 10
