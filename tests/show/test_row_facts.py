"""What is said of single rows, and the table of an evaluation, against what they were made from."""

from __future__ import annotations

import numpy as np
import pytest

from gatewise.errors import DataError
from gatewise.explain.evaluation.evaluate import evaluate
from gatewise.explain.reasons import reason_codes
from gatewise.explain.recourse.recourse import recourse
from gatewise.explain.stops import stops
from gatewise.show import row_facts, trust
from gatewise.show.report import html
from pages import outside, payload, unpacked, words


def test_the_page_holds_where_rules_stop(explained):
    e = explained(4, 12, 1, rows=80)
    data = payload(html(e))["stops"]
    there = stops(e)
    names = [data["gates"][int(g)] for g in unpacked(data["gate"])]
    assert names == list(there.gate)
    for key, column in (("unit", there.unit), ("here", there.in_region), ("flips", there.flips)):
        np.testing.assert_array_equal(unpacked(data[key]), column)
    np.testing.assert_allclose(unpacked(data["change"]), there.change, rtol=1e-6)
    leading = unpacked(data["leading"]).reshape(80, -1).astype(int)
    steps = unpacked(data["steps"]).reshape(80, -1)
    for i in range(80):
        for j, step in zip(leading[i], steps[i], strict=True):
            assert j < 0 or step == pytest.approx(there.step[i, j], rel=1e-6)


def test_the_page_holds_the_reasons(explained):
    e = explained(5, 8, 1, rows=60)
    data = payload(html(e))["reasons"]
    there = reason_codes(e, 4)
    np.testing.assert_array_equal(unpacked(data["count"]), there.count)
    np.testing.assert_array_equal(unpacked(data["codes"]).reshape(60, 4), there.codes)
    np.testing.assert_allclose(unpacked(data["amounts"]).reshape(60, 4), there.amounts, rtol=1e-6)


def test_reasons_of_some_rows_are_those_of_these_rows(explained):
    e = explained(5, 8, 1, rows=60)
    given = reason_codes(e, 2, rows=[7, 30], adverse="high")
    data = payload(html(e, reasons=given))["reasons"]
    count = unpacked(data["count"])
    assert set(np.flatnonzero(count >= 0)) == {7, 30}
    codes = unpacked(data["codes"]).reshape(60, 2)
    np.testing.assert_array_equal(codes[[7, 30]], given.codes)
    assert data["says"].startswith("At most 2 factors that push the row towards a high output y0")


def test_the_page_holds_the_recourse(explained):
    e = explained(3, 8, 1, rows=40)
    there = {int(i): recourse(e.network, e.data[i], method="region") for i in (0, 5)}
    page = html(e, recourse=there)
    assert outside(page) == []
    data = payload(page)["recourse"]["rows"]
    assert set(data) == {"0", "5"}
    for row, answer in there.items():
        assert data[str(row)]["status"] == answer.status
        if answer.point is not None:
            np.testing.assert_array_equal(data[str(row)]["point"], answer.point)
            assert len(data[str(row)]["changes"]) == len(answer.changes)


def test_recourse_of_a_row_that_is_not_there(explained):
    e = explained(3, 8, 1, rows=40)
    there = {40: recourse(e.network, e.data[0], method="region")}
    with pytest.raises(DataError, match="recourse names row 40, which is not explained"):
        row_facts.recourses(e, there)


def test_without_margins_nothing_is_said_of_walls(explained):
    e = explained(3, 8, 1, rows=30, margin=False)
    page = html(e)
    assert payload(page)["stops"] is None
    assert "Beyond the nearest wall" not in words(page)


def test_the_evaluation_is_shown_line_by_line(explained):
    e = explained(3, 8, 1, rows=60, target=np.arange(60) % 2)
    ev = evaluate(e)
    t = trust.trust(ev)
    lines = [line for group in t.groups for line in group.lines]
    assert [line.name.lower() for line in lines] == [m.name.lower() for m in ev.measures]
    for line, measure in zip(lines, ev.measures, strict=True):
        numbers = [None if c.sort == "" else c.sort for c in line.cells]
        assert numbers == [None if v is None else float(v) for v in measure.values]
        best = [c.sort for c in line.cells if c.best]
        if best and measure.better:
            pick = min if measure.better == "lower" else max
            assert pick(v for v in measure.values if v is not None) in best
    text = words(html(e, evaluation=ev))
    assert "(no name)" not in text
    for measure in ev.measures:
        assert measure.definition[:30] in text
