"""The final model of a Pipeline as layers: perceptrons, what is linear with `coef_`, and estimators
that hold the torch module they predict with."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gatewise.errors import UnsupportedLayer
from gatewise.ir.network import INPUT, Network, Task
from gatewise.ops import TORCH, Builder, Ref
from gatewise.ops.affine import linear
from gatewise.read.sklearn.unwrap import Plan, inverse, under

Floats = NDArray[np.float64]
HIDDEN = {"identity": "", "relu": "relu", "logistic": "sigmoid", "tanh": "tanh"}
SOFTMAX = {"LogisticRegression", "LogisticRegressionCV", "LinearDiscriminantAnalysis"}
LOG_LINK = {"PoissonRegressor", "GammaRegressor"}


@dataclass(frozen=True, eq=False)
class Scores:
    """layers: (W, c) with `hidden` between them; head: what the model does after the last.

    network: what comes before the layers, in an estimator that holds a torch module;
    method: the estimator's own that gives the same with the head put back.
    rounds: it sums over support vectors, which rounds far more than the layers' own arithmetic;
    task, classes: see `Network`.
    """

    path: str
    layers: tuple[tuple[Floats, Floats], ...]
    hidden: str
    head: str
    method: str
    names: tuple[str, ...]
    rounds: bool = False
    task: Task | None = None
    classes: tuple[str, ...] = ()
    network: Network | None = None

    @property
    def width(self) -> int:
        """How many columns it takes."""
        return int(self.layers[0][0].shape[1]) if self.network is None else self.network.inputs

    @staticmethod
    def of(plan: Plan) -> Scores:
        """Those of a plan's final model, its target transformers undone in the last layer."""
        if hasattr(plan.final, "coefs_") and hasattr(plan.final, "out_activation_"):
            scores = _perceptron(plan)
        elif getattr(plan.final, "coef_", None) is not None and hasattr(plan.final, "intercept_"):
            scores = _linear(plan)
        elif isinstance(getattr(plan.final, "torch_module_", None), torch.nn.Module):
            scores = _module(plan)
        else:
            raise _refusal(plan)
        for transformer in plan.targets:
            scores = _undo(scores, transformer)
        outputs = len(scores.layers[-1][0])
        classes = () if outputs > 1 and scores.head == "sigmoid" else _classes(plan.final, outputs)
        return dataclasses.replace(scores, task=_task(plan.final), classes=classes)


def _perceptron(plan: Plan) -> Scores:
    model = plan.final
    layers = tuple(
        (_floats(w).T, _floats(c)) for w, c in zip(model.coefs_, model.intercepts_, strict=True)
    )
    if model.activation not in HIDDEN or model.out_activation_ not in HEADS:
        raise UnsupportedLayer(
            f"'{plan.path}' ({type(model).__name__}) has activation '{model.activation}' and "
            f"output '{model.out_activation_}'; known are {', '.join(HIDDEN)} and "
            f"{', '.join(HEADS)}."
        )
    head = HEADS[model.out_activation_]
    method = "predict_proba" if hasattr(model, "classes_") else "predict"
    names = _output_names(model, len(layers[-1][0]))
    return Scores(plan.path, layers, HIDDEN[model.activation], head, method, names)


def _module(plan: Plan) -> Scores:
    """An estimator whose `torch_module_` takes its columns and gives logits, or predictions.

    Its classifiers answer with the softmax of those logits (the sigmoid of one). After the module
    stands the identity, in which transformers of the target are undone.
    """
    from gatewise.read.torch import read_torch

    model = plan.final
    network = read_torch(model.torch_module_, torch.zeros(2, int(model.n_features_in_)))
    outputs = network.outputs
    head, method = "", "predict"
    if hasattr(model, "classes_"):
        head, method = "sigmoid" if outputs == 1 else "softmax", "predict_proba"
    layers = ((np.eye(outputs), np.zeros(outputs)),)
    names = _output_names(model, outputs)
    return Scores(plan.path, layers, "", head, method, names, network=network)


HEADS = {"identity": "", "softmax": "softmax", "logistic": "sigmoid", "exp": "exp"}


def _linear(plan: Plan) -> Scores:
    model, name = plan.final, type(plan.final).__name__
    coef = model.coef_.toarray() if hasattr(model.coef_, "toarray") else model.coef_
    weight = np.atleast_2d(_floats(coef))
    bias = np.broadcast_to(_floats(model.intercept_).reshape(-1), len(weight)).copy()
    classes = getattr(model, "classes_", None)
    if hasattr(model, "support_vectors_") and classes is not None and len(classes) > 2:
        raise UnsupportedLayer(
            f"'{plan.path}' ({name}) votes between pairs of {len(classes)} classes, so it has no "
            f"one linear score a class. LinearSVC has, and is read."
        )
    if hasattr(model, "_x_mean"):  # partial least squares: its intercept is that of centred data
        bias = bias - weight @ _floats(model._x_mean)
    head, method = _link(model, name, classes)
    names = _output_names(model, len(weight))
    rounds = hasattr(model, "support_vectors_")
    return Scores(plan.path, ((weight, bias),), "", head, method, names, rounds)


def _link(model: Any, name: str, classes: Any) -> tuple[str, str]:
    """What follows the linear score, and the method that gives it."""
    if name in LOG_LINK or (name == "TweedieRegressor" and _tweedie_log(model)):
        return "exp", "predict"
    if classes is None:
        return "", "decision_function" if hasattr(model, "decision_function") else "predict"
    if name in SOFTMAX:
        return "sigmoid" if len(classes) == 2 else "softmax", "predict_proba"
    if name == "SGDClassifier" and model.loss == "log_loss" and len(classes) == 2:
        return "sigmoid", "predict_proba"
    return "", "decision_function"


def _tweedie_log(model: Any) -> bool:
    return bool(model.link == "log" or (model.link == "auto" and model.power > 0))


def _floats(values: Any) -> Floats:
    return np.array(values, dtype=np.float64)


def _output_names(model: Any, outputs: int) -> tuple[str, ...]:
    """The classes (of two: the second, for which the score stands), or y, or y0, y1, ..."""
    classes = _classes(model, outputs)
    if classes:
        return classes[-outputs:]
    return ("y",) if outputs == 1 else tuple(f"y{i}" for i in range(outputs))


def _classes(model: Any, outputs: int) -> tuple[str, ...]:
    """The labels that the outputs tell apart, () where they are of none."""
    classes = getattr(model, "classes_", ())
    fits = len(classes) == (2 if outputs == 1 else outputs)
    return tuple(str(c) for c in classes) if fits else ()


def _task(model: Any) -> Task | None:
    """None for what neither classifies nor predicts a quantity (a detector of outliers, say)."""
    if hasattr(model, "classes_"):
        return "classification"
    scores = ("predict_proba", "decision_function")
    return None if any(hasattr(model, name) for name in scores) else "regression"


def _undo(scores: Scores, transformer: Any) -> Scores:
    """A target's affine transformer undone in the last layer."""
    *first, (w, c) = scores.layers
    a, shift = inverse(transformer, len(w))
    if scores.head and not (np.all(a == 1) and np.all(shift == 0)):
        raise UnsupportedLayer(
            f"'{scores.path}' ends in {scores.head} before its target is transformed back, so its "
            f"answer is curved. Read the TransformedTargetRegressor's `regressor_`."
        )
    return dataclasses.replace(scores, layers=(*first, (a[:, None] * w, a * c + shift)))


def _refusal(plan: Plan) -> UnsupportedLayer:
    return UnsupportedLayer(
        f"'{plan.path}' ({type(plan.final).__name__}) is not a network that Gatewise reads. It "
        f"reads MLPClassifier, MLPRegressor and linear models (those with coef_ and intercept_), "
        f"alone or at the end of a Pipeline, and estimators with a `torch_module_`."
    )


def append_scores(b: Builder, x: Ref, scores: Scores, more: dict[str, Any]) -> Network:
    """The whole Network: the layers after x, the head set aside."""
    layers = scores.layers
    if scores.network is not None:
        x = _appended(b, x, scores.network, scores.path)
        w, c = layers[0]
        layers = () if np.array_equal(w, np.eye(len(w))) and not c.any() else layers
    for i, (w, c) in enumerate(layers):
        if i and scores.hidden:
            x = _call(b, under(scores.path, f"{i - 1}.{scores.hidden}"), scores.hidden, x)
        b.at(under(scores.path, str(i)), "Linear")
        x = linear(b, x, torch.from_numpy(w), torch.from_numpy(c))
    end = x
    if scores.head:
        arguments = (-1,) if scores.head == "softmax" else ()
        end = _call(b, under(scores.path, scores.head), scores.head, x, *arguments)
    more |= {"task": scores.task, "classes": scores.classes}
    network = b.finish(end, output_names=scores.names, **more)
    return _set_aside(network, x.name, scores.head) if scores.head else network


def _appended(b: Builder, x: Ref, network: Network, path: str) -> Ref:
    """The network's nodes after x, in the place of its input."""
    made = {INPUT: x}
    for node in network.nodes:
        b.at(under(path, node.name), node.layer)
        made[node.name] = b.add(node.kind, *(made[name] for name in node.inputs))
    b.notes += network.notes
    return made[network.output]


def _call(b: Builder, path: str, name: str, x: Ref, *arguments: Any) -> Ref:
    entry, adapter = TORCH[name]
    b.at(path, entry.name)
    found = adapter(b, x, *arguments)
    assert isinstance(found, Ref)
    return found


def _set_aside(network: Network, cut: str, head: str) -> Network:
    """The network up to node `cut`; what follows is its head."""
    place = [n.name for n in network.nodes].index(cut) + 1
    what = "logarithms of the prediction" if head == "exp" else "logits"
    return dataclasses.replace(
        network,
        nodes=network.nodes[:place],
        output=cut,
        head=network.nodes[place:],
        notes=(*network.notes, f"the final {head} is set aside: outputs are {what}"),
    )
