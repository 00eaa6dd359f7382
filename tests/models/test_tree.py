"""dlgn_to_tree finds the hyperplanes of oblique trees; the tree itself against a walk by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from gatewise.errors import BadRows, DataError, ModelError, WrongShape
from gatewise.models import DLGN, DLGNShallow, fit
from gatewise.models.estimators.dlgn import DLGNClassifier
from gatewise.models.oblique import ObliqueTree, Split
from gatewise.models.tree import _cluster, _Frame, _Recipe, dlgn_to_tree, gini_gain

SMALL = {"hidden_layer_sizes": (50, 50, 50), "shallow": True, "beta": 10.0, "lr": 0.01}
QUICK = SMALL | {"epochs": 60, "batch": 200, "min_share": 0.05}


def oblique(n, d, depth, seed):
    """Rows on the sphere, labels of a complete tree of random hyperplanes, their unit normals."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    w = rng.standard_normal((2**depth - 1, d))
    w /= np.linalg.norm(w, axis=1, keepdims=True)
    node = np.zeros(n, int)
    for _ in range(depth):
        node = 2 * node + 1 + ((x * w[node]).sum(1) > 0)
    return x, (node - (2**depth - 1)) % 2, w


def angles(w, normal):
    """Degrees between a normal and each hyperplane, whichever way they point."""
    return np.degrees(np.arccos(np.clip(np.abs(w @ normal), 0, 1)))


@pytest.fixture(scope="module")
def grown():
    x, y, w = oblique(3000, 5, 2, 2)
    return x, y, w, dlgn_to_tree(x[:2000], y[:2000], max_depth=2, **QUICK)


def test_splits_are_the_hyperplanes_that_made_the_labels(grown):
    x, y, w, tree = grown
    assert len(tree.splits) == 3 and {s.how for s in tree.splits} == {"gates"}
    off = np.stack([angles(w, split.normal) for split in tree.splits])
    assert off.min(1).max() < 8  # degrees, of random ones in R^5 the mean is 67
    assert sorted(off.argmin(1)) == [0, 1, 2]  # each hyperplane is found once
    assert tree.accuracy(x[2000:], y[2000:]) > 0.93


def test_the_mean_of_a_whole_cluster_is_the_papers_and_no_closer(grown):
    x, y, w, _ = grown
    module = DLGNShallow((5, 50, 50, 50, 2), "sigmoid", 10.0, value_input="ones", seed=0)
    fit(module, x[:2000], y[:2000], epochs=60, batch=200, lr=0.01)
    found = {}
    for centre in ("mode", "mean"):
        tree = dlgn_to_tree(
            x[:2000], y[:2000], root=module, max_depth=1, centre=centre, eps=(0.3, 0.3), **SMALL
        )
        found[centre] = tree.splits[0]
    assert found["mean"].gates > found["mode"].gates
    assert found["mean"].spread > found["mode"].spread
    assert found["mode"].spread <= 2 * np.arcsin(0.15) + 1e-6
    assert min(angles(w, found["mode"].normal)) < 8


def test_a_trained_estimator_is_used_at_the_root_in_the_units_of_the_data():
    x, y, _ = oblique(1500, 4, 1, 0)
    names = np.array(["no", "yes"])[y]
    stretched = x * [1, 10, 100, 0.1] + [0, 5, -20, 3]
    settings = {"shallow": True, "beta": 10.0, "lr": 1e-2, "epochs": 40, "value_input": "ones"}
    model = DLGNClassifier((50, 50), random_state=0, **settings)
    model.fit(stretched[:1000], names[:1000])
    tree = dlgn_to_tree(
        stretched[:1000], names[:1000], root=model, max_depth=1, eps=(0.3, 0.3), **SMALL
    )
    assert tree.accuracy(stretched[1000:], names[1000:]) > 0.95
    assert_allclose(np.linalg.norm(tree.normals[0]), 1)
    assert tree.splits[0].of == 100 and tree.splits[0].gates >= 6


def test_a_deep_linear_tower_gives_its_products():
    x, y, w = oblique(1500, 5, 1, 3)
    module = DLGN((5, 40, 40, 2), "sigmoid", 3.0, value_input="ones", seed=0)
    fit(module, x, y, epochs=60, batch=150, lr=5e-3)
    tree = dlgn_to_tree(x, y, root=module, max_depth=1, **SMALL)
    assert angles(w, tree.splits[0].normal)[0] < 6


def test_without_a_cluster_the_split_is_a_logistic_regression():
    x, y, w = oblique(600, 5, 1, 1)
    module = DLGN((5, 4, 2), seed=0)  # four gates are no cluster of six
    tree = dlgn_to_tree(x, y, root=module, max_depth=1, **SMALL)
    assert tree.splits[0].how == "logistic regression" and tree.splits[0].gates == 0
    assert angles(w, tree.splits[0].normal)[0] < 6
    assert "[logistic regression]" in str(tree)


def test_clusters_do_not_depend_on_the_signs_of_normals():
    rng = np.random.default_rng(0)
    normals = np.array([0.0, 1, 0, 0]) + 0.03 * rng.standard_normal((40, 4))  # first coordinate ~ 0
    noise = rng.standard_normal((8, 4))
    gates = np.c_[np.vstack([normals, noise]), np.zeros(48)] * rng.choice([-1, 1], 48)[:, None]
    recipe = _Recipe((4,), True, 3.0, 1e-3, 1, None, False, (0.2, 0.3), 6, "mean", 1, 0.0, 0)
    split = _cluster(gates, 0.2, recipe)
    assert split.gates == 40 and split.of == 48
    assert abs(split.normal[1]) > 0.999 and split.offset == 0


# -- the tree itself --


def tree_of_two():
    splits = (Split(np.array([1.0, 0]), 0.5, 7, 10, 0.1), Split(np.array([0.6, -0.8]), -1.0))
    return ObliqueTree(
        np.array([[1.0, 0], [0, 0], [0.6, -0.8], [0, 0], [0, 0]]),
        np.array([0.5, 0, -1, 0, 0]),
        np.array([[1, 2], [-1, -1], [3, 4], [-1, -1], [-1, -1]]),
        np.array([[5, 5], [4, 1], [1, 4], [1, 0], [0, 4]]),
        np.array(["a", "b"]),
        (splits[0], None, splits[1], None, None),
    )


def test_rows_go_where_a_walk_by_hand_goes():
    tree, rng = tree_of_two(), np.random.default_rng(0)
    x = 3 * rng.standard_normal((200, 2))
    expected = []
    for row in x:
        node = 0
        while tree.children[node, 0] >= 0:
            node = tree.children[node, int(row @ tree.normals[node] > tree.offsets[node])]
        expected.append(node)
    assert list(tree.apply(x)) == expected and set(expected) == {1, 3, 4}
    assert list(tree.leaves) == [1, 3, 4] and tree.depth == 2 and len(tree.splits) == 2
    assert set(tree.predict(x)) == {"a", "b"}


def test_the_text_is_the_rules():
    lines = tree_of_two().to_text(("age", "fare"), digits=1).splitlines()
    assert lines == [
        "if 1.0 age > 0.5:   [7 of 10 gates]",
        "    if 0.6 age - 0.8 fare > -1.0:   [logistic regression]",
        "        b  (4 rows, 100.0% of them)",
        "    if 0.6 age - 0.8 fare <= -1.0:",
        "        a  (1 rows, 100.0% of them)",
        "if 1.0 age <= 0.5:",
        "    a  (5 rows, 80.0% of them)",
    ]


def test_gini_gain_is_impurity_less_that_of_the_sides():
    y = np.array([0, 0, 1, 1])
    assert gini_gain(np.array([0, 0, 1, 1], bool), y, 2) == 0.5
    assert gini_gain(np.array([1, 0, 1, 0], bool), y, 2) == 0
    assert_allclose(gini_gain(np.array([1, 0, 0, 0], bool), y, 2), 0.5 - 0.75 * 4 / 9)


def test_progress_hears_of_every_node():
    x, y, _ = oblique(400, 5, 1, 0)
    heard = []
    settings = QUICK | {"epochs": 3, "progress": lambda *node: heard.append(node)}
    tree = dlgn_to_tree(x, y, max_depth=1, **settings)
    assert [depth for depth, *_ in heard] == [0, 1, 1]
    assert sum(rows for depth, rows, _ in heard if depth) == 400
    assert len(tree.children) == 3


def test_bad_input_is_refused():
    x, y, _ = oblique(50, 3, 1, 0)
    with pytest.raises(DataError, match="50 labels are one class"):
        dlgn_to_tree(x, 0 * y)
    with pytest.raises(WrongShape, match="50 rows and y 49 labels"):
        dlgn_to_tree(x, y[:49])
    with pytest.raises(DataError, match="NaN or infinity"):
        dlgn_to_tree(x * np.inf, y)
    with pytest.raises(ModelError, match="no gates that are half-spaces"):
        dlgn_to_tree(x, y, root=object())
    with pytest.raises(ModelError, match="'mode' or 'mean'"):
        dlgn_to_tree(x, y, centre="median")
    with pytest.raises(WrongShape, match=r"\(rows, 2\), got \(4, 3\)"):
        tree_of_two().predict(np.ones((4, 3)))


def test_a_constant_column_is_not_divided_by_its_rounding_error():
    x = np.stack([np.random.default_rng(0).normal(size=60), np.full(60, 0.1)], 1)
    assert 0 < x[:, 1].std() < 1e-15
    frame = _Frame.of(x, None, True)
    assert list(frame.scale) == [pytest.approx(x[:, 0].std()), 1]
    assert np.abs(frame.values[:, 1]).max() < 1e-15


@pytest.mark.parametrize(
    "labels, error, words",
    [
        ([1, "a"] * 25, DataError, "25 of 50 labels are strings and the others are not"),
        (np.array([1, "a"] * 25, object), DataError, "25 of 50 labels are strings"),
        ([0.0, np.nan] * 25, BadRows, "y has no label in rows 1, 3, .* and 15 more: leave out"),
        (np.array(["a", None] * 25, object), BadRows, "y has no label in rows 1, 3"),
        (np.zeros((50, 1), int), WrongShape, r"one a row, \(rows,\), and y's shape is \(50, 1\)"),
        (None, WrongShape, r"labels are one a row, \(rows,\), and y's shape is \(\)"),
    ],
)
def test_labels_that_are_none_are_refused(labels, error, words):
    with pytest.raises(error, match=words):
        dlgn_to_tree(oblique(50, 3, 1, 0)[0], labels)


@pytest.mark.parametrize(
    "setting, value, words",
    [
        ("eps", 0.2, "`eps` is two radii above 0, at the root and below, and it is 0.2"),
        ("eps", (0, 0.3), "`eps` is two radii above 0"),
        ("min_samples", 0, "`min_samples` is a whole number from 1, and it is 0"),
        ("min_samples", 2.5, "`min_samples` is a whole number from 1, and it is 2.5"),
        ("max_depth", -1, "`max_depth` is a whole number from 0, and it is -1"),
        ("min_share", 2, "`min_share` is a share of the rows, from 0 to 1, and it is 2"),
        ("seed", None, "`seed` is a whole number from 0, and it is None"),
        ("hidden_layer_sizes", 5, "`hidden_layer_sizes` is the width of each gated layer, whole"),
    ],
)
def test_settings_that_mean_nothing_are_refused(setting, value, words):
    x, y, _ = oblique(50, 3, 1, 0)
    with pytest.raises(ModelError, match=words):
        dlgn_to_tree(x, y, **{setting: value})


def test_a_root_of_another_width_is_refused():
    x, y, _ = oblique(50, 3, 1, 0)
    with pytest.raises(WrongShape, match="the root takes 5 inputs, and X has 3"):
        dlgn_to_tree(x, y, root=DLGN((5, 4, 2), seed=0))


def test_rows_without_numbers_and_labels_of_another_shape_are_refused():
    tree = tree_of_two()
    with pytest.raises(BadRows, match="X holds NaN or infinity in rows 1: repair or") as e:
        tree.predict([[0.0, 1.0], [np.nan, 1.0]])
    assert e.value.rows == (1,)
    with pytest.raises(DataError, match="the tree takes rows of numbers, and X is not"):
        tree.apply([["a", "b"]])
    with pytest.raises(WrongShape, match=r"X has 2 rows and y's shape is \(2, 1\)"):
        tree.accuracy(np.zeros((2, 2)), [["a"], ["a"]])
