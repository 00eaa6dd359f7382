"""The façade: models and tables in, Networks and results out. Everything else is a room below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from gatewise.explain.cohorts.cohorts import cohorts
from gatewise.explain.compute import require_finite
from gatewise.explain.explainer import NetworkExplainer, Progress
from gatewise.explain.explanation import Explanation, require_explanation
from gatewise.explain.inputs import OnBadRows, inputs_of
from gatewise.explain.names import feature_names as names_of
from gatewise.explain.reasons import reason_codes
from gatewise.ir.network import Network, require_piecewise_affine
from gatewise.ir.pattern import Pattern
from gatewise.linear.affine_map import AffineMap
from gatewise.numeric import whole_number
from gatewise.patterns import observe, streaming
from gatewise.patterns.census import census as _census
from gatewise.read import read
from gatewise.regions.halfspaces import Region
from gatewise.regions.halfspaces import region as _region

if TYPE_CHECKING:
    from gatewise.auditing.audit import Audit
    from gatewise.explain.cohorts.cohorts import Cohorts
    from gatewise.explain.evaluation.evaluate import Evaluation, Peer
    from gatewise.explain.integrated import IntegratedGradients
    from gatewise.explain.profile import Profile
    from gatewise.explain.reasons import Reasons
    from gatewise.explain.recourse.recourse import Recourse
    from gatewise.regions.lines import Trace

Model = Any


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


def census(model: Model, X: Any, *, batch_size: int | None = None, **files: Any) -> Any:
    """The distinct patterns of X: a Census of cluster ids, counts, first rows, doubts, maps.

    X a path or a pyarrow dataset: a StreamedCensus. files: out, on_bad_rows, on_bad_files, progress
    """
    if files or streaming.is_stored(X):
        return streaming.streamed(as_network(model), X, batch_size=batch_size, **files)
    network, x = _inputs(model, X)
    found = _census(network, x, batch_size=batch_size)
    require_finite(np.arange(len(x)), found.output.cpu())
    return found


def region(model: Model, X: Any) -> Region:
    """The polyhedron around every row of X on which its affine map holds: rows a.x + b >= 0."""
    network, x = _inputs(model, X)
    require_piecewise_affine(network, "a region")
    flat = x.reshape(len(x), -1)
    return _region(network, x, (flat.amin(0), flat.amax(0)))


class Explainer(NetworkExplainer):
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
        super().__init__(
            read(model, example, feature_names=feature_names),
            data,
            output=output,
            reference=reference,
            groups=groups,
            margin=margin,
            batch_size=batch_size,
            on_bad_rows=on_bad_rows,
        )


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


def recourse(
    model: Model | Explanation,
    x: Any,
    *,
    target: Any = None,
    output: int | str | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    threshold: float | None = None,
    margin: float = 1e-6,
    immutable: Any = (),
    bounds: Any = None,
    integers: Any = (),
    categories: Mapping[str, Sequence[int | str]] | None = None,
    monotone: Mapping[Any, str] | None = None,
    norm: str = "l1",
    scale: Any = None,
    method: str = "exact",
    time_limit: float = 60.0,
) -> Recourse:
    """The nearest change of x that flips the decision, or the proof that there is none.

    x: an input of the network, by order or by name, or a row as a Pipeline takes it. The answer is
    replayed on the model itself where it is one that can be asked. What shall be reached (target,
    output, at_least, at_most, threshold, margin), what may change (immutable, bounds, integers,
    categories, monotone) and how far is counted (norm, scale): see
    `gatewise.explain.recourse.recourse.recourse`.
    method: "exact" (proven), "region" (fast) or "milp"; time_limit: seconds, after which the best
    found and the bound come back.
    """
    from gatewise.explain.recourse.recourse import recourse as found

    asks = isinstance(model, torch.nn.Module) or hasattr(model, "predict")
    goal: dict[str, Any] = {"target": target, "output": output, "threshold": threshold}
    goal |= {"at_least": at_least, "at_most": at_most, "margin": margin}
    free: dict[str, Any] = {"immutable": immutable, "bounds": bounds, "integers": integers}
    free |= {"categories": categories, "monotone": monotone, "norm": norm, "scale": scale}
    how: dict[str, Any] = {"method": method, "time_limit": time_limit}
    replayed = model if asks and not isinstance(model, Network) else None
    return found(_network(model), x, model=replayed, **goal, **free, **how)


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
    model: Model | Explanation,
    X: Any = None,
    baseline: Any = None,
    output: Sequence[int | str] | int | str | None = None,
    *,
    baseline_name: str = "",
) -> IntegratedGradients:
    """Integrated gradients of every row, exact: by the breakpoints of its line, not by steps.

    model: an Explanation (whose rows and reference are the defaults) or anything `read` takes.
    X: a table as the model takes it, or numbers as the network does; baseline: a row, one for each
    row of X, or "mean", "median", "zero", "row 17" or a mask of rows; baseline_name: what to call
    it; output: as in `explain`.
    """
    from gatewise.explain.integrated import integrated_gradients as found

    return found(_source(model), X, baseline, output, baseline_name=baseline_name)


def profile(
    model: Model | Explanation,
    X: Any = None,
    feature: int | str = 0,
    low: float | None = None,
    high: float | None = None,
    *,
    output: int | str | None = None,
    max_knots: int | None = None,
) -> Profile:
    """f of every row as one feature moves, with its true knots, and the mean over the rows.

    model: an Explanation (whose rows are the default) or anything `read` takes.
    X: a table as the model takes it, or numbers as the network does; low, high: the least and the
    largest value in X by default; output: one of the outputs, else all; max_knots: of the mean.
    """
    from gatewise.explain.profile import profile as found

    source = _source(model)
    return found(source, X, feature, low, high, output=output, max_knots=max_knots)


def evaluate(
    explanation: Explanation,
    *,
    peers: Sequence[Peer | str] = (),
    output: int = 0,
    rows: int | Sequence[int] | NDArray[np.int64] = 200,
    radius: float = 0.1,
    retrained: Sequence[Model] = (),
    cohorts: Cohorts | None = None,
    seed: int = 0,
) -> Evaluation:
    """How accurate, how faithful, how relevant: each measure for the rules and for peers.

    peers: "lime", "kernel_shap", ... where installed, or methods of one's own; output: position
    among the explained outputs; rows: how many, or which; radius: of the small ball, in deviations
    of each feature; retrained: models of the same kind trained from other seeds, or their
    Explanations; cohorts: of this explanation. More in
    `gatewise.explain.evaluation.evaluate.evaluate`.
    """
    from gatewise.explain.evaluation.evaluate import evaluate as measured

    others = [m if isinstance(m, Explanation) else as_network(m) for m in retrained]
    asked: dict[str, Any] = {"peers": peers, "output": output, "rows": rows, "radius": radius}
    return measured(explanation, retrained=others, cohorts=cohorts, seed=seed, **asked)


def audit(
    model: Model | Explanation, X: Any = None, y: Any = None, *, test: Any = None, **settings: Any
) -> Audit:
    """Does the network beat the best linear model on rows it never saw, by how much, and where?

    model: anything `read` takes, with a table X and y (a column's name, or one value a row); or an
    Explanation with its target. test: a table of rows it was not trained on, or (X_test, y_test).
    settings: rules, holdout, level, repeats, seed, ...: see `gatewise.auditing.audit.audit`.
    """
    from gatewise.auditing.audit import audit as found
    from gatewise.auditing.audit import require_settings

    require_settings(settings)
    return found(_source(model), X, y, test=test, **settings)


def report(
    explanation: Explanation,
    path: str | Path,
    *,
    top: int = 10,
    title: str | None = None,
    cohorts: Cohorts | None = None,
    evaluation: Evaluation | None = None,
    reasons: Reasons | None = None,
    recourse: Recourse | Sequence[Recourse] | None = None,
) -> Path:
    """Write an Explanation as one self-contained HTML file, whole or not at all.

    cohorts, evaluation, reasons, recourse: of this explanation, shown where they are given.
    """
    from gatewise.show.report import report as write

    results = _given(cohorts=cohorts, evaluation=evaluation, reasons=reasons, recourse=recourse)
    return write(explanation, path, top=whole_number(top, "top"), title=title, **results)


def save(
    explanation: Explanation,
    folder: str | Path,
    *,
    top: int = 10,
    title: str | None = None,
    model: str | Path | None = None,
    data: str | Path | None = None,
    cohorts: Cohorts | None = None,
    evaluation: Evaluation | None = None,
    reasons: Reasons | None = None,
    recourse: Recourse | Sequence[Recourse] | None = None,
) -> Path:
    """Write rules.parquet, rows.parquet, maps.safetensors, meta.json and report.html.

    model, data: the files it came from, named in meta.json; the rest as `report` takes it.
    """
    from gatewise.show.save import save as write

    require_explanation(explanation, "save")
    files = _given(title=title, model=model, data=data, cohorts=cohorts)
    files |= _given(evaluation=evaluation, reasons=reasons, recourse=recourse)
    return write(explanation, folder, top=whole_number(top, "top"), **files)


def _given(**values: Any) -> dict[str, Any]:
    """Those that are not None."""
    return {name: value for name, value in values.items() if value is not None}


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


__all__ = [
    "Explainer",
    "affine",
    "audit",
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
