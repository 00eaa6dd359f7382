"""Rows that analyses are given: columns by name, plain refusals."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.neural_network import MLPClassifier
from torch import nn

import gatewise as gw
from gatewise.errors import BadRows, DataError, EmptyData, WrongColumns, WrongShape
from gatewise.given.rows import rows_of


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)), columns=list("abc"))


@pytest.fixture(scope="module")
def network(table) -> gw.Network:
    return gw.read(MLPClassifier((5,), solver="lbfgs", max_iter=5000).fit(table, table.a > table.b))


def test_columns_are_matched_by_name(network, table) -> None:
    other = table[list("bca")]
    assert (gw.dual.npk(network, table).values == gw.dual.npk(network, other).values).all()
    left, right = (gw.dual.unit_shares(network, t).layers[0].shares for t in (table, other))
    assert (left == right).all()
    with pytest.raises(WrongColumns, match="missing: a; not known to the network: z"):
        gw.dual.npk(network, table.rename(columns={"a": "z"}))


def test_arrays_of_every_kind_are_read(network, table) -> None:
    plain = gw.dual.npk(network, table.to_numpy()).values
    turned = gw.dual.npk(network, table.to_numpy()[::-1]).values
    assert np.allclose(turned[::-1, ::-1], plain, rtol=1e-12)
    assert (gw.dual.npk(network, table.to_numpy().astype(object)).values == plain).all()
    assert (gw.dual.npk(network, table.to_numpy().tolist()).values == plain).all()


def test_bad_rows_are_refused_in_a_sentence(network, table) -> None:
    with pytest.raises(WrongColumns, match="column 'a' holds"):
        rows_of(network, table.assign(a="x"))
    with pytest.raises(BadRows, match="X2 holds NaN or infinity in rows 1, 2: fill"):
        rows_of(network, torch.tensor([[1.0] * 3, [np.nan] * 3, [np.inf] * 3]), "X2")
    with pytest.raises(EmptyData, match="X has 0 rows: give 1 or more"):
        rows_of(network, table[:0])
    with pytest.raises(WrongShape, match="3 inputs"):
        rows_of(network, table.to_numpy()[:, :2])


@pytest.mark.parametrize("ask", [gw.dual.npk, gw.dual.overlap, gw.dual.unit_shares])
def test_a_model_that_was_not_read_is_refused(ask, table) -> None:
    with pytest.raises(DataError, match=r"a Network, as gw.read\(model\) makes it; got a Lin"):
        ask(nn.Linear(3, 2), table)
