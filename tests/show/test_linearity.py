"""The section *How linear is it?*: the audit where a target is known, one affine rule elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

import gatewise as gw
from gatewise.show import linearity, truth
from gatewise.show.report import html
from pages import words


def labelled(explained, rows=240, **settings):
    X = np.random.default_rng(3).normal(size=(rows, 4))
    e = explained(4, 8, 1, X=X)
    noise = np.random.default_rng(4).logistic(size=rows) / 4
    labels = np.where(e.output[:, 0] + noise > np.median(e.output), "yes", "no").astype(object)
    return explained(4, 8, 1, X=X, target=labels, target_name="y", **settings)


def test_with_a_target_it_is_the_audit(explained):
    e = labelled(explained)
    section = linearity.section(e, truth.target(e))
    a = gw.audit(e, rules=(), repeats=linearity.DRAWS)
    assert section["linear_says"][0].replace("\u2212", "-") == a.verdict
    first, second = section["linear_table"].rows[:2]
    assert (first[0], second[0]) == ("The network", "A logistic regression")
    assert first[1] == f"{a['network'].figures['AUC'].value:.3f}"
    assert any("split off by the seed" in note for note in section["linear_notes"])
    page = words(html(e))
    for said in (*section["linear_says"], "gatewise audit says more"):
        assert " ".join(said.replace("\xa0", " ").split()) in page
    assert page.count("The one affine map that comes closest to the network") == 1
    assert "Variance of the network's output explained" not in page


def test_without_a_target_one_affine_rule_stands_beside_it(explained):
    e = explained(3, 6, 1, rows=100)
    section = linearity.section(e, None)
    (said,) = section["linear_says"]
    assert "explains" in said and "clusters of equal size" in said and "target" not in said
    assert section["linear_table"].columns == ("", "Network", "One affine rule")
    assert section["linear_notes"] == []
    alone = explained(3, 6, 1, rows=1)
    assert linearity.section(alone, None)["linear_table"] is None


@pytest.mark.parametrize(
    ("labels", "why"),
    [(["a"] * 50, "'a' in all rows"), (list("abcde") * 10, "cannot be matched")],
)
def test_a_target_that_cannot_be_audited_is_said_and_nothing_fails(explained, labels, why):
    X = np.random.default_rng(0).normal(size=(50, 3))
    e = explained(3, 5, 1, X=X, target=np.array(labels, object), target_name="y")
    (said,) = linearity.section(e, truth.target(e))["linear_says"]
    assert "The target is left out here" in said and why in said


def test_many_rows_are_thinned_and_it_is_said(explained, monkeypatch):
    monkeypatch.setattr(linearity, "MOST", 60)
    e = labelled(explained)
    section = linearity.section(e, truth.target(e))
    assert any("60 of the rows, evenly spaced" in note for note in section["linear_notes"])


def test_more_unknowns_than_are_solved_are_searched_for_and_it_is_said(explained, monkeypatch):
    X = np.random.default_rng(3).normal(size=(200, 130))
    labels = X[:, :10].argmax(1)
    e = explained(130, 8, 10, X=X, target=labels, target_name="y")
    section = linearity.section(e, truth.target(e))
    assert section["linear_table"].rows[1][0] == "A multinomial regression"
    (said,) = (note for note in section["linear_notes"] if "L-BFGS" in note)
    assert "1,310 unknowns" in said and "the largest entry of its gradient there is" in said
    monkeypatch.setattr(linearity, "UNKNOWNS", 1309)
    (said,) = linearity.section(e, truth.target(e))["linear_says"]
    assert "1,310 unknowns takes longer than a page may; gatewise audit fits it" in said
