"""Codes are the largest adverse contributions; nothing principal goes unsaid."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gatewise as gw
from gatewise.errors import DataError
from gatewise.explain.reasons import reason_codes
from nets import Chain, mlp, networks, rows


def linear(w, names):
    """y = w . x, read from weights."""
    network = gw.read([(np.array([w], float), np.zeros(1))])
    return dataclasses.replace(network, feature_names=tuple(names))


def explained(w, x, **more):
    names = [f"f{j}" for j in range(len(w))]
    return gw.explain(linear(w, names), pd.DataFrame(np.array(x, float), columns=names), **more)


@settings(max_examples=40)
@given(networks(), st.integers(0, 99), st.integers(1, 6), st.sampled_from(["low", "high"]))
def test_codes_are_the_largest_adverse_contributions(network, seed, k, adverse):
    e = gw.explain(network, rows(network, 12, seed).numpy())
    r = reason_codes(e, k, adverse=adverse)
    sign = -1 if adverse == "low" else 1
    for i in range(12):
        push = sign * e.values[i, :, 0]
        push = np.where(push > e.bound[i, 0] + e.error[i, 0], push, 0)
        best = np.sort(push)[::-1][:k]
        best = best[best > 0]
        assert r.count[i] == len(best)
        np.testing.assert_allclose(r.amounts[i, : len(best)], best, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(push[r.codes[i, : len(best)]], best, rtol=1e-9, atol=1e-12)
        assert (r.codes[i, len(best) :] == -1).all()
        if push.sum():
            assert r.share[i] == pytest.approx(best.sum() / push.sum())


def test_only_factors_that_push_are_codes():
    e = explained([1, -2, 0], [[-1, 1, 5], [1, -1, 0]], reference=[0, 0, 0])
    r = reason_codes(e, 3)
    assert [c["factor"] for c in r.of(0)] == ["f1", "f0"]
    assert [c["amount"] for c in r.of(0)] == [2, 1]
    assert r.of(1) == [] and np.isnan(r.share[1])
    assert "no factor pushes towards y0 low" in r.say(1)
    assert [c["factor"] for c in reason_codes(e, 3, adverse="high").of(1)] == ["f1", "f0"]


def test_more_that_matter_as_much_are_counted():
    e = explained([1, 1, 1, 1], [[-4, -3, -3, -2.99], [-4, -3, -2, -1]], reference=[0] * 4)
    r = reason_codes(e, 2, tie=0.01)
    assert r.left_out.tolist() == [2, 0]
    assert r.tied.tolist() == [[False, True], [False, False]]
    assert "2 factors more matter as much as the last" in r.say(0)
    assert "tied with the next" in r.say(0)
    assert r.share[0] == pytest.approx(7 / 12.99)
    assert reason_codes(e, 2, tie=0.0).left_out.tolist() == [1, 0]
    assert "1 row with more that matter" in repr(r)


def test_the_reference_is_stated_and_counts():
    x = [[1, 1], [2, 5], [3, 9]]
    e = explained([-1, -1], x)
    assert reason_codes(e).reference_name == "the mean of the data"
    assert [c["factor"] for c in reason_codes(e, rows=[1]).of(0)] == []
    good = reason_codes(e, rows=[1], reference=np.array([True, False, False]))
    assert good.reference_name == "the mean of 1 row"
    assert {c["factor"]: c["amount"] for c in good.of(0)} == {"f1": 4, "f0": 1}
    for name in ("zero", "row 2", "median"):
        assert name.split()[0] in reason_codes(e, reference=name).reference_name
    with pytest.raises(DataError, match="reference is 'nobody'"):
        reason_codes(e, reference="nobody")
    with pytest.raises(DataError, match="reference has 1 value, and the network takes 2 inputs"):
        reason_codes(e, reference=[1.0])


def test_groups_are_one_factor():
    e = explained([-1, 2, -3], [[1, 0, 1], [0, 1, 0]], reference=[0, 0, 0])
    r = reason_codes(e, groups={"kind": ["f0", "f1", "f2"]})
    assert r.factors == ("kind",)
    assert [c["amount"] for c in r.of(0)] == [4]
    with pytest.raises(DataError, match="group 'kind' names 'f9', which is no input"):
        reason_codes(e, groups={"kind": ["f9"]})
    two = reason_codes(e, groups={"pair": ["f0", "f2"]})
    assert two.factors == ("pair", "f1")
    only = explained([-1, 2], [[1, 0], [0, 1]], reference=[0, 0])
    level = reason_codes(only, groups={"colour": ["f0", "f1"]})
    assert level.of(0)[0]["value"] == "f0"


def test_survival_is_asked_across_the_wall():
    """f = 2 max(0, a) - max(0, -a - b): beyond its wall at a = 0 the factor a no longer counts."""
    chain = Chain(2)
    import torch

    from gatewise.ir.kinds import Affine
    from nets import dense

    w = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    b = torch.tensor([0.0, 100.0], dtype=torch.float64)
    chain.put(Affine(dense, (w,), b, 2, 2), shape=(2,))
    chain.gate("relu")
    end = torch.tensor([[2.0, 1.0]], dtype=torch.float64)
    chain.put(Affine(dense, (end,), None, 2, 1), shape=(1,))
    e = gw.explain(chain.network(), [[0.1, -3.0], [50.0, -3.0], [1.0, 5.0]], reference=[9.0, 2.0])
    r = reason_codes(e, 2, rows=[0])
    assert [(c["factor"], c["survives"]) for c in r.of(0)] == [("x0", False), ("x1", True)]
    assert "x0 = 0.1: 17.8 (not beyond the nearest wall)" in r.say(0)
    silent = reason_codes(e, 2, rows=[0], walls=False)
    assert not silent.known.any() and silent.of(0)[0]["survives"] is None


def test_a_network_without_walls_has_no_neighbour():
    r = reason_codes(explained([1, 1], [[-1, -2]], reference=[0, 0]))
    assert not r.known.any()
    assert r.of(0)[0]["survives"] is None


def test_the_table_has_one_line_a_code():
    e = gw.explain(mlp(4, 6, 1, seed=2), rows(mlp(4, 6, 1), 9).numpy())
    r = reason_codes(e, 2)
    table = r.table()
    assert set(table) == {"row", "rank", "factor", "value", "amount", "tied", "survives"}
    assert len(table["row"]) == r.count.sum() == len(pd.DataFrame(table))
    assert "at most 2 codes towards y0 low, against the mean of the data" in repr(r)
    assert len(reason_codes(e, 2, rows=slice(3, 5))) == 2


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"k": 0}, "k must be a whole number, at least 1, got 0"),
        ({"k": True}, "k must be a whole number"),
        ({"k": 2.5}, "k must be a whole number"),
        ({"rows": [99]}, "rows= picks a row that is not there: the data hold 3 rows"),
        ({"adverse": "bad"}, "say which side of the output is the adverse decision"),
        ({"tie": 1.5}, "tie must be a relative difference from 0 to below 1, got 1.5"),
        ({"output": "risk"}, "no output 'risk'"),
    ],
)
def test_a_bad_question_is_refused_in_a_sentence(asked, said):
    e = explained([1, 2], [[0, 1], [1, 0], [2, 2]])
    with pytest.raises(DataError) as caught:
        reason_codes(e, **asked)
    assert said in str(caught.value)
