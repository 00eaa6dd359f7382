"""The page of a bilinear layer: numbers against numpy, pictures against numbers, names as text."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import chrome
import gatewise as gw
from gatewise.errors import DataError, NotBilinear
from gatewise.show.bilinear import page as bilinear_page
from gatewise.show.bilinear import plots as bilinear_plots
from gatewise.show.bilinear import tiles as bilinear_tiles
from gatewise.show.bilinear import words as bilinear_words
from gatewise.show.bilinear.facts import Asked, bilinear
from gatewise.show.bilinear.names import image_of, names_of
from pages import HOSTILE, Elements, outside, words

NAMES = ("<script>alert(1)</script>", '"><img src=x>', r"$\frac{", "{{ 7 * 7 }}", "a<b")


class Block(nn.Module):
    """head(left(e(x)) * right(e(x))), e(x) affine where `inner` is given, plus e(x) if residual."""

    def __init__(self, inputs, outputs=2, hidden=4, inner=0, residual=False, bias=True, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        width = inner or inputs
        self.embed = nn.Linear(inputs, inner) if inner else nn.Identity()
        self.left, self.right = (nn.Linear(width, hidden, bias=bias) for _ in range(2))
        self.head = nn.Linear(hidden, outputs, bias=bias)
        self.residual = residual

    def forward(self, x):
        x = self.embed(x)
        y = self.head(self.left(x) * self.right(x))
        return y + x if self.residual else y


def read(module, *shape, **names):
    net = gw.read(module.double().eval(), torch.zeros(2, *shape).double())
    return dataclasses.replace(net, **names)


def table(inputs=5, rows=60, names=NAMES, seed=0):
    x = np.random.default_rng(seed).normal(size=(rows, inputs))
    return pd.DataFrame(x, columns=list(names[:inputs]))


def form(module, output):
    """Q of [x, 1] in numpy, from the raw weights."""
    parts = {n: p.detach().numpy() for n, p in module.named_parameters()}

    def side(name):
        W, w = parts[f"{name}.weight"], parts.get(f"{name}.bias")
        w = np.zeros(len(W)) if w is None else w
        if "embed.weight" in parts:
            w = w + W @ parts["embed.bias"]
            W = W @ parts["embed.weight"]
        return np.c_[W, w]

    Q = side("left").T @ np.diag(parts["head.weight"][output]) @ side("right")
    Q[-1, -1] += parts["head.bias"][output]
    return (Q + Q.T) / 2


def page_of(b, title=None, source=None):
    return bilinear_page.html(b, list(bilinear_page.drawn(b)), title, source or {})


@pytest.fixture(scope="module")
def module():
    return Block(5, inner=4)


@pytest.fixture(scope="module")
def frame(module):
    found = table()
    y = module.double()(torch.tensor(np.array(found))).argmax(1).numpy()
    found["y"] = np.where(np.arange(60) < 50, y, 1 - y)  # right on 50 of 60
    return found


@pytest.fixture(scope="module")
def found(module, frame):
    net = read(module, 5, output_names=("<b>no</b>", "yes"))
    return bilinear(net, frame.replace({"y": {0: "<b>no</b>", 1: "yes"}}), Asked(labels="y", row=7))


def test_eigenpairs_are_those_of_the_form_over_the_networks_own_inputs(found, module):
    for u in range(2):
        Q = form(module, u)
        values = np.linalg.eigvalsh(Q)
        assert np.allclose(np.sort(found.found.values[u].numpy()), values, atol=1e-12)
        v = found.found.readers[u].numpy()
        assert np.allclose(v @ Q, found.found.values[u].numpy()[:, None] * v, atol=1e-12)
        assert found.norms[u] == pytest.approx(np.linalg.norm(Q))
        rank = np.abs(values).sum() ** 2 / (values**2).sum()
        assert found.ranks[u] == pytest.approx(rank)
    assert found.constant and found.kept == pytest.approx(1)


def test_products_have_the_coefficients_of_the_expanded_polynomial(found, module, frame):
    got, x = found.interactions, np.c_[frame.iloc[:, :5].to_numpy(float), np.ones(60)]
    scale = np.sqrt((x**2).mean(0))
    for u in range(2):
        Q, here = form(module, u), got.outputs == u
        assert here.sum() == 20  # 15 products of 5 inputs, 5 alone
        total = Q[-1, -1] + sum(
            c * x[:, i] * x[:, j]
            for i, j, c in zip(
                got.first[here], got.second[here], got.coefficient[here], strict=True
            )
        )
        assert np.allclose(total, np.einsum("ri,ij,rj->r", x, Q, x))
        effect = np.abs(got.coefficient) * scale[got.first] * scale[got.second]
        assert np.allclose(got.effect, effect) and (np.diff(got.effect[here]) <= 0).all()


def test_the_rows_terms_sum_to_the_networks_output(found, frame, module):
    r, x = found.row, np.array(frame.iloc[[7], :5], float)
    y = found.network(x).numpy()[0]
    assert r.own == pytest.approx(y.max(), abs=1e-12) and r.output == y.argmax()
    assert r.complete and r.error < 1e-12
    assert r.terms.sum() == pytest.approx(y.max(), abs=1e-12)
    assert np.allclose(r.terms, r.values * r.activations**2)
    assert np.allclose(r.readers @ np.append(x[0], 1), r.activations) and (r.activations >= 0).all()
    assert np.allclose(r.raised + r.lowered + r.left, y)
    moment = found.found.readers.numpy() @ np.c_[frame.iloc[:, :5], np.ones(60)].astype(float).T
    assert np.allclose(found.means, found.found.values.numpy() * (moment**2).mean(2))


def test_the_curve_is_what_few_pairs_give_on_the_rows(found, frame):
    x, c = np.c_[frame.iloc[:, :5], np.ones(60)].astype(float), found.curve
    values, v = found.found.values.numpy(), found.found.readers.numpy()
    whole = found.network(x[:, :5]).numpy()
    for k in (0, 1, 3):
        cut = np.einsum("uk,ukn,rn->ruk", values[:, :k], v[:, :k], x).sum(2) if k == 0 else (
            values[:, :k] * np.einsum("ukn,rn->ruk", v[:, :k], x) ** 2
        ).sum(2)  # fmt: skip
        error = np.sqrt(((cut - whole) ** 2).sum() / (whole**2).sum())
        assert c.measured[k] == pytest.approx(error)
        assert c.score[k] == pytest.approx((cut.argmax(1) == frame["y"]).mean())
    assert c.whole == pytest.approx(50 / 60) and c.what == "Accuracy"


def test_one_output_is_scored_by_its_sign_or_by_r_squared():
    module, x = Block(5, outputs=1), table()
    net, numbers = read(module, 5), table()
    y = net(np.array(x)).numpy()[:, 0]
    numbers["t"], x["t"] = y + 0.5, (y > 0) * 1
    assert bilinear(net, x, Asked(labels="t")).curve.whole == 1
    c = bilinear(net, numbers, Asked(labels="t")).curve
    assert c.what == "R²" and c.whole == pytest.approx(1 - 0.25 / np.var(y))
    assert c.agreement is None


def test_the_page_is_whole_safe_and_runs_nothing(found):
    page = page_of(found, None, {"Model": "<i>m</i>"})
    assert outside(page) == []
    assert "script" not in {tag for tag, _ in Elements(page).found}
    assert "default-src 'none'" in page and "script-src" not in page
    text = words(page)
    for name in ("<script>alert(1)</script>", "<b>no</b>", "<i>m</i>", "{{ 7 * 7 }}"):
        assert name in text, name
    ids = [a["id"] for _, a in Elements(page).found if "id" in a]
    assert len(ids) == len(set(ids))
    assert page.count("<svg") == 6 and "83.3 %" in text and "Row 7" in text


def test_hostile_names_everywhere():
    columns = [name for name in HOSTILE if name != "\ud800"]  # which no table takes
    net = read(Block(len(columns)), len(columns), output_names=HOSTILE[:2])
    frame = table(len(columns), names=columns)
    frame["y"] = HOSTILE[0]
    b = bilinear(net, frame, Asked(labels="y"))
    page = page_of(b, HOSTILE[2], {"Data": HOSTILE[0]})
    assert outside(page) == []
    assert not {tag for tag, _ in Elements(page).found} & {"img", "script", "x"}


def test_weights_alone_are_enough():
    b = bilinear(read(Block(4, bias=False), 4), None, Asked(top=3))
    assert b.rows == 0 and b.row is b.curve is b.means is None and not b.constant
    assert b.found.k == 3 and (b.kept < 1).all()
    assert (b.found.readers.sum(2) >= 0).all()  # the sign is settled, so that runs agree
    assert "In 3 pairs" in bilinear_words.outputs_table(b).columns
    assert [d.name for d in bilinear_page.drawn(b)] == [
        *("eigenvectors", "eigenvalues", "directions", "interactions"),
    ]


# ---------------------------------------------------------------- images

SIGN = {"up": 1, "ink": 1, "down": -1}


def squares(svg, height, width):
    """The signed opacities of the squares that an image draws."""
    found = np.zeros((height, width))
    for colour, opacity, d in re.findall(
        r'<path fill="var\(--(\w+)\)" fill-opacity="([\d.]+)" d="([^"]+)"', str(svg)
    ):
        for x, y, n in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\d+z", d):
            assert not found[int(y), int(x) : int(x) + int(n)].any()
            found[int(y), int(x) : int(x) + int(n)] = float(opacity) * (
                -1 if colour == "down" else 1
            )
    return found


def test_a_tile_is_the_eigenvector_square_by_square():
    image = np.random.default_rng(0).normal(size=(5, 7))
    got = squares(bilinear_tiles.svg(image, "<a>"), 5, 7)
    assert np.abs(got - image / np.abs(image).max()).max() < 0.5 / bilinear_tiles.LEVELS + 0.006
    assert 'aria-label="&lt;a&gt;"' in str(bilinear_tiles.svg(image, "<a>"))
    assert not squares(bilinear_tiles.svg(np.zeros((2, 2)), ""), 2, 2).any()


@pytest.fixture(scope="module")
def pixels():
    frame = table(6, names=[f"p{j}" for j in range(6)])
    frame["y"] = 0
    b = bilinear(read(Block(6), 6), frame, Asked(labels="y", image=(2, 3)))
    return b, page_of(b)


def test_images_are_drawn_on_the_page_and_in_the_file(pixels):
    b, page = pixels
    assert outside(page) == [] and "each pixel alone" in words(page)
    drawn = [a for tag, a in Elements(page).found if tag == "svg" and a["viewbox"] == "0 0 3 2"]
    assert len(drawn) > 20
    first = bilinear_tiles.of_outputs(b)[0].up[0]
    u = int((b.found.values[0] > 0).nonzero()[0])
    v = b.found.readers[0, u, :6].reshape(2, 3).numpy()
    assert np.abs(squares(first.svg, 2, 3) - v / np.abs(v).max()).max() < 0.05
    image = next(ax.images[0] for ax in bilinear_plots.eigenvectors(b).axes if ax.images)
    assert np.allclose(image.get_array(), v)
    assert image.get_clim()[0] == -image.get_clim()[1]  # zero is white


def test_an_image_network_is_drawn_without_asking():
    module = nn.Sequential(nn.Flatten(), Block(12))
    b = bilinear(read(module, 1, 3, 4))
    assert b.image == (3, 4) and b.view.source == "input"


# ---------------------------------------------------------------- which layer, which outputs


def deep():
    return nn.Sequential(Block(5, 4), Block(4, 3, seed=1))


def test_the_last_layer_unless_another_is_named():
    net, frame = read(deep(), 5), table()
    frame["y"] = 0
    last = bilinear(net, frame, Asked(labels="y"))
    assert len(last.layers) == 2 and last.layer.name == last.layers[1]
    assert last.final and "--layer" in last.notes[0] and last.view.source != "input"
    assert last.inputs[0].startswith(f"{last.view.source}[") and last.row.error < 1e-12
    first = bilinear(net, frame, Asked(layer=last.layers[0], labels="y"))
    assert not first.final and first.curve.score is None and first.row.error < 1e-12
    assert first.inputs == NAMES and any("not the network's" in note for note in first.notes)


def test_outputs_by_name_and_the_largest_of_many():
    net = read(Block(3, outputs=12), 3)
    b = bilinear(net, table(3), Asked(outputs=("y11", "2")))
    assert b.outputs == ("y11", "y2") and b.curve.agreement is not None
    assert np.allclose(b.found.forms.at(torch.ones(1, 4).double())[0], net([[1.0] * 3])[0][[11, 2]])
    most = bilinear(net)
    norms = gw.bilinear.spectrum(most.layer, 4).values.norm(dim=1)
    assert set(most.chosen) == set(norms.argsort(descending=True)[:10].tolist())
    assert "12 outputs" in most.notes[0]


def test_positions_alike_show_their_weights_alone():
    b = bilinear(
        read(Block(4, 4, residual=True), 3, 4), table(12, names=[f"x{j}" for j in range(12)])
    )
    assert b.rows == 0 and "DATA are left out" in b.notes[0] and b.view.inputs == 4


def test_rounding_is_not_shown_as_a_finding():
    module = Block(3, outputs=1, hidden=1, bias=False).double()
    module.left.weight.data = torch.tensor([[1.0, 0, 0]]).double()
    module.right.weight.data = torch.tensor([[0.3, 0.1, 1e-17]]).double()
    module.head.weight.data = torch.ones(1, 1).double()
    b = bilinear(read(module, 3), table(3, names=("a", "b", "c")))
    assert bilinear_words.interactions_table(b).rows[0] == (
        *("y0", "(a)²: +0.300", "a × b: +0.100", "", ""),
    )
    assert len(bilinear_words.terms_table(b).rows) == 2


def test_all_pairs_of_an_output_are_all_of_it_and_of_none_too():
    module = Block(5)
    with torch.no_grad():
        module.head.weight[0], module.head.bias[0] = 0, 0
    b = bilinear(read(module, 5), table())
    assert b.kept.tolist() == [1, 1] and not b.row.left.any()
    assert [row[3] for row in bilinear_words.outputs_table(b).rows] == ["100\xa0%", "100\xa0%"]
    few = bilinear(read(module, 5), table(), Asked(top=1)).row
    assert few.left[1] != 0
    np.testing.assert_allclose(few.raised + few.lowered + few.left, few.given, atol=1e-12)


def test_the_predicted_error_is_that_of_the_rows_moments():
    frame = table(rows=40)
    b = bilinear(read(Block(5), 5), frame)
    cut = gw.bilinear.truncation(b.found, frame.to_numpy())
    for told, own in ((b.curve.predicted, cut.predicted), (b.curve.measured, cut.measured)):
        np.testing.assert_allclose(told, own.norm(dim=0) / cut.size.norm(), atol=1e-12)
    assert np.abs(b.curve.predicted - b.curve.measured).max() > 0.01


def test_refusals():
    frame = table()
    relu = read(nn.Sequential(nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 2)), 5)
    with pytest.raises(NotBilinear, match=r"ReLU.*`gatewise explain`.*to_bilinear"):
        bilinear(relu)
    gelu = read(nn.Sequential(nn.Linear(5, 3), nn.GELU(), nn.Linear(3, 2)), 5)
    with pytest.raises(NotBilinear, match=r"GELU; gw\.bilinear\.to_bilinear"):
        bilinear(gelu)
    net = read(Block(5), 5)
    for asked, said in (
        (Asked(layer="nope"), "no bilinear layer 'nope': the network has 'mul'"),
        (Asked(outputs=("9",)), "no output '9': the layer has 2"),
        (Asked(image=(2, 3)), "--image 2x3 has 6 pixels, and the layer reads 5 numbers"),
        (Asked(row=60), "there is no row 60: the data have 60 rows"),
        (Asked(labels="z"), "no column 'z'"),
    ):
        with pytest.raises(DataError, match=re.escape(said)):
            bilinear(net, frame, asked)
    with pytest.raises(DataError, match="no DATA were given"):
        bilinear(net, None, Asked(labels="y"))
    for text in ("28", "0x3", "28x28x3", "", "-1x2"):
        with pytest.raises(DataError, match="HEIGHTxWIDTH"):
            image_of(text)
    assert image_of("28x3") == (28, 3) and image_of(None) is None
    assert names_of("a, b") == ("a", "b") and names_of(None) == ()


@pytest.mark.browser
def test_it_opens_without_a_complaint_or_a_request(pixels, tmp_path):
    path = tmp_path / "bilinear.html"
    path.write_text(pixels[1], "utf-8")
    for browser in chrome.launch():
        for settings in ({}, {"color_scheme": "dark"}, {"width": 400}):
            with chrome.opened(browser, path, java_script_enabled=False, **settings) as tab:
                assert tab.complaints == []
                assert tab.requests == [tab.url]
                wide = tab.locator("body").bounding_box()["width"]
                assert wide <= settings.get("width", 1200)
                tile = tab.locator("figure.tile svg").first.bounding_box()
                assert tile["width"] > 60 and tile["height"] > 30
