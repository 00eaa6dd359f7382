"""What belongs to another model, another row or another name does not get on the page."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import gatewise as gw
from gatewise.errors import DataError
from gatewise.explain.cohorts.cohorts import cohorts
from gatewise.explain.evaluation.evaluate import Evaluation, evaluate
from gatewise.explain.explanation import explain
from gatewise.explain.reasons import reason_codes
from gatewise.explain.recourse.recourse import recourse
from gatewise.show.report import html, report
from nets import mlp


@pytest.fixture(scope="module")
def mine(explained):
    return explained(3, 8, 1, rows=40)


@pytest.fixture(scope="module")
def same_rows(mine):
    """Another network of the same shape on the same rows."""
    return explain(mlp(3, 8, 1, seed=7), mine.matrix)


@pytest.fixture(scope="module")
def other_rows(mine, explained):
    return explained(3, 8, 1, rows=40, seed=5)


def evaluation(output="y0", rows=40):
    return Evaluation(("exact rule",), (), output, rows, 0, ())


def refused(e, **objects):
    with pytest.raises(DataError) as caught:
        html(e, **objects)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_cohorts_of_another_network_or_other_rows(mine, same_rows, other_rows):
    theirs = cohorts(same_rows, max_rules=2)
    assert "cohorts= is not of this explanation (it is of another network)" in refused(
        mine, cohorts=theirs
    )
    theirs = cohorts(other_rows, max_rules=2)
    assert "(it is of other rows): ask gatewise.cohorts" in refused(mine, cohorts=theirs)
    html(mine.against("zero"), cohorts=cohorts(mine, max_rules=2))  # the same rules and rows


def test_reasons_of_another_network_or_other_rows(mine, same_rows, other_rows):
    for theirs in (same_rows, other_rows):
        assert "reasons= is not of this explanation" in refused(mine, reasons=reason_codes(theirs))
    for options in ({}, {"reference": "zero"}, {"groups": {"g": ["x0", "x1"]}}, {"k": 9}):
        html(mine, reasons=reason_codes(mine, **options))
    few = dataclasses.replace(reason_codes(mine, rows=[3]), rows=np.array([77]))
    assert "it is of row 77, and here are 40" in refused(mine, reasons=few)


def test_an_evaluation_of_another_output_or_more_rows(mine):
    assert "of output 'z', which is not explained" in refused(mine, evaluation=evaluation("z"))
    assert "it used 41 rows, and here are 40" in refused(mine, evaluation=evaluation(rows=41))
    html(mine, evaluation=evaluation())


def test_an_evaluation_of_another_network(mine, same_rows):
    theirs, own = (evaluate(e, rows=5) for e in (same_rows, mine))
    assert "(it is of another network)" in refused(mine, evaluation=theirs)
    html(mine, evaluation=own)


def test_recourse_of_another_row_or_network(mine, same_rows):
    own = recourse(mine.network, mine.data[3], method="region")
    html(mine, recourse={3: own, np.int64(3): own})
    assert "the recourse of row 4 is not of this explanation (it starts from another row)" in (
        refused(mine, recourse={4: own})
    )
    theirs = recourse(same_rows.network, mine.data[3], method="region")
    assert "the output it starts from is another network's" in refused(mine, recourse={3: theirs})
    named = dataclasses.replace(own, names=("a", "b", "c"))
    assert "its features are a, b, c" in refused(mine, recourse={3: named})


@pytest.mark.parametrize(
    ("objects", "words"),
    [
        ({"reasons": "yes"}, "reasons= is a str: give what gatewise.reason_codes returns"),
        ({"cohorts": 1}, "cohorts= is an int: give what gatewise.cohorts returns"),
        ({"evaluation": {}}, "evaluation= is a dict: give what gatewise.evaluate returns"),
        ({"recourse": 3}, "recourse= is an int, not answers by row: give {row: what"),
        ({"recourse": {3: "yes"}}, "recourse= is a dict, not answers by row"),
        ({"recourse": {"3": None}}, "recourse= is a dict, not answers by row"),
    ],
)
def test_what_is_no_result_is_refused(mine, objects, words):
    assert words in refused(mine, **objects)


def test_unknown_names_and_what_is_no_explanation(mine, tmp_path):
    with pytest.raises(DataError, match="report takes no cohort=: beside the explanation it shows"):
        report(mine, tmp_path / "r.html", cohort=1)
    with pytest.raises(TypeError, match="'cohort'"):
        gw.report(mine, tmp_path / "r.html", cohort=1)
    for given in (mine[:3], mine.network, None):
        for write in (gw.report, gw.save):
            with pytest.raises(DataError, match=f"{write.__name__} takes the Explanation that gat"):
                write(given, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
