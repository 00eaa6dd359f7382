"""What the page says where a row or a column that was asked for is not there."""

from __future__ import annotations

import numpy as np
import pytest

import chrome
from gatewise.show.report import report

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    yield from chrome.launch()


@pytest.fixture(scope="module")
def path(explained, tmp_path_factory):
    X = np.random.default_rng(3).normal(size=(300, 2))
    e = explained(2, 6, 1, names=("age", "debt"), X=X)
    return report(e, tmp_path_factory.mktemp("report") / "report.html")


def test_a_row_or_a_column_that_is_not_there_is_said(browser, path):
    with chrome.opened(browser, path, page="row") as page:
        for typed, said in (
            ("9999", "Row 9999 is not in this page; the nearest is row 299. Row 0 is shown."),
            ("-1", "Row -1 is not in this page; the nearest is row 0."),
            ("1.5", "A row is a whole number"),
            ("", "A row is a whole number"),
        ):
            page.fill("#row-index", typed)
            page.dispatch_event("#row-index", "change")
            assert page.inner_text("#row-message").startswith(said)
        page.fill("#row-index", "7")
        page.press("#row-index", "Enter")
        assert not page.is_visible("#row-message")
        page.click("summary:has-text('All rows')")
        page.fill("#rows-filter", "nope > 3")
        assert page.inner_text("#rows-found").startswith("No column is called “nope”; the columns")
        page.fill("#rows-filter", "age > 100")
        assert page.inner_text("#rows-found") == "0 rows"
        assert page.complaints == []
