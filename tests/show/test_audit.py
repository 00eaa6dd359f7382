"""The page of an audit: its words, its pictures, and no name in it that is markup."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

import chrome
import gatewise as gw
from gatewise.auditing.bootstrap import Interval
from gatewise.show.audit import page as audit_page
from gatewise.show.audit import plots as audit_plots
from gatewise.show.audit import words as audit_words
from nets import mlp
from pages import HOSTILE, Elements, outside, words


@pytest.fixture(scope="module")
def found():
    rng = np.random.default_rng(0)
    names = ["<b>a</b>", r"$\frac{", "{{ 7 * 7 }}", '"><img src=x>']
    x = pd.DataFrame(rng.normal(size=(260, 4)), columns=names)
    net = dataclasses.replace(mlp(4, 8, 1), feature_names=tuple(names))
    y = np.where(
        net(x.to_numpy(copy=True)).numpy()[:, 0] * 4 + rng.logistic(size=260) > 0, "<i>", "no"
    )
    return gw.audit(net, x, y, rules=(1, 4), repeats=100, holdout=0.5)


@pytest.fixture(scope="module")
def page(found):
    source = {"Model": "<i>m</i>"}
    return audit_page.html(found, list(audit_page.drawn(found)), HOSTILE[0], source)


def test_it_says_what_the_audit_found(page, found):
    text = words(page)
    said = " ".join(audit_words.verdict(found).replace("\xa0", " ").split())
    assert said in text
    for table in (audit_words.models_table(found), audit_words.cohorts_table(found)):
        for row in table.rows:
            for cell in row:
                assert " ".join(cell.replace("\xa0", " ").split()) in text
    assert "it looks better here than it is" in text
    assert f"{found.test_rows:,}" in text and "Newton steps" in text


def test_no_name_is_markup_and_nothing_reaches_outside(page):
    assert outside(page) == []
    assert "<b>a</b>" not in page and "<i>m" not in page and "<i> " not in page
    assert "49" not in Elements(page).text.split()  # {{ 7 * 7 }} is not worked out
    assert "{{ 7 * 7 }}" in Elements(page).text
    assert not Elements(page).scripts


def test_gains_are_drawn_where_they_are(found):
    shown = audit_words.ordered(found)
    ax = audit_plots.gains(found).axes[0]
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert [d.get_xdata()[0] for d in dots] == [100 * g.gain.value for g in shown]
    assert len(ax.get_yticklabels()) == len(found.gains)
    low, high = ax.get_xlim()
    assert low < 0 < high
    models = audit_plots.models(found).axes[0]
    values = [line.figures["AUC"].value for line in found.lines]
    assert [d.get_xdata()[0] for d in models.lines if d.get_marker() == "o"] == values


def test_words_for_what_cannot_be_measured(found):
    nan = float("nan")
    first = dataclasses.replace(
        found.gains[0], gain=Interval(-0.1, nan, nan), answer="too few rows"
    )
    odd = dataclasses.replace(found, gains=(first, *found.gains[1:]))
    row = next(r for r in audit_words.cohorts_table(odd).rows if r[-1] == "too few rows")
    assert row[-2] == "\u221210.0"
    assert audit_page.html(odd, list(audit_page.drawn(odd)), None, {})
    alone = dataclasses.replace(found, gains=(), uses=())
    assert [d.name for d in audit_page.drawn(alone)] == ["models"]
    bare = words(audit_page.html(alone, list(audit_page.drawn(alone)), None, {}))
    assert "earn its keep?" not in bare and "A gain is a saving" not in bare
    assert "A gain is a saving" in words(
        audit_page.html(odd, list(audit_page.drawn(odd)), None, {})
    )
    assert audit_words.rules_of("") == {} and audit_words.rules_of("none") == {"rules": ()}
    assert audit_words.rules_of("1, 16") == {"rules": (1, 16)}


@pytest.mark.browser
def test_in_a_browser_nothing_complains_and_nothing_is_cut_off(page, tmp_path):
    path = tmp_path / "p.html"
    path.write_text(page, "utf-8")
    browsers = chrome.launch()
    browser = next(browsers)
    for width in (1200, 390):
        with chrome.opened(browser, path, width=width, java_script_enabled=False) as tab:
            assert tab.complaints == [] and len(tab.requests) == 1
            assert tab.locator("svg").count() >= 2
            box = tab.locator("main").bounding_box()
            assert box is not None and box["width"] <= width
    browsers.close()
