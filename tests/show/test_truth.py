"""A metric is shown only where network and target fit together."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from gatewise.show.truth import fit, target


def metric(e):
    return fit(e, target(e))


def with_target(e, values):
    return dataclasses.replace(e, target=values)


def test_r_squared_of_a_quantity(explained):
    e = explained(3, 8, 1)
    y = e.output[:, 0]
    assert metric(with_target(e, y)).value == 1
    noisy = y + np.random.default_rng(0).normal(size=len(y))
    found = metric(with_target(e, noisy))
    assert found.name == "R²"
    assert found.value == pytest.approx(1 - ((noisy - y) ** 2).mean() / noisy.var())


@pytest.mark.parametrize("values", [(0, 1), (False, True), (0.0, 1.0), ("a", "b"), (-1, 1)])
def test_accuracy_of_one_logit(explained, values):
    e = explained(3, 8, 1)
    labels = np.array(values, dtype=object)[(e.output[:, 0] > 0).astype(int)]
    for given in (labels, labels.astype(type(values[0]))):
        found = metric(with_target(e, given))
        assert (found.name, found.value) == ("Accuracy", 1)


def test_one_logit_is_named_after_its_label(explained):
    e = explained(3, 8, 1, outputs=("a",))
    labels = np.array(["b", "a"])[(e.output[:, 0] > 0).astype(int)]
    assert metric(with_target(e, labels)).value == 1


def test_accuracy_by_index_and_by_name(explained):
    e = explained(3, 8, 3, outputs=("7", "8", "9"))
    best = e.output.argmax(1)
    assert metric(with_target(e, best)).value == 1
    assert metric(with_target(e, best + 7)).value == 1
    assert metric(with_target(e, (best + 7).astype(str))).value == 1
    assert "name" in metric(with_target(e, best + 7)).how
    assert "index" in metric(with_target(e, best)).how


def test_all_outputs_decide_when_one_is_explained(explained):
    e = explained(3, 8, 3, outputs=("a", "b", "c"))
    best = e.output.argmax(1)
    one = dataclasses.replace(
        e,
        outputs=(2,),
        output_names=("c",),
        coefficients=e.coefficients[:, 2:],
        intercepts=e.intercepts[:, 2:],
        error=e.error[:, 2:],
        bound=e.bound[:, 2:],
        target=best,
    )
    assert metric(one).value == 1


@pytest.mark.parametrize(
    "values",
    [
        np.linspace(0, 1, 60),  # several outputs, one quantity
        np.array(["a", "b", "z"] * 20),  # a label without an output
        np.array([0, 1, 5] * 20),
        np.zeros(59),
        np.full(60, np.nan),
    ],
)
def test_nothing_is_claimed_where_nothing_fits(explained, values):
    assert metric(with_target(explained(3, 8, 3), values)) is None


def test_three_labels_do_not_fit_one_output(explained):
    assert metric(with_target(explained(3, 8, 1), np.array(["a", "b", "c"] * 20))) is None
    assert metric(with_target(explained(3, 8, 1), np.full(60, 3.0))) is None


def test_unknown_targets_are_left_out_and_counted(explained):
    e = explained(3, 8, 1)
    labels = (e.output[:, 0] > 0).astype(float)
    labels[:5] = np.nan
    found = metric(with_target(e, labels))
    assert (found.value, found.unknown) == (1, 5)


def test_summary_of_a_cluster(explained):
    e = explained(3, 8, 1)
    rows = np.arange(4)
    assert target(with_target(e, np.array(["a", "a", "a", "b"] * 15))).summary(rows) == ("a", 0.75)
    assert target(with_target(e, np.arange(60.0))).summary(rows) == ("", 1.5)
    assert target(with_target(e, np.array([None] * 4 + ["b"] * 56, object))).summary(rows) is None
