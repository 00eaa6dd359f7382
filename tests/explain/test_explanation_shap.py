"""SHAP's own plots take a part of an Explanation as it is, and draw the numbers it holds."""

from __future__ import annotations

import copy
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import gatewise as gw

shap = pytest.importorskip("shap")
matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")

# SHAP and what it draws with warn of their own doings, which is none of ours.
pytestmark = pytest.mark.filterwarnings("ignore")


def explanation(outputs: int) -> gw.Explanation:
    """Four numbers, two of which are the columns of a category."""
    rng = np.random.default_rng(0)
    w = [rng.normal(size=(8, 4)), rng.normal(size=(outputs, 8))]
    layers = [(a, rng.normal(size=len(a))) for a in w]
    x = rng.normal(size=(40, 4))
    x[:, 2:] = np.eye(3)[rng.integers(0, 3, 40)][:, :2]
    table = pd.DataFrame(x, columns=["age", "income", "town=A", "town=B"])
    return gw.explain(layers, table, groups={"town": ["town=A", "town=B"]})


@pytest.fixture(scope="module", params=["whole", "folded"])
def both(request):
    """Explanations of one output and of three, as they are or folded."""
    exps = explanation(1), explanation(3)
    return exps if request.param == "whole" else tuple(exp.folded() for exp in exps)


ONE = {
    "waterfall": shap.plots.waterfall,
    "force": lambda e, show: shap.plots.force(e, matplotlib=True, show=show),
    "bar": shap.plots.bar,
}
MANY = {
    "beeswarm": shap.plots.beeswarm,
    "bar": shap.plots.bar,
    "heatmap": shap.plots.heatmap,
    "violin": shap.plots.violin,
}


def drawn(plot, part) -> str:
    """All text on the figure a plot leaves behind."""
    plt.close("all")
    plot(part, show=False)
    figure = plt.gcf()
    texts = [t.get_text() for t in figure.findobj(matplotlib.text.Text)]
    plt.close("all")
    return "\n".join(texts).replace("\N{MINUS SIGN}", "-")


@pytest.mark.parametrize("name", ONE)
def test_one_row(both, name):
    single, several = both
    for part in (single[3], several[3, :, "y1"]):
        text = drawn(ONE[name], part)
        largest = part.feature_names[np.abs(part.values).argmax()]
        assert largest in text


@pytest.mark.parametrize("name", MANY)
def test_many_rows(both, name):
    single, several = both
    for part in (single[:], several[:20, :, "y1"]):
        assert "income" in drawn(MANY[name], part)


def test_scatter(both):
    single, several = both
    for part in (single[:, "age"], several[:, "age", "y2"]):
        assert "age" in drawn(shap.plots.scatter, part)

    def coloured(part, show):
        shap.plots.scatter(part, color=single[:, "income"], show=show)

    assert "income" in drawn(coloured, single[:, "age"])


def test_decision(both):
    """It takes arrays, and one base value: so one row, whose base value is its own rule's."""

    def decision(part, show):
        shap.plots.decision(
            part.base_values, part.values, feature_names=part.feature_names, show=show
        )

    assert "income" in drawn(decision, both[0][3])


def test_the_waterfall_draws_these_numbers():
    exp = explanation(1)
    text = drawn(shap.plots.waterfall, exp[3])
    for number in (exp.output[3, 0], exp.base_values[3, 0]):
        assert f"{number:.3f}".rstrip("0").rstrip(".") in text.replace(" ", "")
    for value in exp.values[3, :, 0]:
        assert f"{value:+.2f}".rstrip("0") in text
    folded = drawn(shap.plots.waterfall, exp.folded()[3])
    assert exp.folded().display_data[3, 2] in folded


def test_what_shap_computes_from_it_is_ours(both):
    part = both[1][..., "y0"]
    assert isinstance(part, shap.Explanation)
    np.testing.assert_array_equal(part.abs.mean(0).values, np.abs(part.values).mean(0))
    np.testing.assert_array_equal(shap.Explanation(part).values, part.values)
    cohorts = part.cohorts(["a", "b"] * (len(part) // 2))
    np.testing.assert_array_equal(cohorts.cohorts["a"].values, part.values[::2])
    with pytest.raises(AttributeError):
        _ = part.no_such_thing
    np.testing.assert_array_equal(copy.deepcopy(part).values, part.values)


def test_a_shap_explanation_is_made_of_every_shape(both):
    for item in (..., 0, (0, 0), (..., 0), (0, 0, 0), (slice(2), [1, 0]), (slice(0, 1), 0, 0)):
        part = both[1][item]
        made = part.to_shap()
        np.testing.assert_array_equal(made.values, part.values)
        np.testing.assert_array_equal(made.base_values, part.base_values)
        assert type(made) is shap.Explanation
    whole = explanation(3)
    np.testing.assert_array_equal(whole.to_shap().values, whole.values)


def test_without_shap_it_is_its_own_class_and_says_how_to_get_it():
    code = (
        "import sys; sys.modules['shap'] = None\n"
        "import gatewise as gw, numpy as np\n"
        "part = gw.explain([(np.ones((1, 2)), np.ones(1))], np.eye(2))[0]\n"
        "print(part.__class__.__name__, hasattr(part, 'cohorts'))\n"
        "try: part.to_shap()\n"
        "except gw.GatewiseError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "SlicedExplanation False",
        "a shap.Explanation needs the package 'shap', which is not installed: "
        "pip install 'gatewise[bench]'",
    ], done.stderr
