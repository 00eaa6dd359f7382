"""Waterfall, profile and region map: what they draw is what the network computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")
from matplotlib.figure import Figure

from gatewise.errors import DataError
from gatewise.explain.profile import profile as along
from gatewise.show import plots, profiles


def axes():
    return Figure().add_subplot()


def test_each_returns_its_figure_and_takes_axes(explained):
    e = explained(4, 8, 1, rows=30, names=("$a$", "b", "c", "d"))
    p = along(e, None, 0)
    for draw in (
        lambda **k: plots.waterfall(e, 3, **k),
        lambda **k: plots.profile(p, **k),
        lambda **k: plots.region_map(e, 3, ("b", 2), resolution=20, **k),
    ):
        assert isinstance(draw(), Figure)
        ax = axes()
        assert draw(ax=ax) is ax.figure
        draw().savefig("/dev/null", format="png")


def test_bars_lead_from_the_reference_to_the_output(explained):
    e = explained(5, 8, 1, rows=20)
    ax = axes()
    plots.waterfall(e, 7, ax)
    bars = [(b.get_x(), b.get_width()) for b in ax.patches]
    start = float(e.base_values[7, 0])
    assert bars[0][0] == pytest.approx(start)
    assert start + sum(w for _, w in bars) == pytest.approx(float(e.output[7, 0]), abs=1e-12)
    assert sorted(w for _, w in bars) == pytest.approx(sorted(e.values[7, :, 0]), abs=1e-12)
    sizes = [abs(w) for _, w in bars]
    assert sizes == sorted(sizes, reverse=True)


def test_small_contributions_are_one_bar(explained):
    e = explained(30, 8, 1, rows=20)
    ax = axes()
    plots.waterfall(e, 0, ax, features=6)
    assert len(ax.patches) == 7
    total = sum(b.get_width() for b in ax.patches)
    assert total == pytest.approx(float(e.output[0, 0] - e.base_values[0, 0]), abs=1e-12)
    assert ax.get_yticklabels()[-2].get_text() == "24\xa0others"


def test_no_such_row_and_no_such_feature(explained):
    e = explained(3, 8, 1, rows=20)
    with pytest.raises(DataError, match="there are 20 rows, counted from 0; got row 20"):
        plots.waterfall(e, 20)
    with pytest.raises(DataError, match="there are 20 rows"):
        plots.region_map(e, -21, (0, 1))
    with pytest.raises(DataError, match="no feature 'age': there are x0, x1, x2"):
        plots.region_map(e, 0, ("age", 1))
    with pytest.raises(DataError, match="two different features, got 'x1' twice"):
        plots.region_map(e, 0, ("x1", 1))


def test_the_region_map_counts_the_patterns_on_its_grid(explained):
    from gatewise.patterns.observe import pattern

    e = explained(4, 6, 1, rows=40)
    ax = axes()
    plots.region_map(e, 5, (1, 3), ax, resolution=25)
    low, high = e.data.min(0), e.data.max(0)
    room = 0.12 * (high - low)
    x, y = (np.linspace(low[j] - room[j], high[j] + room[j], 25) for j in (1, 3))
    points = np.tile(e.data[5], (625, 1))
    points[:, 1], points[:, 3] = np.repeat(x, 25), np.tile(y, 25)
    distinct = {row.tobytes() for row in pattern(e.network, torch.from_numpy(points)).bits}
    assert ax.get_title(loc="left").startswith(f"{len(distinct)}\xa0regions met on a 25 × 25 grid")
    assert "thinner ones may be missed" in ax.get_title(loc="left")


def test_a_profile_draws_its_mean_and_some_rows(explained):
    e = explained(3, 8, 2, rows=60)
    p = along(e, None, 1)
    ax = axes()
    plots.profile(p, ax, output=1, curves=5)
    curves = ax.lines[:5]
    for line in curves:
        t, y = line.get_data()
        row = int(np.argmin([abs(p.curve(i)[1][0, 1] - y[0]) for i in range(60)]))
        x = np.tile(e.data[row], (len(t), 1))
        x[:, 1] = t
        np.testing.assert_allclose(e.network(torch.from_numpy(x)).numpy()[:, 1], y, atol=1e-12)
    np.testing.assert_array_equal(ax.lines[5].get_ydata(), p.mean[:, 1])


def test_profiles_say_what_they_leave_out(explained, monkeypatch):
    e = explained(20, 8, 1, rows=50)
    found = profiles.profiles(e)
    assert len(found.found) == profiles.FEATURES
    assert "The mean is over all rows. The 12 most important of 20 features." in found.says
    monkeypatch.setattr(profiles, "WORK", 12 * 30 * 1000)
    assert "over 30 evenly spaced of 50\xa0rows" in profiles.profiles(e).says
    monkeypatch.setattr(profiles, "WORK", 1000)
    assert profiles.profiles(e) is None


def test_no_profile_where_nothing_varies(explained):
    assert profiles.profiles(explained(3, 4, 1, X=np.ones((9, 3)))) is None


def test_a_category_is_one_bar(explained):
    import dataclasses

    from gatewise.explain.groups import Group

    e = explained(5, 8, 1, rows=20)
    e.data[:, 2:] = np.eye(3)[np.arange(20) % 3]
    e = dataclasses.replace(e, groups=(Group("port", (2, 3, 4), ("S", "C", "Q")),))
    ax = axes()
    plots.waterfall(e, 4, ax)
    said = [t.get_text() for t in ax.get_yticklabels()]
    place = said.index("port = C") - 1
    there = e.values[4, 2:, 0].sum()
    assert ax.patches[place].get_width() == pytest.approx(there, abs=1e-12)
    assert len(ax.patches) == 3
