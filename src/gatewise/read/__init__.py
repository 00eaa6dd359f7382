"""The one door in: `read(model)` turns anybody's model into a Network, checked against it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import torch

from gatewise.errors import ModelError, WrongColumns
from gatewise.ir.network import Network
from gatewise.numeric import as_float_dtype


def read(
    model: Any,
    example: Any = None,
    *,
    dtype: torch.dtype | str = torch.float64,
    device: torch.device | str | None = None,
    output: int | str | None = None,
    feature_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    classes: Sequence[Any] | None = None,
) -> Network:
    """The Network of a model, checked to compute what the model computes in eval mode.

    model: a torch.nn.Module, an exported program, a scikit-learn or skorch estimator, a path of
    an .onnx or .pt2 file, or a list of (W, b) with W (out, in) and ReLU between.
    example: one row or a few of the model's input, rows first; needed where its shape cannot be
    told from the model. output: which one, where the model returns several.
    classes: the labels of a classifier, in order: one an output (its logit), or the two that one
    output tells apart, (no, yes). A scikit-learn classifier says its own.
    dtype, device: what the Network computes in, and where: every analysis of it works there
    (default: where a Network is, the CPU for other models). The model is copied, never changed.
    Raises ModelError (UnsupportedLayer, UnsafeModel, CorruptModel, ReadingMismatch).
    """
    chosen = as_float_dtype(dtype)
    network = _named(_dispatch(model, example, output), feature_names, output_names)
    network = network if classes is None else _classified(network, classes)
    return network.to(chosen, device)


def _dispatch(model: Any, example: Any, output: int | str | None) -> Network:
    """To the reader of the model's kind, told by what it has; optional packages stay out."""
    if isinstance(model, Network):
        return model
    if isinstance(model, str | os.PathLike):
        from gatewise.read.files import read_file

        return read_file(model, output)
    if isinstance(model, torch.nn.Module) or _is_exported(model) or _is_skorch(model):
        return _from_torch(model, example, output)
    if hasattr(model, "SerializeToString") and hasattr(model, "graph"):
        from gatewise.read.onnx import read_onnx

        return read_onnx(model.SerializeToString(), output=None if output is None else str(output))
    return _from_plain(model, example, output)


def _from_torch(model: Any, example: Any, output: int | str | None) -> Network:
    from gatewise.read.torch import read_exported, read_torch

    if _is_exported(model):
        return read_exported(model, output)
    if isinstance(model, torch.nn.Module):
        return read_torch(model, example, output)
    _require_fitted(model)
    network = read_torch(model.module_, example, output)
    note = (
        "the module inside the skorch estimator was read: what predict_proba puts behind it "
        "(predict_nonlinearity) is not part of it"
    )
    return dataclasses.replace(network, notes=(*network.notes, note))


def _from_plain(model: Any, example: Any, output: int | str | None) -> Network:
    from gatewise.read.sklearn import is_sklearn, read_sklearn
    from gatewise.read.weights import is_weights, read_weights

    sklearn = is_sklearn(model)
    if not sklearn and not is_weights(model):
        raise ModelError(_unreadable(model))
    if output is not None:
        raise ModelError(
            f"output= picks one of several tensors that a model returns, and this one returns "
            f"one; got output={output!r}: leave it out"
        )
    return read_sklearn(model, example) if sklearn else read_weights(model)


def _is_exported(model: Any) -> bool:
    return hasattr(model, "graph_signature") and hasattr(model, "run_decompositions")


def _is_skorch(model: Any) -> bool:
    """A skorch estimator: it wraps a module class, and an instance of it once fitted."""
    if isinstance(getattr(model, "module_", None), torch.nn.Module):
        return True
    return hasattr(model, "predict_nonlinearity") and hasattr(model, "module")


def _require_fitted(model: Any) -> None:
    if not getattr(model, "initialized_", False) or not hasattr(model, "module_"):
        raise ModelError(
            f"the {type(model).__name__} is not fitted yet, so it has no module to read: call fit "
            f"(or initialize) first"
        )


def _unreadable(model: Any) -> str:
    if isinstance(model, type):
        return f"got the class {model.__name__}, not a model: pass a trained instance of it"
    if isinstance(model, dict):
        return (
            "got a dict, which holds weights at most: load it into your module "
            "(module.load_state_dict) and pass the module"
        )
    return (
        f"cannot read a {type(model).__module__}.{type(model).__qualname__}: pass a "
        f"torch.nn.Module, a scikit-learn estimator, the path of an .onnx or .pt2 file, or a list "
        f"of (W, b)"
    )


def _named(
    network: Network, feature_names: Sequence[str] | None, output_names: Sequence[str] | None
) -> Network:
    """The network with the names given, one an input and one an output."""
    given = {
        "feature_names": (feature_names, network.inputs, "inputs"),
        "output_names": (output_names, network.outputs, "outputs"),
    }
    for field, (names, count, what) in given.items():
        if names is None:
            continue
        if len(names) != count or len(set(names)) != count:
            raise WrongColumns(
                f"{field} has {len(names)} names ({len(set(names))} different), and the network "
                f"has {count} {what}: give each one a name of its own"
            )
        network = dataclasses.replace(network, **{field: tuple(map(str, names))})  # type: ignore[arg-type]
    return network


def _classified(network: Network, classes: Sequence[Any]) -> Network:
    """The network as a classifier of those labels; outputs without a name are named after them."""
    labels = () if isinstance(classes, str) else tuple(str(label) for label in classes)
    n = network.outputs
    if len(labels) != max(n, 2) or len(set(labels)) < len(labels):
        raise ModelError(
            f"classes= names {len(labels)} labels ({len(set(labels))} different), and the network "
            f"has {n} output{'s' * (n > 1)}: give "
            + ("one label for each" if n > 1 else "two labels, (no, yes): yes where it is above 0")
        )
    names = network.output_names or labels[-n:]
    return dataclasses.replace(network, task="classification", classes=labels, output_names=names)


__all__ = ["read"]
