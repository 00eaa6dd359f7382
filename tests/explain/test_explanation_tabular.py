"""Contributions add up to the model itself, in original units, through whole Pipelines."""

from __future__ import annotations

import numpy as np
import pytest

import gatewise as gw
import tabular

pytestmark = [pytest.mark.real_data]


def models_answer(model, table, outputs):
    """(rows, outputs or fewer) what scikit-learn says, and how to get there from our outputs."""
    if not hasattr(model, "predict_proba"):
        return model.predict(table)[:, None], lambda y: y
    if outputs == 1:
        return model.predict_proba(table)[:, 1:], lambda y: 1 / (1 + np.exp(-y))
    return model.predict_proba(table), softmax


def softmax(y):
    high = np.exp(y - y.max(1, keepdims=True))
    return high / high.sum(1, keepdims=True)


@pytest.mark.parametrize("name", tabular.NAMES)
def test_values_and_base_value_are_the_models_output(name):
    model, _, x, _, _ = tabular.pipeline(name, hidden=(16, 16), max_iter=8, rows=2500)
    exp = gw.explain(model, x, margin=False)
    scale = np.maximum(1, np.abs(exp.output))
    total = exp.base_values + exp.values.sum(1)
    assert (np.abs(total - exp.output) / scale).max() <= 1e-12
    folded = exp.folded()
    assert (np.abs(folded.base_values + folded.values.sum(1) - exp.output) / scale).max() <= 1e-12
    theirs, link = models_answer(model, x, len(exp.outputs))
    ours = link(total)
    assert (np.abs(ours - theirs) / np.maximum(1, np.abs(theirs))).max() <= 1e-12


@pytest.mark.parametrize("name", ["adult", "german_credit", "penguins", "titanic"])
def test_the_pipelines_categories_are_the_groups(name):
    model, _, x, _, _ = tabular.pipeline(name, hidden=(4,), max_iter=2, rows=1500)
    _, _, numbers, categories = tabular.load(name)
    exp = gw.explain(model, x, margin=False)
    assert {g.name for g in exp.groups} == set(categories)
    units = dict(zip(exp.feature_names, exp.units, strict=True))
    assert {units[c] for c in numbers} == {"original"}
    folded = exp.folded()
    assert set(folded.feature_names) == {*numbers, *categories}
    for group in exp.groups:
        column = folded.feature_names.index(group.name)
        levels = [*group.levels, group.dropped]
        raw = x[group.name].astype(object)
        known = raw.notna().to_numpy()
        assert folded.display_data[known, column].tolist() == raw[known].map(str).tolist()
        member = exp.values[:, list(group.members)].sum(1)
        np.testing.assert_allclose(folded.values[:, column], member, rtol=1e-13, atol=1e-13)
        picked = folded.data[:, column]
        assert [levels[int(k)] for k in picked] == folded.display_data[:, column].tolist()
