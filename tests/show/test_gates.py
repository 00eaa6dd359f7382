"""The page of gates: what it says is what `gw.dual` says, and no name in it is markup."""

from __future__ import annotations

import dataclasses
import itertools
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import chrome
import gatewise as gw
from gatewise.errors import DataError, NotGated
from gatewise.show.gates import page as gates_page
from gatewise.show.gates import paths as gates_paths
from gatewise.show.gates import plots as gates_plots
from gatewise.show.gates import words as gates_words
from gatewise.show.gates.facts import Asked, gates, labels_of
from gatewise.show.report import html as report_html
from pages import HOSTILE, Elements, outside, words

NAMES = ("<script>alert(1)</script>", '"><img src=x>', r"$\frac{", "{{ 7 * 7 }}", "a<b", "f")


def network(*sizes, seed=0, layer=nn.ReLU, outputs=()):
    torch.manual_seed(seed)
    layers = [m for a, b in itertools.pairwise(sizes) for m in (nn.Linear(a, b), layer())][:-1]
    found = gw.read(nn.Sequential(*layers).double(), torch.zeros(1, sizes[0]).double())
    return dataclasses.replace(found, output_names=tuple(outputs))


def table(rows=120, inputs=6, seed=0, names=NAMES):
    import pandas as pd

    x = np.random.default_rng(seed).normal(size=(rows, inputs))
    frame = pd.DataFrame(x, columns=list(names[:inputs]))
    frame["y"] = (x[:, 0] + x[:, 1] > 0).astype(int)
    return frame


@pytest.fixture(scope="module")
def found():
    return gates(network(6, 9, 7, 2, outputs=("<b>no</b>", "yes")), table(), Asked(5, labels="y"))


@pytest.fixture(scope="module")
def page(found):
    return gates_page.html(found, list(gates_page.drawn(found)), None, {"Model": "<i>m</i>"})


def test_it_is_what_dual_says(found):
    frame = table()
    net, x, y = found.network, np.array(frame.drop(columns="y")), np.array(frame["y"])
    o = gw.dual.overlap(net, x, y=y)
    assert np.array_equal(found.overlap.equal, o.equal)
    assert np.array_equal(found.overlap.shared, o.shared)
    k = gw.dual.gates_know(net, x, y, rows=2000, draws=3, task="classification")
    assert [line.own for line in found.know.kernels] == [line.own for line in k.kernels]
    shares = gw.dual.unit_shares(net, x[[5]])
    assert found.output == shares.outputs[0] == int(net(x[[5]])[0].argmax())
    for mine, theirs in zip(found.shares.layers, shares.layers, strict=True):
        assert np.array_equal(mine.shares, theirs.shares)
    on = [int(m.sum()) for m in gw.dual.masks(net, x[[5]])]
    assert list(found.on) == on == gates_words.gates_on(found)


def test_parts_of_the_row_add_up(found):
    value = float(found.shares.values[0])
    assert found.starts.parts[0].sum() == pytest.approx(value, abs=1e-12)
    for layer in found.shares.layers:
        assert layer.shares[0].sum() + layer.later[0] == pytest.approx(value, abs=1e-12)


def test_the_page_is_whole_safe_and_runs_nothing(page):
    assert outside(page) == []
    assert "script" not in {tag for tag, _ in Elements(page).found}
    assert "default-src 'none'" in page and "script-src" not in page
    assert "alert(1)</script>" not in page
    text = words(page)
    for name in ("<script>alert(1)</script>", "<b>no</b>", "<i>m</i>", "{{ 7 * 7 }}"):
        assert name in text, name
    ids = [a["id"] for _, a in Elements(page).found if "id" in a]
    assert len(ids) == len(set(ids))


def test_the_page_has_the_figures(found, page):
    text = words(page)
    assert f"{100 * found.know.network:.1f} %" in text
    assert f"{100 * found.know['gates alone'].own:.1f} %" in text
    assert "Row 5, y" in text
    assert "neural path kernel" in text and "no tangent kernel" in text
    for name in gates_page.PICTURES:
        assert f"gates-{name}" in page or name in ("units", "paths", "overlap", "alignment")
    assert page.count("<svg") == 5


def test_hostile_names_everywhere():
    columns = [name for name in HOSTILE if name != "\ud800"]  # which no table takes
    n = len(columns)
    net = dataclasses.replace(network(n, 5, 2), output_names=HOSTILE[:2])
    frame = table(60, n, names=columns)
    frame["y"] = np.where(frame["y"] == 1, HOSTILE[0], HOSTILE[1])
    g = gates(net, frame, Asked(labels="y"))
    page = gates_page.html(g, list(gates_page.drawn(g)), HOSTILE[2], {"Data": HOSTILE[0]})
    assert outside(page) == []
    assert not {tag for tag, _ in Elements(page).found} & {"img", "script", "x"}
    assert g.know is not None  # the labels are the names of its outputs
    assert g.overlap.classes == tuple(sorted(HOSTILE[:2]))  # but rows have classes


def test_without_labels_there_is_overlap_and_the_row():
    g = gates(network(6, 9, 2), table().drop(columns="y"), Asked(2))
    page = gates_page.html(g, list(gates_page.drawn(g)), "A title", {})
    assert g.know is None and g.notes == ()
    assert page.count("<svg") == 3 and "What do the gates know" not in page
    assert "Two rows agree on" in words(page)


@pytest.mark.parametrize("task", ["numbers", "one output of two classes"])
def test_labels_of_one_output(task):
    frame = table()
    net = network(6, 9, 1)
    if task == "numbers":
        frame["y"] = frame["f"] + frame["a<b"]
    g = gates(net, frame, Asked(labels="y"))
    assert g.know.task == ("regression" if task == "numbers" else "classification")
    assert (len(g.overlap.classes) == 1) == (task == "numbers")
    gates_page.html(g, list(gates_page.drawn(g)), None, {})


def test_labels_are_the_networks_own_answers():
    net = dataclasses.replace(network(4, 3, 2), classes=("dog", "cat"), task="classification")
    given = np.array(["cat", "dog", "cat", None], object)
    found = labels_of(net, given, 4)
    assert found.values.tolist() == ["cat", "dog", "cat"]
    assert found.known.tolist() == [True, True, True, False]
    plain = network(4, 3, 2)
    assert labels_of(plain, np.array([1, 0, 0, 1]), 4).values.tolist() == list("1001")
    odd = labels_of(plain, np.array([7, 8, 7, 8]), 4)
    assert odd.values is None and "none of the network's answers" in odd.why
    assert "all labels are '1'" in labels_of(plain, np.ones(4, int), 4).why


def test_rows_without_a_label_are_left_out():
    frame = table()
    frame["y"] = frame["y"].astype(float)
    frame.loc[:9, "y"] = np.nan
    g = gates(network(6, 9, 2), frame, Asked(labels="y"))
    assert g.rows == 120 and g.overlap.rows.sum() == 110
    assert g.know.rows + g.know.test_rows == 110


def test_a_second_table_is_what_is_tested_on():
    frame, other = table(), table(40, seed=1)
    g = gates(network(6, 9, 2), frame, Asked(labels="y", test=other))
    assert (g.know.rows, g.know.test_rows) == (120, 40)
    assert not any("held out" in note for note in g.know.notes)
    with pytest.raises(DataError, match="--test holds rows with labels"):
        gates(network(6, 9, 2), frame.drop(columns="y"), Asked(test=other))


def test_refusals():
    frame = table()
    with pytest.raises(NotGated, match="LeakyReLU"):
        gates(network(6, 5, 1, layer=nn.LeakyReLU), frame, Asked(labels="y"))
    with pytest.raises(NotGated, match="no gates"):
        gates(network(6, 2), frame, Asked(labels="y"))
    with pytest.raises(DataError, match="no row 120"):
        gates(network(6, 5, 2), frame, Asked(120, labels="y"))
    with pytest.raises(DataError, match="no column 'z'"):
        gates(network(6, 5, 2), frame, Asked(labels="z"))
    with pytest.raises(DataError, match="no output 'maybe'"):
        gates(network(6, 5, 2), frame, Asked(labels="y", output="maybe"))


def test_single_paths_are_said_to_carry_nothing_where_they_do():
    wide = gates(network(6, 256, 256, 2), table(30), Asked(labels="y"))
    assert wide.paths.carried < gates_words.FEW
    assert "explain almost nothing" in gates_words.paths_say(wide)
    small = gates(network(6, 3, 2), table(30), Asked(labels="y"))
    assert "explain almost nothing" not in gates_words.paths_say(small)


def test_the_picture_of_paths_has_a_line_for_each(found):
    ax = gates_paths.paths(found.paths, "out").axes[0]
    assert len(ax.patches) == len(found.paths)
    ends = {tuple(np.round(p.get_path().vertices[-1], 6)) for p in ax.patches}
    assert len(ends) == 1  # the output
    widths = [p.get_linewidth() for p in ax.patches]  # drawn weakest first
    size = np.abs(found.paths.contributions)[::-1]
    assert widths == pytest.approx(np.maximum(0.5, gates_paths.WIDEST * size / size.max()))


def test_the_picture_of_overlap_shows_within_and_between(found):
    ax = gates_plots.overlap(found.overlap).axes[0]
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    seen = np.array([line.get_xdata()[0] for line in dots]).reshape(-1, 2)
    assert np.allclose(seen, np.c_[found.overlap.between(), found.overlap.within()])


def convolution():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Unflatten(1, (1, 4, 4)),
        *(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
        *(nn.Flatten(), nn.Linear(3, 2)),
    ).double()
    return gw.read(module, torch.zeros(1, 16).double())


def test_a_convolution_is_read_and_its_kernel_is_kept_small():
    frame = table(60, 16, names=[f"p{j}" for j in range(16)])
    g = gates(convolution(), frame, Asked(labels="y"))
    assert any("--rows takes more" in note for note in g.notes)
    assert g.know is not None and len(g.know["gates alone"].random) == 1
    assert outside(gates_page.html(g, list(gates_page.drawn(g)), None, {})) == []


# ---------------------------------------------------------------- the section of the report


def explained(net, rows=40, target=None):
    x = np.random.default_rng(0).normal(size=(rows, net.inputs))
    return gw.explain(net, x, target=target)


def test_the_report_says_what_the_gates_know():
    y = np.arange(80) % 2
    e = explained(network(4, 8, 6, 2), 80, y)
    k = gw.dual.gates_know(e.network, e.data, y, rows=750, draws=1)
    text = words(report_html(e))
    assert "What do the gates know?" in text and "judge it on test rows" in text
    assert f"Inputs and gates, all layers{100 * k['inputs and gates'].own:.1f} %" in text


def test_the_section_is_left_out_politely():
    even = np.arange(40) % 2
    for e in (
        explained(network(4, 8, 2)),  # no labels
        explained(network(4, 8, 2), target=0 * even),  # one class
        explained(network(4, 8, 2), target=even + 7),  # not its classes
        explained(network(4, 2), target=even),  # no gates
        explained(network(4, 8, 2, layer=nn.LeakyReLU), target=even),  # not on or off
    ):
        assert gates_page.section(e) is None


def test_a_convolution_gets_a_hint():
    e = explained(convolution(), 40, np.arange(40) % 2)
    assert gates_page.section(e)["hint"]
    assert "gatewise gates MODEL DATA" in words(report_html(e))


def test_a_pipeline_is_prepared_once():
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = np.random.default_rng(0).normal(size=(200, 4)) * 50 + 300
    y = (x[:, 0] > x[:, 1]).astype(int)
    model = make_pipeline(StandardScaler(), MLPClassifier((8,), random_state=0, max_iter=400))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        e = gw.explain(model.fit(x, y), x, target=y)
    view = gates_page.section(e)
    right = float(dict((r[0], r[1]) for r in view["table"].rows)["The network itself"][:-2])
    assert right > 90


def test_only_some_rows_are_used():
    e = explained(network(3, 4, 2), 1500, np.arange(1500) % 2)
    said = gates_page.section(e)["notes"][0].replace("\xa0", " ")
    assert said.startswith("fitted on 750 rows, tested on 375")


@pytest.mark.browser
def test_it_opens_without_a_complaint_or_a_request(found, page, tmp_path):
    path = tmp_path / "gates.html"
    path.write_text(page, "utf-8")
    for browser in chrome.launch():
        for settings in ({}, {"color_scheme": "dark"}, {"width": 400}):
            with chrome.opened(browser, path, java_script_enabled=False, **settings) as tab:
                assert tab.complaints == []
                assert tab.requests == [tab.url]
                wide = tab.locator("body").bounding_box()["width"]
                assert wide <= settings.get("width", 1200)
