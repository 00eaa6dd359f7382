"""The façade: models and tables in, Networks and results out. Everything else is a room below."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gatewise.errors import DataError
from gatewise.explain.attribute import attribute
from gatewise.explain.cohorts.cohorts import cohorts
from gatewise.explain.compute import deviation, require_finite
from gatewise.explain.explanation import Explanation, require_explanation
from gatewise.explain.explanation import explain as _explain
from gatewise.explain.groups import groups_of
from gatewise.explain.inputs import (
    OnBadRows,
    inputs_of,
    reference_of,
    split_target,
)
from gatewise.explain.names import feature_names as names_of
from gatewise.explain.names import pick_outputs
from gatewise.explain.reasons import reason_codes
from gatewise.ir.network import Network, require_piecewise_affine
from gatewise.ir.pattern import Pattern
from gatewise.linear.affine_map import AffineMap
from gatewise.patterns import observe
from gatewise.patterns.census import Census
from gatewise.patterns.census import census as _census
from gatewise.read import read
from gatewise.regions.halfspaces import Region
from gatewise.regions.halfspaces import region as _region

if TYPE_CHECKING:
    from gatewise.explain.evaluation.evaluate import Evaluation
    from gatewise.explain.integrated import IntegratedGradients
    from gatewise.explain.profile import Profile
    from gatewise.explain.recourse.recourse import Recourse
    from gatewise.regions.lines import Trace

Model = Any
Progress = Callable[[str, int, int], None]


def pattern(model: Model, X: Any) -> Pattern:
    """The branch every gate picks at every row of X, bit-packed.

    model: a Network, or anything `read` takes; X: (rows, inputs), an array or a table.
    """
    network, x = _inputs(model, X)
    require_piecewise_affine(network, "a pattern")
    return observe.pattern(network, x)


def affine(model: Model, X: Any) -> AffineMap:
    """f(x) = W x + b around every row of X: `.matrix()` is (rows, outputs, inputs).

    Exact on the whole region of each row, up to `.bound(x)`, which is rigorous.
    """
    network, x = _inputs(model, X)
    require_piecewise_affine(network, "an affine map")
    return AffineMap(network, observe.pattern(network, x))


def census(model: Model, X: Any, *, batch_size: int | None = None) -> Census:
    """The distinct patterns of X: cluster ids, counts, first rows, units in doubt, maps.

    Memory beyond X and the answer is one batch and the distinct patterns.
    """
    size = _positive(batch_size, "batch_size")
    network, x = _inputs(model, X)
    found = _census(network, x, batch_size=size)
    require_finite(np.arange(len(x)), found.output.cpu())
    return found


def region(model: Model, X: Any) -> Region:
    """The polyhedron around every row of X on which its affine map holds: rows a.x + b >= 0."""
    network, x = _inputs(model, X)
    require_piecewise_affine(network, "a region")
    flat = x.reshape(len(x), -1)
    return _region(network, x, (flat.amin(0), flat.amax(0)))


class Explainer:
    """Explainer(model)(X) is the Explanation of a model on a table; it keeps what it was given.

    model: a Network, or anything `read` takes (a torch module, a scikit-learn estimator or
    Pipeline, a .onnx or .pt2 file, a list of (W, b)).
    data: a background table, whose mean is the reference and whose deviations are the scale;
    without it both are those of the table explained.
    output: index or name of the output(s) to explain, all by default; reference: what
    contributions are measured from: "mean", "median", "zero", "row 17", a mask of rows (their
    mean), or a row of numbers (by name: a table of one row, a Series, a dict); groups: inputs that
    belong together, {"person": ["age", "sex"]}, besides the categories a Pipeline one-hot encoded;
    feature_names: for inputs that have none; example: see `read`.
    """

    def __init__(
        self,
        model: Model,
        data: Any = None,
        *,
        output: Sequence[int | str] | int | str | None = None,
        reference: Any = None,
        groups: Mapping[str, Sequence[int | str]] | None = None,
        feature_names: Sequence[str] | None = None,
        example: Any = None,
        margin: bool = True,
        batch_size: int | None = None,
        on_bad_rows: OnBadRows = "raise",
    ) -> None:
        self.network = read(model, example, feature_names=feature_names)
        self.background = None if data is None else inputs_of(self.network, data, on_bad_rows)
        self.output, self.reference, self.groups = output, reference, groups
        self.margin, self.on_bad_rows = margin, on_bad_rows
        self.batch_size = _positive(batch_size, "batch_size")
        pick_outputs(self.network, output)  # refused now, and not after a table was read

    def __call__(
        self,
        X: Any,
        *,
        target: str | Sequence[Any] | None = None,
        progress: Progress | None = None,
    ) -> Explanation:
        """The Explanation of X, a table or an array: see `explain`."""
        table, truth, name = split_target(X, target)
        matrix = inputs_of(self.network, table, self.on_bad_rows)
        groups_of(self.network, names_of(self.network, matrix), self.groups)
        behind = self.background or matrix
        base, base_name = reference_of(self.network, behind, self.reference, name)
        return _explain(
            self.network,
            matrix,
            outputs=self.output,
            target=None if truth is None else truth[matrix.index],
            target_name=name,
            reference=base,
            reference_name=base_name,
            scale=None if self.background is None else deviation(behind.values),
            groups=self.groups,
            margin=self.margin,
            batch_size=self.batch_size,
            progress=progress,
        )

    def attribute(
        self,
        inputs: Any,
        target: Any = None,
        baselines: Any = None,
        return_convergence_delta: bool = False,
    ) -> Any:
        """Tensors in, tensors of the same shape out, as Captum's users call it: see `attribute`.

        W_target (x - baseline); baselines default to the explainer's own reference, else to 0.
        For exact integrated gradients see `integrated_gradients`.
        """
        if baselines is None and (self.reference is not None or self.background is not None):
            baselines = self._own_baseline()
        return attribute(self.network, inputs, target, baselines, return_convergence_delta)

    def _own_baseline(self) -> torch.Tensor:
        """(1, *input_shape) the reference, which needs a background where it is a mean, say."""
        if self.background is None:
            raise DataError(
                "attribute has no table to take the reference from: give the Explainer data=, or "
                "attribute baselines="
            )
        row, _ = reference_of(self.network, self.background, self.reference)
        return torch.from_numpy(row).reshape(1, *self.network.input_shape)

    def __repr__(self) -> str:
        return f"Explainer({self.network!r})"


def explain(
    model: Model,
    X: Any,
    *,
    target: str | Sequence[Any] | None = None,
    output: Sequence[int | str] | int | str | None = None,
    reference: Any = None,
    groups: Mapping[str, Sequence[int | str]] | None = None,
    margin: bool = True,
    batch_size: int | None = None,
    on_bad_rows: OnBadRows = "raise",
    progress: Progress | None = None,
) -> Explanation:
    """Exact rules for the data: clusters, an affine map each, importance, reach, certificate.

    model: a Network, or anything `read` takes (a torch module, a scikit-learn estimator or
    Pipeline, a .onnx or .pt2 file, a list of (W, b)). X: a table or an array.
    target: a column of X (left out of the inputs) or a sequence, to compare with;
    output: index or name of the output(s) to explain, all by default;
    reference: the input that contributions are measured from, the mean of the data by default;
    "median", "zero", "row 17", a mask of rows (their mean), or a row of numbers: a table of one
    row, a Series or a dict is matched by name, as X is;
    groups: inputs that belong together, {"person": ["age", "sex"]}; the categories that a Pipeline
    one-hot encoded are groups already.
    Raises DataError (BadRows, WrongColumns, ...) and NotPiecewiseAffine, each in one sentence.
    """
    explainer = Explainer(
        model,
        output=output,
        reference=reference,
        groups=groups,
        margin=margin,
        batch_size=batch_size,
        on_bad_rows=on_bad_rows,
    )
    return explainer(X, target=target, progress=progress)


def recourse(model: Model | Explanation, x: Any, **options: Any) -> Recourse:
    """The nearest change of x that flips the decision, or the proof that there is none.

    x: an input of the network, by order or by name, or a row as a Pipeline takes it. The answer is
    replayed on the model itself where it is one that can be asked.
    """
    from gatewise.explain.recourse.recourse import recourse as found

    network = _network(model)
    asks = isinstance(model, torch.nn.Module) or hasattr(model, "predict")
    if asks and not isinstance(model, Network):
        options.setdefault("model", model)
    return found(network, x, **options)


def trace(
    model: Model | Explanation, x: Any, direction: Any, start: float = 0.0, stop: float = 1.0
) -> Trace:
    """f along x + t direction, start <= t <= stop, with its true knots: one line a row of x.

    x: a table as the model takes it, or numbers as the network does, which an Explanation's data
    are. direction: one for all or one a row, of the network's inputs, in order or by name.
    """
    from gatewise.explain.integrated import directions_of, rows_of
    from gatewise.regions.lines import trace as along

    network = _network(model)
    matrix = rows_of(network, x)
    held = isinstance(model, Explanation)
    names = model.feature_names if held else names_of(network, matrix)
    way = directions_of(network, names, direction)
    return along(network, torch.from_numpy(matrix.values), torch.from_numpy(way), start, stop)


def integrated_gradients(
    model: Model | Explanation, X: Any = None, baseline: Any = None, **options: Any
) -> IntegratedGradients:
    """Integrated gradients of every row, exact: by the breakpoints of its line, not by steps.

    model: an Explanation (whose rows and reference are the defaults) or anything `read` takes.
    X: a table as the model takes it, or numbers as the network does; baseline: a row, one for each
    row of X, or "mean", "median", "zero", "row 17" or a mask of rows.
    """
    from gatewise.explain.integrated import integrated_gradients as found

    return found(_source(model), X, baseline, **options)


def profile(
    model: Model | Explanation, X: Any = None, feature: int | str = 0, **options: Any
) -> Profile:
    """f of every row as one feature moves, with its true knots, and the mean over the rows.

    model: an Explanation (whose rows are the default) or anything `read` takes.
    X: a table as the model takes it, or numbers as the network does.
    """
    from gatewise.explain.profile import profile as found

    return found(_source(model), X, feature, **options)


def evaluate(
    explanation: Explanation, *, retrained: Sequence[Model] = (), **options: Any
) -> Evaluation:
    """How accurate, how faithful, how relevant: each measure for the rules and for peers.

    retrained: models of the same kind trained from other seeds, or their Explanations;
    options: peers=, output=, rows=, radius=, cohorts=, seed= of
    `gatewise.explain.evaluation.evaluate.evaluate`.
    """
    from gatewise.explain.evaluation.evaluate import evaluate as measured

    others = [m if isinstance(m, Explanation) else as_network(m) for m in retrained]
    return measured(explanation, retrained=others, **options)


def report(
    explanation: Explanation,
    path: str | Path,
    *,
    top: int = 10,
    title: str | None = None,
    **results: Any,
) -> Path:
    """Write an Explanation as one self-contained HTML file, whole or not at all.

    results: what else the page shows where it is given: cohorts=, evaluation=, reasons=, recourse=
    of this explanation.
    """
    from gatewise.show.report import report as write

    top = _positive(top, "top") or 10
    return write(explanation, path, top=top, title=title, **results)


def save(explanation: Explanation, folder: str | Path, *, top: int = 10, **files: Any) -> Path:
    """Write rules.parquet, rows.parquet, maps.safetensors, meta.json and report.html.

    files: model=, data=: what it came from; cohorts=, evaluation=, ...: as `report` takes them.
    """
    from gatewise.show.save import save as write

    require_explanation(explanation, "save")
    return write(explanation, folder, top=_positive(top, "top") or 10, **files)


def as_network(model: Model) -> Network:
    """The model itself when it is a Network, else what `read` makes of it."""
    return model if isinstance(model, Network) else read(model)


def _inputs(model: Model, X: Any) -> tuple[Network, torch.Tensor]:
    network = as_network(model)
    x = network.rows(inputs_of(network, X).values)
    require_finite(np.arange(len(x)), x.cpu())  # 1e300 does not fit a float32 network
    return network, x


def _network(model: Model | Explanation) -> Network:
    return model.network if isinstance(model, Explanation) else as_network(model)


def _source(model: Model | Explanation) -> Explanation | Network:
    return model if isinstance(model, Explanation) else as_network(model)


def _positive(value: int | None, name: str) -> int | None:
    if value is None:
        return None
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1 or isinstance(value, bool):
        raise DataError(f"{name} must be a whole number, at least 1, got {value!r}")
    return number


__all__ = [
    "Explainer",
    "affine",
    "census",
    "cohorts",
    "evaluate",
    "explain",
    "integrated_gradients",
    "pattern",
    "profile",
    "read",
    "reason_codes",
    "recourse",
    "region",
    "report",
    "save",
    "trace",
]
