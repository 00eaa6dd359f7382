"""scikit-learn: perceptrons, linear models, what wraps them; what is refused, and how."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn import datasets
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.cross_decomposition import PLSRegression
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.feature_selection import RFE
from sklearn.linear_model import (
    ElasticNet,
    GammaRegressor,
    HuberRegressor,
    LinearRegression,
    LogisticRegression,
    MultiTaskLasso,
    PoissonRegressor,
    RANSACRegressor,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
    SGDRegressor,
    TweedieRegressor,
)
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import SVC, SVR, LinearSVC, LinearSVR

from gatewise.errors import ModelError, ReadingMismatch, UnsupportedLayer
from gatewise.ir.kinds import Affine
from gatewise.ir.network import breaker
from gatewise.read.sklearn import is_sklearn, read_sklearn

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RAW = datasets.load_breast_cancer(return_X_y=True)
CANCER = ((RAW[0] - RAW[0].mean(0)) / RAW[0].std(0), RAW[1])  # where fitting would be slow
IRIS = datasets.load_iris(return_X_y=True)
WINE = datasets.load_wine(return_X_y=True)
DIABETES = datasets.load_diabetes(return_X_y=True)


def labels(count: int = 3):
    return datasets.make_multilabel_classification(120, 6, n_classes=count, random_state=0)


def targets(count: int = 2):
    return datasets.make_regression(120, 6, n_targets=count, noise=1.0, random_state=0)


def counts():
    x, _ = targets(1)
    return x, np.exp(x[:, 0] / 2) + 0.1


def close(ours, theirs, tolerance: float = 1e-10) -> None:
    """Equal to within `tolerance` of the largest; says where not."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    gap = np.abs(ours - theirs)
    worst = np.unravel_index(gap.argmax(), gap.shape)
    allowed = tolerance * max(1.0, np.abs(theirs).max())
    assert gap[worst] <= allowed, (worst, ours[worst], theirs[worst])


def test_close_can_fail():
    with pytest.raises(AssertionError):
        close(np.ones((3, 1)), np.ones((3, 1)) * 1.1)


def answers(model, x) -> np.ndarray:
    """What scikit-learn says, one column an output."""
    for method in ("predict_proba", "decision_function", "predict"):
        if hasattr(model, method):
            found = np.asarray(getattr(model, method)(x), dtype=np.float64).reshape(len(x), -1)
            two = method == "predict_proba" and len(getattr(model, "classes_", ())) == 2
            return found[:, 1:] if two and found.shape[1] == 2 else found
    raise AssertionError(model)


# ---------------------------------------------------------------- perceptrons


@pytest.mark.parametrize("activation", ["identity", "relu", "logistic", "tanh"])
@pytest.mark.parametrize(
    ("kind", "data", "outputs"),
    [
        (MLPClassifier, RAW, ("1",)),
        (MLPClassifier, IRIS, ("0", "1", "2")),
        (MLPClassifier, labels(), ("0", "1", "2")),
        (MLPRegressor, DIABETES, ("y",)),
        (MLPRegressor, targets(3), ("y0", "y1", "y2")),
    ],
    ids=["binary", "multiclass", "multilabel", "regression", "several"],
)
def test_perceptron(kind, data, outputs, activation):
    x, y = data
    model = make_pipeline(
        StandardScaler(),
        kind(hidden_layer_sizes=(7, 5), activation=activation, max_iter=20, random_state=0),
    ).fit(x, y)
    net = read_sklearn(model)
    close(net.predict(x), answers(model, x))
    assert net.output_names == outputs
    assert net.input_shape == (1, x.shape[1])
    assert (breaker(net) is None) == (activation in {"identity", "relu"})
    assert bool(net.head) == (kind is MLPClassifier)


def test_the_logits_are_those_before_the_head():
    x, y = WINE
    model = make_pipeline(StandardScaler(), MLPClassifier((9,), max_iter=30, random_state=1))
    net = read_sklearn(model.fit(x, y))
    logits = net(x)
    close(torch.softmax(logits, 1), model.predict_proba(x))
    assert [n.layer for n in net.head] == ["Softmax"]
    assert any("softmax is set aside: outputs are logits" in note for note in net.notes)


def test_the_check_is_in_the_notes():
    x, y = WINE
    net = read_sklearn(MLPClassifier((4,), max_iter=5, random_state=0).fit(x, y))
    assert any(n.startswith("checked against the scikit-learn MLPClassifier") for n in net.notes)


def test_names_of_classes():
    x, y = IRIS
    named = datasets.load_iris().target_names[y]
    net = read_sklearn(MLPClassifier((4,), max_iter=5, random_state=0).fit(x, named))
    assert net.output_names == ("setosa", "versicolor", "virginica")


def test_a_float32_model():
    x, y = WINE
    single = x.astype(np.float32)
    model = make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=20, random_state=0))
    net = read_sklearn(model.fit(single, y))
    assert any("in float32" in note for note in net.notes)
    close(net.predict(single), model.predict_proba(single), 1e-5)


def test_the_model_can_be_refitted_without_harm():
    x, y = WINE
    model = MLPClassifier((6,), max_iter=10, random_state=0).fit(x, y)
    net = read_sklearn(model)
    before = net(x)
    for w in model.coefs_:
        w[:] = 0
    assert torch.equal(net(x), before)


# ---------------------------------------------------------------- linear models

LINEAR = [
    (LogisticRegression(max_iter=5000), CANCER),
    (LogisticRegression(max_iter=5000), IRIS),
    (LinearDiscriminantAnalysis(), IRIS),
    (LinearDiscriminantAnalysis(), RAW),
    (LinearSVC(), CANCER),
    (LinearSVC(), WINE),
    (RidgeClassifier(), WINE),
    (SGDClassifier(loss="log_loss", random_state=0), CANCER),
    (SVC(kernel="linear"), CANCER),
    (LinearRegression(), DIABETES),
    (LinearRegression(), targets(3)),
    (LinearRegression(fit_intercept=False), DIABETES),
    (Ridge(), targets(2)),
    (ElasticNet(), DIABETES),
    (MultiTaskLasso(), targets(2)),
    (HuberRegressor(max_iter=1000), targets(1)),
    (SGDRegressor(random_state=0), targets(1)),
    (LinearSVR(), targets(1)),
    (SVR(kernel="linear"), targets(1)),
    (PLSRegression(2), targets(2)),
    (PoissonRegressor(), counts()),
    (GammaRegressor(), counts()),
    (TweedieRegressor(power=1.5), counts()),
    (TweedieRegressor(power=0), counts()),
]


@pytest.mark.parametrize(
    ("model", "data"), LINEAR, ids=[f"{type(m).__name__}{i}" for i, (m, _) in enumerate(LINEAR)]
)
def test_linear_model(model, data):
    x, y = data
    model.fit(x, y)
    net = read_sklearn(model)
    close(net.predict(x), answers(model, x), 1e-9)
    assert all(isinstance(n.kind, Affine) for n in net.nodes)


@pytest.mark.parametrize("loss", ["hinge", "log_loss", "modified_huber"])
def test_sgd_of_several_classes_gives_its_decision_function(loss):
    x, y = WINE
    model = make_pipeline(StandardScaler(), SGDClassifier(loss=loss, random_state=0)).fit(x, y)
    close(read_sklearn(model)(x), model.decision_function(x))


def test_a_sparse_coefficient():
    x, y = CANCER
    model = SGDClassifier(random_state=0).fit(x, y).sparsify()
    close(read_sklearn(model)(x), model.decision_function(x).reshape(-1, 1))


# ---------------------------------------------------------------- wrappers


def test_grid_search():
    x, y = CANCER
    grid = {"mlpclassifier__alpha": [1e-4, 1e-2]}
    pipe = make_pipeline(StandardScaler(), MLPClassifier((5,), max_iter=20, random_state=0))
    model = GridSearchCV(pipe, grid, cv=2).fit(x, y)
    close(read_sklearn(model).predict(x), answers(model, x))


def test_recursive_feature_elimination():
    x, y = DIABETES
    model = RFE(LinearRegression(), n_features_to_select=4).fit(x, y)
    net = read_sklearn(model)
    assert net.feature_names == tuple(f"x{j}" for j in np.flatnonzero(model.support_))
    close(net(net.prepare(x)), answers(model, x))


def test_threshold_is_noted():
    x, y = CANCER
    inner = LogisticRegression(max_iter=5000)
    model = FixedThresholdClassifier(inner, threshold=0.3).fit(x, y)
    net = read_sklearn(model)
    assert any("decides at threshold 0.3" in note for note in net.notes)
    close(net.predict(x), model.predict_proba(x)[:, 1:])


def test_ransac():
    x, y = targets(1)
    model = RANSACRegressor(random_state=0).fit(x, y)
    close(read_sklearn(model)(x), answers(model, x))


@pytest.mark.parametrize(
    "scaler", [StandardScaler(), MinMaxScaler((-1, 3)), MaxAbsScaler(), RobustScaler(), None]
)
@pytest.mark.parametrize("outputs", [1, 3])
def test_target_scalers_fold_into_the_last_layer(scaler, outputs):
    x, y = targets(outputs)
    net = MLPRegressor(hidden_layer_sizes=(6,), max_iter=20, random_state=0)
    inner = make_pipeline(StandardScaler(), net)
    model = TransformedTargetRegressor(inner, transformer=scaler).fit(x, y * 50 + 7)
    net = read_sklearn(model)
    assert [n.layer for n in net.nodes] == ["Linear", "Linear", "ReLU", "Linear"]
    close(net.predict(x), answers(model, x))


def test_a_model_inside_a_wrapper_inside_a_pipeline():
    x, y = targets(1)
    inner = TransformedTargetRegressor(
        make_pipeline(RobustScaler(), Ridge()), transformer=StandardScaler()
    )
    model = make_pipeline(StandardScaler(), inner).fit(x, y)
    close(read_sklearn(model)(x), answers(model, x))


# ---------------------------------------------------------------- refused


def refused(model, kind=UnsupportedLayer) -> str:
    with pytest.raises(kind) as caught:
        read_sklearn(model)
    return str(caught.value)


@pytest.mark.parametrize(
    "model",
    [
        MLPClassifier(),
        LinearRegression(),
        GridSearchCV(Ridge(), {"alpha": [1]}),
        make_pipeline(StandardScaler(), MLPRegressor()),
        TransformedTargetRegressor(Ridge()),
    ],
)
def test_unfitted(model):
    words = refused(model, ModelError)
    assert "is not fitted, so there are no weights to read" in words
    assert "Call fit first" in words


def test_ensembles_are_refused_by_name():
    x, y = CANCER
    calibrated = CalibratedClassifierCV(LogisticRegression(max_iter=5000), cv=2).fit(x, y)
    voting = VotingClassifier([("a", LogisticRegression(max_iter=5000))]).fit(x, y)
    for model, name in ((calibrated, "CalibratedClassifierCV"), (voting, "VotingClassifier")):
        words = refused(model)
        assert name in words
        assert "Read one of the models it holds" in words


def test_an_ensemble_at_the_end_of_a_pipeline():
    x, y = CANCER
    end = CalibratedClassifierCV(LogisticRegression(max_iter=5000), cv=2)
    words = refused(make_pipeline(StandardScaler(), end).fit(x, y))
    assert "'calibratedclassifiercv'" in words


def test_other_models_are_refused_by_name():
    x, y = IRIS
    for model in (RandomForestClassifier(5).fit(x, y), SVC().fit(x, y)):
        words = refused(model)
        assert type(model).__name__ in words
        assert "It reads MLPClassifier, MLPRegressor and linear models" in words


def test_votes_between_pairs_are_refused():
    words = refused(SVC(kernel="linear").fit(*IRIS))
    assert "votes between pairs of 3 classes" in words
    assert "LinearSVC" in words


def test_a_curved_target_is_refused():
    x, y = counts()
    power = TransformedTargetRegressor(Ridge(), transformer=PowerTransformer()).fit(x, y)
    log = TransformedTargetRegressor(Ridge(), func=np.log, inverse_func=np.exp).fit(x, y)
    clipped = TransformedTargetRegressor(Ridge(), transformer=MinMaxScaler(clip=True)).fit(x, y)
    for model, name in ((power, "Power"), (log, "Function"), (clipped, "MinMax")):
        words = refused(model)
        assert f"undoes {name}" in words
        assert "Read its `regressor_`" in words


def test_a_log_link_before_a_target_scaler_is_refused():
    model = TransformedTargetRegressor(PoissonRegressor(), transformer=MaxAbsScaler())
    assert "ends in exp before its target" in refused(model.fit(*counts()))


def test_a_pipeline_without_a_model_is_refused():
    x, _ = IRIS
    assert "which predicts nothing" in refused(make_pipeline(StandardScaler()).fit(x))


class Shifted(RegressorMixin, BaseEstimator):
    """Linear to look at, but not what it says."""

    def fit(self, x, y):
        self.coef_, self.intercept_ = np.ones(x.shape[1]), 0.0
        self.n_features_in_ = x.shape[1]
        return self

    def predict(self, x):
        return x @ self.coef_ + 1e-6


def test_a_model_that_computes_something_else_is_found():
    with pytest.raises(ReadingMismatch, match="does not compute what its source computes"):
        read_sklearn(Shifted().fit(*DIABETES))


def test_a_step_that_changes_what_it_says_is_found():
    x, y = DIABETES
    model = make_pipeline(StandardScaler(), Ridge()).fit(x, y)
    model[0].transform = lambda x: (x - model[0].mean_) / model[0].scale_ + 1e-6
    with pytest.raises(ReadingMismatch):
        read_sklearn(model)


def test_text_models_say_what_to_do():
    from sklearn.feature_extraction.text import TfidfVectorizer

    model = make_pipeline(TfidfVectorizer(), LogisticRegression())
    model.fit(["good film", "bad film", "good", "bad"], [1, 0, 1, 0])
    words = refused(model, ModelError)
    assert "does not say which columns it takes" in words
    assert "read(pipeline[1:])" in words
    assert read_sklearn(model[1:]).inputs == 3


def test_columns_unknown_but_an_example_given():
    class Twice(BaseEstimator):
        def fit(self, x, y=None):
            return self

        def transform(self, x):
            return np.asarray(x) * 2

    x, y = DIABETES
    model = make_pipeline(Twice(), Ridge()).fit(x, y)
    net = read_sklearn(model, example=x[:5])
    assert net.feature_names[0] == "Twice(x0)"
    close(net(net.prepare(x)), answers(model, x))


# ---------------------------------------------------------------- is_sklearn


def test_is_sklearn():
    assert is_sklearn(MLPClassifier())
    assert is_sklearn(make_pipeline(StandardScaler()))
    assert not is_sklearn(torch.nn.Linear(1, 1))
    assert not is_sklearn([np.ones((1, 1))])


def test_skorch_is_not_sklearn():
    from skorch import NeuralNetRegressor

    assert not is_sklearn(NeuralNetRegressor(torch.nn.Linear))


def test_asking_imports_nothing():
    code = (
        "import sys\n"
        "from gatewise.read.sklearn import is_sklearn\n"
        "assert not is_sklearn(3)\n"
        "print('sklearn' in sys.modules, 'scipy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False False", done.stderr


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["coef_", "intercept_"])
def test_coefficients_that_are_not_finite_are_refused(name, value):
    rng = np.random.default_rng(0)
    model = LinearRegression().fit(rng.normal(size=(20, 3)), rng.normal(size=20))
    setattr(model, name, np.full_like(getattr(model, name), value))
    with pytest.raises(ModelError, match=r"'LinearRegression.*' \(Linear\) holds NaN or infinity"):
        read_sklearn(model)
