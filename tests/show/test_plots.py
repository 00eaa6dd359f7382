from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib")
from matplotlib.figure import Figure

from gatewise.errors import DataError
from gatewise.show import plots, svg

PLOTS = [plots.coverage, plots.importance, plots.margins, plots.slopes]


@pytest.mark.parametrize("plot", [*PLOTS, plots.picture])
def test_a_plot_returns_its_figure(explained, plot):
    e = explained(2, 8, 1, rows=30)
    assert isinstance(plot(e), Figure)
    ax = Figure().add_subplot()
    assert plot(e, ax=ax) is ax.figure
    assert ax.has_data() or ax.patches


@pytest.mark.parametrize("plot", [*PLOTS, plots.picture])
def test_nothing_global_is_touched(explained, plot):
    import matplotlib
    from matplotlib import pyplot

    def settings():
        return {k: v for k, v in matplotlib.rcParams.copy().items() if k != "backend"}

    before = settings()
    figure = plot(explained(2, 8, 1, rows=30))
    svg.inline(figure, "label", "key", {})
    assert settings() == before
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize("plot", PLOTS)
def test_odd_cases_draw(explained, plot):
    odd = [
        explained(1, 1, rows=1),
        explained(1, 3, 1, rows=1),
        explained(2, 4, 1, X=np.ones((5, 2))),
        explained(3, 8, 1, margin=False),
        explained(2, 4, 2, names=(r"$\frac{", "$a$ $b$")),
    ]
    for e in odd:
        plot(e).savefig("/dev/null", format="png")


def test_margins_leave_out_nothing(explained):
    e = explained(3, 8, 1, rows=300)
    ax = Figure().add_subplot()
    plots.margins(e, ax=ax)
    x, heights = ax.patches[0].get_path().vertices.T
    far = e.margin.scaled.numpy()
    assert x.min() <= far[far > 0].min()
    assert far[np.isfinite(far)].max() <= x.max()
    assert heights.max() >= 1


def test_slopes_show_coefficient_times_scale(explained):
    e = explained(5, 8, 1, rows=300)
    names, values = plots.leading_slopes(e, 0, 4, 3)
    for name, row in zip(names, values, strict=True):
        j = e.feature_names.index(name)
        np.testing.assert_allclose(row, e.coefficients[:4, 0, j] * e.scale[j])


def test_coverage_ends_at_all_rows(explained):
    ax = Figure().add_subplot()
    e = explained(3, 8, 1, rows=300)
    plots.coverage(e, ax=ax)
    line = ax.lines[0].get_ydata()
    assert line[-1] == pytest.approx(1)
    assert (np.diff(line) >= 0).all()


def test_the_picture_counts_its_maps(explained):
    e = explained(2, 3, 1, rows=40, names=("<b>", "$x$"))
    ax = Figure().add_subplot()
    plots.picture(e, ax=ax, resolution=60)
    count = int(ax.get_title(loc="left").split("network, ")[1].split("\xa0")[0])
    assert 1 < count <= 2**3
    linear = Figure().add_subplot()
    plots.picture(explained(2, 1), ax=linear, resolution=20)
    assert linear.get_title(loc="left").endswith("1\xa0affine map")


def test_the_picture_needs_two_inputs(explained):
    with pytest.raises(DataError, match="needs a network of 2 inputs, this one has 3"):
        plots.picture(explained(3, 4, 1))


def test_inline_svg_is_clean(explained):
    e = explained(3, 8, 1, names=("<script>", 'a"b', "c&d"))
    text = svg.inline(plots.slopes(e), 'a "label" <b>', "k", {plots.UP: "var(--up)"})
    assert text.startswith("<svg ")
    assert "&lt;script&gt;" in text
    assert "<script" not in text
    assert "http" not in text
    assert "var(--up)" in text
    assert plots.UP not in text
    assert text == svg.inline(plots.slopes(e), 'a "label" <b>', "k", {plots.UP: "var(--up)"})
