"""SHAP, Captum and LIME as Peers. Each package is imported when its peer is made, and not before.

All take the same reference row as the exact rule, as their only background: so the same question
is answered, and Kernel and Permutation SHAP are the Shapley values of "feature j present, or at
the reference". Their own randomness is seeded.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from gatewise.errors import DataError, MissingExtra, missing
from gatewise.explain.evaluation.methods import Attribute, Attribution, Peer
from gatewise.explain.evaluation.module import Layered, Whole, gradient
from gatewise.explain.explanation import Explanation
from gatewise.ir.network import Network
from gatewise.tables import listed

Floats = NDArray[np.float64]
Build = Callable[[Network], Attribute]
STEPS = 50  # of Captum's integrated gradients


def saliency(exp: Explanation, output: int = 0) -> Peer:
    """Captum's Saliency without its absolute value: the gradient, a slope."""
    return _captum("captum Saliency", "Saliency", exp, output, says="slopes", abs=False)


def input_x_gradient(exp: Explanation, output: int = 0) -> Peer:
    """Captum's InputXGradient: x_j times the gradient; its reference is 0 and it claims no sum."""
    return _captum("captum InputXGradient", "InputXGradient", exp, output, says="both")


def integrated_gradients(exp: Explanation, output: int = 0, steps: int = STEPS) -> Peer:
    """Captum's IntegratedGradients from the reference by a sum of `steps` terms."""
    name = f"captum IntegratedGradients ({steps})"
    return _captum(name, "IntegratedGradients", exp, output, baseline=True, n_steps=steps)


def deep_lift(exp: Explanation, output: int = 0) -> Peer:
    """Captum's DeepLift (rescale rule) from the reference; for ReLU gates alone."""
    return _captum("captum DeepLift", "DeepLift", exp, output, module=Layered, baseline=True)


def _captum(
    name: str,
    method: str,
    exp: Explanation,
    output: int,
    *,
    module: type[Whole] = Whole,
    says: Literal["values", "slopes", "both"] = "values",
    baseline: bool = False,
    **settings: Any,
) -> Peer:
    attr = _package("captum.attr", "captum", f"the peer '{name}'")
    reference, position = torch.from_numpy(exp.reference[None]), exp.outputs[output]

    def build(network: Network) -> Attribute:
        net = module(network, position)
        explainer = getattr(attr, method)(net)
        start = {"baselines": reference} if baseline else {}
        base = float(net(reference)[0, 0]) if baseline else None

        def attribute(x: Floats) -> Attribution:
            rows = torch.from_numpy(x).requires_grad_()
            with _quiet(), torch.enable_grad():
                said = explainer.attribute(rows, **start, **settings).detach().numpy()
            if says == "slopes":
                return Attribution(slopes=said)
            slopes = gradient(network, position, rows).numpy() if says == "both" else None
            return Attribution(said, None if base is None else np.full(len(x), base), slopes)

        return attribute

    return Peer(name, build(exp.network), build)


def deep_shap(exp: Explanation, output: int = 0) -> Peer:
    """shap.DeepExplainer with the reference as background; for ReLU gates alone."""
    shap = _package("shap", "shap", "the peer 'shap Deep'")
    reference, position = torch.from_numpy(exp.reference[None]), exp.outputs[output]

    def build(network: Network) -> Attribute:
        net = Layered(network, position)
        with _quiet():
            explainer = shap.DeepExplainer(net, reference)
        base = float(net(reference)[0, 0])

        def attribute(x: Floats) -> Attribution:
            with _quiet():
                said = explainer.shap_values(torch.from_numpy(x), check_additivity=False)
            return Attribution(np.asarray(said).reshape(x.shape), np.full(len(x), base))

        return attribute

    return Peer("shap Deep", build(exp.network), build)


def kernel_shap(exp: Explanation, output: int = 0, seed: int = 0) -> Peer:
    """shap.KernelExplainer with the reference as background, its own number of samples."""
    shap = _package("shap", "shap", "the peer 'shap Kernel'")
    position = exp.outputs[output]

    def build(network: Network) -> Attribute:
        with _quiet():
            explainer = shap.KernelExplainer(_function(network, position), exp.reference[None])

        def attribute(x: Floats) -> Attribution:
            with _quiet(), _numpy_seed(seed):
                said = explainer.shap_values(x, silent=True)
            base = np.full(len(x), float(np.ravel(explainer.expected_value)[0]))
            return Attribution(np.asarray(said).reshape(x.shape), base)

        return attribute

    return Peer("shap Kernel", build(exp.network), build)


def permutation_shap(exp: Explanation, output: int = 0, seed: int = 0) -> Peer:
    """shap.PermutationExplainer with the reference as its masker's background."""
    shap = _package("shap", "shap", "the peer 'shap Permutation'")
    position = exp.outputs[output]

    def build(network: Network) -> Attribute:
        f = _function(network, position)
        masker = shap.maskers.Independent(exp.reference[None])

        def attribute(x: Floats) -> Attribution:
            with _quiet(), _numpy_seed(seed):
                explainer = shap.PermutationExplainer(f, masker, seed=seed)
                said = explainer(x, silent=True)
            return Attribution(said.values.reshape(x.shape), np.ravel(said.base_values))

        return attribute

    return Peer("shap Permutation", build(exp.network), build)


def lime(exp: Explanation, output: int = 0, samples: int = 1000, seed: int = 0) -> Peer:
    """lime's tabular regression around each row, continuous features not cut into bins.

    The rule it fits is g(x) = intercept + sum_j w_j (x_j - mean_j) / sd_j: slopes w / sd, and
    values and base counted from the reference as for the exact rule.
    """
    tabular = _package("lime.lime_tabular", "lime", "the peer 'lime'")
    position, features = exp.outputs[output], len(exp.feature_names)

    def build(network: Network) -> Attribute:
        f = _function(network, position)

        def attribute(x: Floats) -> Attribution:
            explainer = tabular.LimeTabularExplainer(
                exp.data,
                mode="regression",
                discretize_continuous=False,
                sample_around_instance=True,
                random_state=seed,
            )
            mean, sd = explainer.scaler.mean_, explainer.scaler.scale_
            slopes, base = np.zeros(x.shape), np.zeros(len(x))
            for i, row in enumerate(x):  # lime takes a row at a time
                with _quiet():
                    said = explainer.explain_instance(
                        row, f, num_features=features, num_samples=samples
                    )
                place, weight = zip(*said.local_exp[1], strict=True)
                slopes[i, list(place)] = weight
                base[i] = said.intercept[1]
            slopes /= sd
            base += slopes @ (exp.reference - mean)
            return Attribution(slopes * (x - exp.reference), base, slopes)

        return attribute

    return Peer("lime", build(exp.network), build)


PEERS: dict[str, Callable[[Explanation, int], Peer]] = {
    "saliency": saliency,
    "input_x_gradient": input_x_gradient,
    "integrated_gradients": integrated_gradients,
    "deep_lift": deep_lift,
    "deep_shap": deep_shap,
    "kernel_shap": kernel_shap,
    "permutation_shap": permutation_shap,
    "lime": lime,
}


def peers(
    exp: Explanation, names: Sequence[str] | None = None, output: int = 0
) -> tuple[Peer, ...]:
    """Peers by name; without names, all whose package is here and that can read the network."""
    if names is not None:
        unknown = [name for name in names if name not in PEERS]
        if unknown:
            raise DataError(f"no peer {listed(unknown)}: there are {listed(list(PEERS))}")
        return tuple(PEERS[name](exp, output) for name in names)
    found = []
    for make in PEERS.values():
        with contextlib.suppress(MissingExtra, DataError):
            found.append(make(exp, output))
    return tuple(found)


def _package(module: str, package: str, task: str) -> Any:
    try:
        with _quiet():
            return importlib.import_module(module)
    except ImportError:
        raise missing(package, "bench", task) from None


def _function(network: Network, output: int) -> Callable[[Any], Floats]:
    """f for numpy rows: (rows, features) -> (rows,)."""

    def f(rows: Any) -> Floats:
        with torch.no_grad():
            y = network(np.asarray(rows, np.float64))[:, output]
        return np.asarray(y.double().cpu().numpy())

    return f


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What other packages print, log or warn is not the user's concern; errors still are."""
    was = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(was)


@contextlib.contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    """SHAP draws from, and seeds, numpy's global generator: it is put back as it was."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)
