from __future__ import annotations

import html as entities
import re

import numpy as np
import pytest
import torch

from gatewise.errors import DataError, OutputError
from gatewise.ir.kinds import Smooth
from gatewise.ir.network import Node
from gatewise.show import facts, say
from gatewise.show.report import html, report
from gatewise.show.scripts import scripts
from pages import HOSTILE, Elements, outside, payload, unpacked, words


def test_the_check_for_outside_can_fail():
    page = '<a href="https://x.org"><img src=x onerror=y><p style="background:url(x.png)">'
    assert len(outside(page)) >= 6
    assert outside("<script>alert(1)</script>") == [("script", "alert(1)")]
    assert outside('<script type="application/json">{"a": "<b>"}</script>') != []


def test_one_self_contained_file(explained, tmp_path):
    path = report(explained(4, 8, 1), tmp_path / "r.html", source="made by hand")
    page = path.read_text("utf-8")
    assert outside(page) == []
    assert page.startswith("<!doctype html>")
    assert "default-src 'none'; script-src 'sha256-" in page
    assert "unsafe-eval" not in page.partition("<style>")[0]
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]
    assert "made by hand" in page


def test_ids_are_unique_and_every_reference_has_one(explained):
    page = html(explained(4, 8, 3))
    ids = [a["id"] for _, a in Elements(page).found if "id" in a]
    used = {a["href"][1:] for _, a in Elements(page).found if "href" in a}
    markup = page.partition('<script type="application/json"')[0]
    used |= set(re.findall(r"url\(#([^)]*)\)", markup))
    assert ids
    assert len(ids) == len(set(ids))
    assert used <= set(ids)


def test_hostile_names_stay_text(explained):
    n = len(HOSTILE)
    e = explained(
        n,
        8,
        3,
        names=HOSTILE,
        outputs=HOSTILE[:3],
        notes=HOSTILE,
        rows=40,
        target=np.array(["<script>t</script>", HOSTILE[1]] * 20, dtype=object),
        target_name="<script>n</script>",
    )
    source = {"model": {"name": "<script>m", "sha256": "<b>"}, "versions": {"<i>": "<u>"}}
    page = html(e, title="</title><script>x</script>", source=source)
    assert outside(page) == []
    found = Elements(page)
    assert not {tag for tag, _ in found.found} & {"u", "alert"}
    assert len(found.scripts) == 1 + len(scripts())
    assert not any("alert" in text for kind, text in found.scripts if kind == "")
    assert "<script>alert(1)</script>" in entities.unescape(page)
    assert "7 * 7" in page
    assert "\u202e" not in page


def test_the_verdict_and_key_figures_are_those_of_the_explanation(explained):
    e = explained(4, 8, 1, rows=200, target=np.arange(200) % 2)
    page = words(html(e))
    assert f"200 rows fall in {e.clusters} regions; in each, the network is exactly" in page
    median = facts.quantile(e.margin.scaled.numpy(), 0.5)
    assert f"a change of {median:.3g}"[:20] in page
    right = ((e.output[:, 0] > 0) == e.target).mean()
    assert "Accuracy" in page
    assert f"{100 * right:.0f} %" in page


def test_a_rule_card_holds_the_rule(explained):
    e = explained(3, 6, 1, names=("age", "dose", "weight"), outputs=("risk",), rows=100)
    card = facts.section(e, 0, 3, None).cards[1]
    w = {t.name: t.coefficient for t in card.terms}
    first = int(e.census.first[1])
    value = card.intercept + sum(
        w.get(n, 0) * x for n, x in zip(e.feature_names, e.data[first], strict=True)
    )
    assert value == pytest.approx(card.example_output, abs=1e-12)
    assert card.error <= card.bound
    assert [abs(t.effect) for t in card.terms] == sorted(abs(t.effect) for t in card.terms)[::-1]
    assert "risk =" in words(html(e))


def test_terms_and_rest_make_the_whole(explained):
    card = facts.section(explained(40, 6, 1), 0, 1, None).cards[0]
    assert len(card.terms) == facts.TERMS
    assert card.more == 40 - facts.TERMS
    assert sum(t.share for t in card.terms) + card.rest == pytest.approx(1)


def test_slopes_say_how_much_they_vary(explained):
    e = explained(3, 8, 1, rows=500)
    for s in facts.section(e, 0, 1, None).slopes:
        w = e.slopes[:, e.feature_names.index(s.name), 0]
        assert s.mean == pytest.approx(w.mean())
        assert s.positive == pytest.approx((w > 0).mean())
        assert (w < s.low).mean() <= 0.05 <= (w <= s.low).mean() + 1e-9
        assert (w > s.high).mean() <= 0.05 + 1e-9


def test_three_outputs_get_a_section_and_the_rest_a_line(explained):
    page = words(html(explained(4, 8, 5)))
    assert page.count("rules of the largest clusters") == 3
    assert "2 more outputs explained (y3, y4)" in page


def test_many_features_do_not_explode_the_page(explained):
    page = html(explained(784, 16, 10, rows=50), top=10)
    assert len(page) - sum(map(len, scripts())) < 1_500_000
    assert page.count("x783") < 30


def test_locality_is_said_only_when_most_rows_are_alone(explained):
    assert say.locality(explained(10, 64, 64, 1, rows=100)).startswith("All 100 rows are alone")
    assert say.locality(explained(2, 3, 1, rows=100)) == ""


@pytest.mark.parametrize("rows", [1, 2, 30])
@pytest.mark.parametrize("sizes", [(1, 1), (3, 1), (1, 3, 1), (2, 4, 2)])
def test_small_cases(explained, sizes, rows):
    page = html(explained(*sizes, rows=rows))
    assert outside(page) == []
    assert "nan" not in words(page).lower()


def test_without_margins(explained):
    page = words(html(explained(3, 8, 1, margin=False)))
    assert "Median margin" not in page
    assert "Reach" not in page


def test_columns_that_never_vary(explained):
    X = np.ones((20, 3))
    assert "nan" not in words(html(explained(3, 8, 1, X=X))).lower()


def test_skipped_rows_and_notes_are_listed(explained):
    import dataclasses

    e = explained(3, 8, 1, notes=("dropout is off",))
    e = dataclasses.replace(e, matrix=dataclasses.replace(e.matrix, skipped=(3, 77)))
    page = words(html(e))
    assert "2 rows with NaN or infinity left out (counted from 0): 3, 77." in page
    assert "dropout is off" in page


def test_logits_are_called_logits(explained):
    import dataclasses

    e = explained(3, 8, 1)
    head = (Node("p", "Sigmoid", Smooth(torch.sigmoid), (e.network.output,), (1,)),)
    page = words(html(dataclasses.replace(e, network=dataclasses.replace(e.network, head=head))))
    assert "logit of y0 =" in page
    assert "not probabilities" in page
    assert "not probabilities" not in words(html(e))


def test_provenance(explained):
    source = {
        "model": {"name": "m.onnx", "sha256": "abc"},
        "network": {"fingerprint": "f00"},
        "versions": {"gatewise": "9.9"},
        "data": None,
    }
    page = words(html(explained(2, 3, 1), source=source))
    for said in ("m.onnx (sha256 abc)", "f00", "gatewise 9.9", "float64"):
        assert said in page


def test_bad_top(explained):
    with pytest.raises(DataError, match="top must be at least 1, got 0"):
        html(explained(2, 3, 1), top=0)


# ---------------------------------------------------------------- writing


def test_a_full_disk_leaves_the_old_page(explained, tmp_path, monkeypatch):
    out = tmp_path / "r.html"
    out.write_text("old")

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gatewise.tables.writing.flush", full)
    with pytest.raises(OutputError, match=r"could not write .*r\.html.*No space left"):
        report(explained(2, 3, 1), out)
    assert out.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]


def test_a_folder_in_the_way(explained, tmp_path):
    with pytest.raises(OutputError, match=r"folder|directory"):
        report(explained(2, 3, 1), tmp_path)


@pytest.mark.slow
def test_ten_thousand_rows_take_at_most_six_megabytes(explained):
    from gatewise.explain.cohorts.cohorts import cohorts

    e = explained(21, 64, 64, 64, 1, rows=10_000, target=np.arange(10_000) % 2)
    page = html(e, cohorts=cohorts(e, max_rules=8))
    assert len(page.encode()) <= 6_000_000
    # Fifteen digits in every cell, the worst case; and still no row is left out.
    np.testing.assert_array_equal(unpacked(payload(page)["rows"]["index"]), np.arange(10_000))
    assert "All 10,000 rows are in this page" in words(page)
