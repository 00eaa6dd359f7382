"""The report in a real browser: what it shows is what the model computes, and nothing leaves it."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

import chrome
from gatewise.show.report import report

pytestmark = pytest.mark.browser
NAMES = ("<script>alert(1)</script>", "age", "dose $$x$$", 'a"b', "列", "flag")
PAGES = ("model", "cohorts", "features", "row", "trust")


@pytest.fixture(scope="module")
def browser():
    yield from chrome.launch()


@pytest.fixture(scope="module")
def model(explained):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(300, len(NAMES)))
    X[:, 1] = rng.integers(-3, 4, 300)
    X[:, 5] = rng.integers(0, 2, 300)
    target = (X[:, 1] > 0).astype(int)
    return explained(6, 16, 8, 1, names=NAMES, X=X, target=target, target_name="<b>ill</b>")


@pytest.fixture(scope="module")
def path(model, tmp_path_factory) -> Path:
    return report(model, tmp_path_factory.mktemp("report") / "report.html", title="</title><i>")


def set_value(page, selector: str, value: float) -> None:
    """What a slider does when it is dragged."""
    page.eval_on_selector(
        selector,
        "(e, v) => { e.value = v; e.dispatchEvent(new Event('input', { bubbles: true })); }",
        value,
    )


def output(page) -> float:
    return float(page.get_attribute("#try-figures", "data-output"))


def test_it_opens_without_a_complaint_or_a_request(browser, path):
    for settings in ({}, {"color_scheme": "dark"}, {"width": 420}):
        with chrome.opened(browser, path, **settings) as page:
            for name in PAGES:
                page.click(f"nav a[href='#{name}']")
                page.wait_for_timeout(50)
            page.click("#theme")
            page.wait_for_timeout(300)
            assert page.complaints == []
            assert page.requests == [page.url.partition("#")[0]]


def test_a_complaint_would_be_seen(browser, path, tmp_path):
    text = path.read_text("utf-8").replace('"use strict";', '"use strict"; console.error("x");', 1)
    broken = tmp_path / "broken.html"
    broken.write_text(text, "utf-8")  # its hash is not that of the policy: it may not run
    context = browser.new_context()
    tab = context.new_page()
    seen: list[str] = []
    tab.on("console", lambda m: seen.append(m.text))
    tab.goto(broken.as_uri())
    tab.wait_for_timeout(300)
    assert any("Content Security Policy" in text for text in seen)
    assert tab.get_attribute("html", "data-ready") is None
    context.close()


def test_the_policy_names_the_scripts_that_are_there(path):
    text = path.read_text("utf-8")
    bodies = [part.partition("</script>")[0] for part in text.split("<script>")[1:]]
    assert len(bodies) >= 2
    for body in bodies:
        assert base64.b64encode(hashlib.sha256(body.encode()).digest()).decode() in text


def test_a_picked_row_shows_the_output_of_the_model(browser, path, model):
    with chrome.opened(browser, path, page="row") as page:
        for row in (0, 17, 299):
            page.fill("#row-index", str(row))
            page.press("#row-index", "Enter")
            assert output(page) == pytest.approx(float(model.output[row, 0]), abs=1e-6)
            shown = page.inner_text("#row-figures .value >> nth=0").replace("−", "-")
            assert float(shown) == pytest.approx(float(model.output[row, 0]), rel=1e-3, abs=1e-3)
        assert page.complaints == []


def test_a_moved_slider_shows_the_output_of_the_model(browser, path, model):
    moves = {1: 2.0, 0: 0.731, 5: 1.0, 2: -1.25}
    with chrome.opened(browser, path, page="row") as page:
        page.fill("#row-index", "11")
        page.press("#row-index", "Enter")
        x = model.data[11].copy()
        for j, value in moves.items():
            set_value(page, f"#slide-{j}", value)
            x[j] = page.eval_on_selector(f"#slide-{j}", "e => e.valueAsNumber")
            assert x[j] == pytest.approx(value, abs=0.02)
            there = float(model.network(torch.from_numpy(x[None])))
            assert output(page) == pytest.approx(there, abs=1e-6)
        assert float(model.output[11, 0]) != pytest.approx(there, abs=1e-3)
        page.click("#try-reset")
        assert output(page) == pytest.approx(float(model.output[11, 0]), abs=1e-6)


def test_the_units_that_switch_are_those_of_the_pattern(browser, path, model):
    from gatewise.patterns.observe import pattern

    with chrome.opened(browser, path, page="row") as page:
        x = model.data[[0, 0]].copy()
        x[1, 1] = 3.0 if x[0, 1] < 0 else -3.0
        set_value(page, "#slide-1", x[1, 1])
        both = pattern(model.network, torch.from_numpy(x))
        different = sum(int((both.codes(g)[0] != both.codes(g)[1]).sum()) for g in both)
        assert different > 0
        assert page.inner_text("#try-figures .value >> nth=2") == str(different)


def test_the_margin_of_the_page_is_the_margin(browser, path, model):
    with chrome.opened(browser, path, page="row") as page:
        for row in (0, 5, 40):
            page.fill("#row-index", str(row))
            page.press("#row-index", "Enter")
            shown = float(page.inner_text("#try-figures .value >> nth=3"))
            assert shown == pytest.approx(float(model.margin.scaled[row]), rel=6e-3)


def test_names_stay_text_everywhere(browser, path):
    with chrome.opened(browser, path, page="row") as page:
        page.click("summary:has-text('All rows')")
        set_value(page, "#slide-0", 0.5)
        assert page.title() == "</title><i>"
        seen = page.evaluate("document.body.textContent")
        assert "<script>alert(1)</script>" in seen
        assert "<b>ill</b>" in seen
        assert page.evaluate("document.querySelectorAll('i, b b, body script').length") == (
            page.evaluate("document.querySelectorAll('.bar i, .stack i, body > script').length")
        )
        assert page.complaints == []


def test_everything_is_reached_by_keyboard(browser, path):
    with chrome.opened(browser, path) as page:
        for name in PAGES:
            for _ in range(12):
                page.keyboard.press("Tab")
                if page.evaluate("document.activeElement.hash") == f"#{name}":
                    break
            assert page.evaluate("document.activeElement.hash") == f"#{name}"
            page.keyboard.press("Enter")
            assert page.is_visible(f"#{name}")
            assert page.get_attribute(f"nav a[href='#{name}']", "aria-current") == "page"
            hidden = [other for other in PAGES if other != name]
            assert not any(page.is_visible(f"#{other} h2, #{other} dl") for other in hidden)
            page.focus("nav a[href='#model']") if name != "trust" else None
            page.evaluate("document.activeElement.blur()")
            page.focus("body")


def test_a_slider_moves_by_keyboard(browser, path):
    with chrome.opened(browser, path, page="row") as page:
        before = output(page)
        page.focus("#slide-0")
        page.keyboard.press("ArrowRight")
        assert output(page) != before


def test_tables_sort_and_filter(browser, path, model):
    with chrome.opened(browser, path, page="row") as page:
        page.click("summary:has-text('All rows')")
        page.click("#rows th:has-text('Margin') button")
        first = int(page.inner_text("#rows tbody tr:first-child th"))
        assert first == int(np.argmax(model.margin.scaled.numpy()))
        page.fill("#rows-filter", "age < 0 margin > 0.01")
        keep = (model.data[:, 1] < 0) & (model.margin.scaled.numpy() > 0.01)
        assert page.inner_text("#rows-found") == f"{keep.sum()} rows"
        page.click("#rows tbody tr:first-child button")
        assert keep[int(page.input_value("#row-index"))]


@pytest.mark.parametrize("width", [360, 420, 768])
def test_nothing_runs_over_the_side(browser, path, width):
    with chrome.opened(browser, path, width=width) as page:
        for name in PAGES:
            page.click(f"nav a[href='#{name}']")
            wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, name


def test_print_shows_every_page_in_light(browser, path):
    with chrome.opened(browser, path, color_scheme="dark") as page:
        page.emulate_media(media="print", color_scheme="dark")
        assert all(page.is_visible(f"#{name}") for name in PAGES)
        assert not page.is_visible("nav")
        white = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert white == "rgb(255, 255, 255)"


def test_without_script_it_is_one_long_page(browser, path):
    with chrome.opened(browser, path, java_script_enabled=False) as page:
        assert all(page.is_visible(f"#{name}") for name in PAGES)
        assert page.is_visible("#row .static")
        assert not page.is_visible("#row-index")
        assert page.locator("#features svg[role=img]").count() > 1


def test_the_theme_changes_the_paper_and_the_charts(browser, path):
    with chrome.opened(browser, path, page="features", color_scheme="light") as page:
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.click("#theme")
        page.wait_for_timeout(500)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != paper
        assert page.get_attribute("html", "data-drawn") == "dark"
        assert page.locator("#importance-0 > *").count() == 1
        assert page.complaints == []


def groups_model():
    """A Pipeline with two one-hot columns, one of them with a dropped level."""
    pytest.importorskip("sklearn")
    import pandas as pd
    from sklearn.compose import make_column_transformer
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "port": rng.choice(["S", "C", "<b>Q</b>"], 120),
            "sex": rng.choice(["f", "m"], 120),
            "age": rng.integers(1, 80, 120),
            "fare": rng.normal(30, 9, 120),
        }
    )
    y = (table["sex"] == "f") * 20 + table["age"] * 0.3 + rng.normal(size=120)
    encode = make_column_transformer(
        (OneHotEncoder(), ["port"]),
        (OneHotEncoder(drop="first"), ["sex"]),
        (StandardScaler(), ["age", "fare"]),
    )
    net = MLPRegressor(hidden_layer_sizes=(8,), max_iter=30, random_state=0)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make_pipeline(encode, net).fit(table, y), table


def test_a_category_is_one_choice(browser, tmp_path):
    import gatewise as gw

    model, table = groups_model()
    e = gw.explain(model, table)
    out = report(e, tmp_path / "r.html")
    with chrome.opened(browser, out, page="row") as page:
        labels = page.locator("#sliders label").all_inner_texts()
        assert sorted(labels) == ["age", "fare", "port", "sex"]
        port = page.locator("#sliders select").nth(labels.index("port"))
        assert port.locator("option").all_inner_texts()[:3] == ["<b>Q</b>", "C", "S"]
        port.select_option(label="<b>Q</b>")
        row = table.iloc[[0]].assign(port="<b>Q</b>")
        assert output(page) == pytest.approx(float(model.predict(row)[0]), abs=1e-6)
        page.locator("#sliders select").nth(labels.index("sex")).select_option(label="m")
        row = row.assign(sex="m")
        assert output(page) == pytest.approx(float(model.predict(row)[0]), abs=1e-6)
        assert page.complaints == []


def test_a_network_that_does_not_fit_is_left_out_and_the_page_says_why(browser, tmp_path):
    from gatewise.explain.explanation import explain
    from gatewise.tables import Matrix
    from nets import Chain

    chain = Chain(3, 0)
    chain.linear(8)
    chain.maxout(4)
    chain.linear(1)
    X = np.random.default_rng(0).normal(size=(50, 3))
    e = explain(chain.network(), Matrix(X, (), np.arange(50)))
    out = report(e, tmp_path / "r.html")
    with chrome.opened(browser, out, page="row") as page:
        assert "chooses between inputs" in page.inner_text("#what-if")
        assert page.locator("#sliders").count() == 0
        page.fill("#row-index", "9")
        page.press("#row-index", "Enter")
        shown = page.inner_text("#row-figures .value >> nth=0").replace("−", "-")
        assert float(shown) == pytest.approx(float(e.output[9, 0]), rel=1e-3)
        assert page.locator("#row-rule b").count() == 3
        assert page.locator("#waterfall > *").count() == 1
        assert page.complaints == []


def test_several_outputs(browser, explained, tmp_path):
    e = explained(4, 10, 3, rows=60, outputs=("a", "<i>b</i>", "c"))
    out = report(e, tmp_path / "r.html")
    with chrome.opened(browser, out, page="row") as page:
        assert page.locator("#row-figures .value").count() >= 3
        for o in (0, 1, 2):
            page.select_option("#try-output", str(o))
            assert output(page) == pytest.approx(float(e.output[0, o]), abs=1e-6)
        set_value(page, "#slide-2", 0.5)
        x = e.data[0].copy()
        x[2] = page.eval_on_selector("#slide-2", "e => e.valueAsNumber")
        there = e.network(torch.from_numpy(x[None])).numpy()[0, 2]
        assert output(page) == pytest.approx(float(there), abs=1e-6)
        assert page.complaints == []


def test_rows_that_do_not_fit_are_a_stated_sample(browser, explained, tmp_path, monkeypatch):
    from gatewise.show import embed

    monkeypatch.setattr(embed.rows, "__defaults__", (40, 1_000_000))
    e = explained(3, 6, 1, rows=200)
    out = report(e, tmp_path / "r.html")
    kept = embed.rows(e)
    assert len(kept) <= 40
    with chrome.opened(browser, out, page="row") as page:
        assert f"{len(kept)} of 200" in page.inner_text("#row-note").replace("\xa0", " ")
        page.fill("#row-index", str(kept[3]))
        page.press("#row-index", "Enter")
        assert output(page) == pytest.approx(float(e.output[kept[3], 0]), abs=1e-6)
        missing = next(i for i in range(200) if i not in kept)
        page.fill("#row-index", str(missing))
        page.press("#row-index", "Enter")
        assert page.eval_on_selector("#row-index", "e => e.validationMessage").startswith(
            f"Row {missing} is not in this page"
        )


def test_cohorts_and_recourse_are_on_the_page(browser, explained, tmp_path):
    from gatewise.explain.cohorts.cohorts import cohorts
    from gatewise.explain.recourse.recourse import recourse

    e = explained(4, 12, 1, rows=200)
    c = cohorts(e, max_rules=4)
    answers = {3: recourse(e.network, e.data[3], method="region")}
    out = report(e, tmp_path / "r.html", cohorts=c, recourse=answers)
    with chrome.opened(browser, out, page="row") as page:
        page.fill("#row-index", "3")
        page.press("#row-index", "Enter")
        figure = page.locator("#row-figures div", has_text="Cohort")
        assert figure.locator(".value").inner_text() == str(c.ids[3])
        said = figure.locator(".note").inner_text().partition("says ")[2].replace("−", "-")
        assert float(said) == pytest.approx(float(c.predict(e.data[3:4])[0]), rel=1e-3)
        page.click("text=Try it below")
        assert output(page) == pytest.approx(float(answers[3].after[0]), abs=1e-6)
        figure.locator("a").click()
        assert page.is_visible(f"#cohort-{c.ids[3]} .rule")
        assert page.locator("#curve > *").count() == 1
        assert page.complaints == []


def test_a_tooltip_holds_names_as_text(browser, path):
    with chrome.opened(browser, path, page="features") as page:
        box = page.locator("#importance-0").bounding_box()
        seen = ""
        for part in range(1, 40):
            page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + part * box["height"] / 40)
            page.wait_for_timeout(30)
            seen += page.evaluate(
                "[...document.querySelectorAll('.bk-Tooltip')]"
                ".map(t => t.shadowRoot.textContent).join()"
            )
            bad = "t => t.shadowRoot.querySelector('script, b:not([class])') !== null"
            assert not page.evaluate(f"[...document.querySelectorAll('.bk-Tooltip')].some({bad})")
        assert "<script>alert(1)</script>" in seen
        assert page.complaints == []


def test_many_inputs(browser, explained, tmp_path):
    e = explained(300, 16, 3, rows=40)
    out = report(e, tmp_path / "r.html")
    with chrome.opened(browser, out, page="row", width=420) as page:
        assert page.locator("#sliders input[type=range]").count() == 60
        assert "The 60 most important of 300 inputs" in page.inner_text("#sliders")
        assert output(page) == pytest.approx(float(e.output[0, 0]), abs=1e-6)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        assert page.complaints == []
