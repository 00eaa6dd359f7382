"""Integrated gradients by the breakpoints of the line: complete, and what many steps tend to."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gatewise as gw
import shared
import tabular
from gatewise.errors import BadRows, DataError, EmptyData, NotPiecewiseAffine, WrongShape
from gatewise.explain.integrated import from_baselines, integrated_gradients
from nets import mixed, mlp, rows


def stepped(network, x, baseline, steps=1000):
    """The midpoint rule with many steps, by autograd: (rows, features, outputs)."""
    total = 0
    for t in (np.arange(steps) + 0.5) / steps:
        at = (baseline + t * (x - baseline)).requires_grad_()
        y = network(at)
        each = [
            torch.autograd.grad(y[:, o].sum(), at, retain_graph=True)[0] for o in range(y.shape[1])
        ]
        total = total + torch.stack(each, 2) / steps
    return total * (x - baseline)[:, :, None]


@settings(max_examples=40)
@given(
    st.lists(st.integers(1, 8), min_size=2, max_size=5),
    st.sampled_from(["relu", "leaky", "hardtanh", "abs"]),
    st.integers(0, 10_000),
)
def test_values_add_up_to_what_the_output_gained(sizes, gate, seed):
    network = mlp(*sizes, gate=gate, seed=seed)
    x, base = rows(network, 7, seed), rows(network, 7, seed + 1)
    found = integrated_gradients(network, x, base)
    gain = network(x) - network(base)
    assert found.values.shape == (7, network.inputs, network.outputs)
    np.testing.assert_allclose(found.values.sum(1), gain, atol=1e-12)
    assert found.max_error == found.completeness.max() <= 1e-12
    np.testing.assert_allclose(found.base_values, network(base), atol=1e-15)
    np.testing.assert_allclose(found.output, network(x), atol=1e-15)


def test_many_steps_tend_to_it():
    network = mlp(3, 8, 8, 2, seed=4)
    x, base = rows(network, 4), rows(network, 1, 9)
    truth = stepped(network, x, base)
    np.testing.assert_allclose(integrated_gradients(network, x, base).values, truth, atol=8e-3)


def test_captum_tends_to_it():
    captum = pytest.importorskip("captum.attr")
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(5, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
    module = module.double()
    x, base = torch.randn(6, 5, dtype=torch.float64), torch.zeros(1, 5, dtype=torch.float64)
    steps = captum.IntegratedGradients(module).attribute(x, base, target=0, n_steps=400)
    ours = integrated_gradients(gw.read(module), x, base).values[:, :, 0]
    np.testing.assert_allclose(ours, steps.numpy(), atol=1e-2)


def test_a_linear_network_has_the_gradient_times_the_step():
    network = mlp(4, 2)
    x, weight = rows(network, 5), network.nodes[0].kind.weights[0]
    found = integrated_gradients(network, x, [1.0, 0, 0, 2])
    step = x - torch.tensor([1.0, 0, 0, 2])
    np.testing.assert_allclose(found.values, torch.einsum("nf,of->nfo", step, weight), atol=1e-14)


def test_baselines_are_one_or_many_or_named_or_the_mean():
    network = mlp(3, 9, 2, seed=2)
    x = rows(network, 6)
    mean = integrated_gradients(network, x)
    assert mean.baseline_name == "the mean of the data"
    np.testing.assert_allclose(mean.baseline, x.mean(0, keepdim=True))
    one = integrated_gradients(network, x, x[2])
    assert (one.values[2] == 0).all()
    several = from_baselines(network, x, {"zero": np.zeros(3), "itself": x})
    assert list(several) == ["zero", "itself"]
    assert (several["itself"].values == 0).all()
    assert "from itself" in repr(several["itself"])
    assert "1 output" in repr(integrated_gradients(network, x, output=1))


def test_an_explanation_lends_its_rows_reference_and_outputs():
    network = mlp(3, 9, 3, seed=2)
    frame = pd.DataFrame(rows(network, 12).numpy(), columns=["age", "debt", "income"])
    e = gw.explain(network, frame, output=[2, 0], reference=[0, 1, 0])
    found = integrated_gradients(e)
    assert found.feature_names == ("age", "debt", "income")
    assert found.output_names == e.output_names
    assert found.baseline.tolist() == [[0, 1, 0]]
    np.testing.assert_allclose(found.output, e.output)
    alone = integrated_gradients(e, output=e.output_names[1])
    np.testing.assert_allclose(alone.values[..., 0], found.values[..., 1], rtol=1e-12)
    few = integrated_gradients(e, frame[["income", "age", "debt"]].head(3).rename(columns=str))
    assert len(few) == 3


def test_bad_input_is_refused_in_words():
    network, x = mlp(3, 5, 1), np.ones((4, 3))
    with pytest.raises(WrongShape, match="takes 3 inputs a row, got 2"):
        integrated_gradients(network, x[:, :2])
    with pytest.raises(
        WrongShape, match="baseline has 2 rows for 4 rows of data: give one, or one"
    ):
        integrated_gradients(network, x, x[:2])
    x[1, 1] = np.nan
    with pytest.raises(BadRows):
        integrated_gradients(network, x)
    with pytest.raises(EmptyData, match="give them as X"):
        integrated_gradients(network)
    with pytest.raises(DataError, match="baselines is empty"):
        from_baselines(network, np.ones((4, 3)), {})
    with pytest.raises(NotPiecewiseAffine, match="jumps at its threshold"):
        integrated_gradients(mixed(0), rows(mixed(0)))


@pytest.mark.real_data
@pytest.mark.skipif(not shared.folder().is_dir(), reason=shared.reason())
@pytest.mark.parametrize(("name", "hidden"), [("heloc", (32, 32)), ("titanic", (64, 64, 64))])
def test_complete_on_real_tables(name, hidden):
    model, table, _, _, _ = tabular.pipeline(name, hidden, max_iter=15, rows=600)
    e = gw.explain(model, table, margin=False)
    found = integrated_gradients(e)
    assert found.max_error <= 1e-12 * max(1, np.abs(found.output).max())
    other = integrated_gradients(e.network, table, e.reference)
    np.testing.assert_allclose(other.values, found.values)


def test_a_baseline_may_be_named_as_a_reference_is():
    network = mlp(3, 9, 2, seed=2)
    frame = pd.DataFrame(rows(network, 12).numpy(), columns=["age", "debt", "income"])
    e, x = gw.explain(network, frame), frame.to_numpy()
    first = np.arange(12) < 4
    expected = {
        "zero": np.zeros(3),
        "mean": x.mean(0),
        "median": np.median(x, 0),
        "row 3": x[3],
        "row -1": x[-1],
    }
    for name, row in expected.items():
        np.testing.assert_allclose(integrated_gradients(e, None, name).baseline, row[None])
        np.testing.assert_allclose(integrated_gradients(network, frame, name).baseline, row[None])
        # among the explanation's rows, whichever are asked about
        few = integrated_gradients(e, frame.head(5), name)
        np.testing.assert_allclose(few.baseline, row[None])
    for mask in (first, first.tolist(), pd.Series(first)):
        found = integrated_gradients(e, None, mask)
        np.testing.assert_allclose(found.baseline, x[:4].mean(0)[None])
        assert found.baseline_name == "the mean of 4 rows"
    named = integrated_gradients(e, None, {"income": 3, "age": 1, "debt": 2})
    assert named.baseline.tolist() == [[1, 2, 3]]
    with pytest.raises(DataError, match="reference is 'nothing': name 'mean'"):
        integrated_gradients(e, None, "nothing")
