"""What the page says of cohorts is what the cohorts hold; pictures of them too."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib")
from matplotlib.figure import Figure

from gatewise.explain.cohorts.cohorts import cohorts
from gatewise.show import cohort_view, plots
from gatewise.show.report import html
from pages import Elements, outside, words


@pytest.fixture(scope="module")
def found(explained):
    e = explained(
        4,
        12,
        1,
        rows=400,
        names=("<script>a</script>", "b", "c", "d"),
        target=np.arange(400) % 2,
        target_name="ill",
    )
    return cohorts(e, max_rules=5)


def test_every_cohort_has_a_line_and_a_card(found):
    v = cohort_view.view(found)
    assert v.count == len(found) == len(v.rows) == len(v.cards)
    assert [row[1].sort for row in v.rows] == found.sizes.tolist()
    assert all(len(row) == len(v.columns) for row in v.rows)
    for k, card in enumerate(v.cards):
        w = dict(zip(found.explanation.feature_names, found.coefficients[k], strict=True))
        assert {t.name: t.coefficient for t in card.terms} == pytest.approx(
            {n: c for n, c in w.items() if c}
        )
        assert card.intercept == found.intercepts[k]
        texts = [" and ".join(way) for way in card.ways]
        there = [" and ".join(map(str, way)) for way in found.conditions[k]]
        assert [t.replace("≤", "<=") for t in texts] == there


def test_the_numbers_are_those_of_the_held_out_rows(found):
    v = cohort_view.view(found)
    names = [c.name for c in v.columns]
    for row, f in zip(v.rows, found.fidelity, strict=True):
        cells = dict(zip(names, row, strict=True))
        assert cells["Mean error"].sort == f.mean
        assert cells["Largest"].sort == f.largest
        assert cells["Same decision"].sort == f.decisions
    assert f"On {found.overall.rows}\xa0rows that no rule was fitted on" in v.says


def test_the_curve_has_one_point_a_number_of_rules(found):
    points = cohort_view.points(found)
    assert points["rules"] == sorted(set(int(r) for r in found.curve["rules"]))
    for rules, error in zip(points["rules"], points["error"], strict=True):
        same = found.curve["rules"] == rules
        assert error == found.curve["mean"][same].min()
    assert points["chosen"] in points["rules"]


@pytest.mark.parametrize("draw", [plots.cohorts, plots.fidelity])
def test_pictures(found, draw):
    ax = Figure().add_subplot()
    assert draw(found, ax) is ax.figure
    assert isinstance(draw(found), Figure)
    draw(found).savefig("/dev/null", format="png")


def test_the_heat_map_holds_coefficient_times_deviation(found):
    from gatewise.show.plots_cohorts import leading

    names, values, order = leading(found, 3, 2)
    e = found.explanation
    for name, row in zip(names, values, strict=True):
        j = e.feature_names.index(name)
        np.testing.assert_allclose(row, found.coefficients[order, j] * e.scale[j])


def test_the_page(found):
    page = html(found.explanation, cohorts=found)
    assert outside(page) == []
    text = words(page)
    assert f"{len(found)} rules for 400 rows" in text
    assert "Rules of the largest clusters" in text
    cards = [a["id"] for _, a in Elements(page).found if str(a.get("id")).startswith("cohort-")]
    assert cards == [f"cohort-{k}" for k in range(len(found))]
    assert "nan" not in text.lower().replace("finance", "")


def test_one_rule_for_a_quantity(explained):
    e = explained(3, 6, 1, rows=100, target=np.linspace(0, 1, 100))
    c = cohorts(e, max_rules=1)
    v = cohort_view.view(c)
    names = [column.name for column in v.columns]
    assert "Same decision" not in names
    assert "From the target" in names
    text = words(html(e, cohorts=c))
    assert "1 rule for 100 rows" in text
    assert "if always" in text


def test_without_margins(explained):
    c = cohorts(explained(3, 6, 1, rows=100, margin=False), max_rules=2)
    v = cohort_view.view(c)
    assert "Median margin" not in [column.name for column in v.columns]
    assert all(len(row) == len(v.columns) for row in v.rows)


def test_the_files_hold_the_cohorts(found, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    from gatewise.show.save import save

    save(found.explanation, tmp_path / "out", cohorts=found)
    rows = parquet.read_table(tmp_path / "out" / "rows.parquet")
    np.testing.assert_array_equal(rows["cohort"].to_numpy(), found.ids)
    table = parquet.read_table(tmp_path / "out" / "cohorts.parquet")
    assert table["rows"].to_pylist() == found.sizes.tolist()
    assert table["condition"].to_pylist() == [found.condition(k) for k in range(len(found))]
    save(found.explanation, tmp_path / "out")
    assert not (tmp_path / "out" / "cohorts.parquet").exists()


def test_of_several_outputs_a_decision_is_one_against_the_rest(explained, found):
    e = explained(4, 12, 3, rows=300, target=np.arange(300) % 3, target_name="kind")
    several = cohorts(e, max_rules=2, output=1)
    names = [c.name for c in cohort_view.view(several).columns]
    assert {"Same decision (against the rest)", "Right (against the rest)"} <= set(names)
    assert "against the rest" not in " ".join(c.name for c in cohort_view.view(found).columns)
