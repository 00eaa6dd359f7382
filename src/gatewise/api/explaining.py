"""A model explained on a table, and what follows from an explanation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import torch

from gatewise.api.source import Model, network_of, source_of
from gatewise.explain.explainer import TOP, Engine, NetworkExplainer, Progress
from gatewise.explain.explanation import Explanation
from gatewise.explain.inputs import OnBadRows
from gatewise.ir.network import Network
from gatewise.read import read

if TYPE_CHECKING:
    from gatewise.explain.cohorts.cohorts import Cohorts
    from gatewise.explain.integrated import IntegratedGradients
    from gatewise.explain.profile import Profile
    from gatewise.explain.recourse.recourse import Recourse
    from gatewise.explain.streaming.explaining import StreamedExplanation
    from gatewise.patterns.streaming.parts import OnBadFiles


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


@overload
def explain(
    model: Model,
    X: str | Path,
    *,
    target: str | None = None,
    output: Sequence[int | str] | int | str | None = None,
    reference: Any = None,
    groups: Mapping[str, Sequence[int | str]] | None = None,
    margin: bool = True,
    batch_size: int | None = None,
    on_bad_rows: OnBadRows = "raise",
    progress: Progress | None = None,
    out: str | Path | None = None,
    on_bad_files: OnBadFiles = "raise",
    cohorts: Cohorts | None = None,
    top: int = TOP,
    engine: Engine | None = None,
    address: str | None = None,
) -> StreamedExplanation: ...


@overload
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
) -> Explanation: ...


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
    out: str | Path | None = None,
    on_bad_files: OnBadFiles = "raise",
    cohorts: Cohorts | None = None,
    top: int = TOP,
    engine: Engine | None = None,
    address: str | None = None,
) -> Explanation | StreamedExplanation:
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
    X may be the path of a file or folder of Parquet, Arrow or CSV, or a pyarrow dataset: its rows
    are streamed into the folder `out`, in memory that does not grow with them, and what comes back
    is a StreamedExplanation. Only there: on_bad_files ("raise" or "skip"); sums are kept of the
    `top` largest clusters, or of `cohorts` (those of a sample). engine: "ray" shares the work out,
    on the cluster at `address` ("host:port", "auto") or, without one, at RAY_ADDRESS or on this
    machine; `out` must then be a folder that all machines see.
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
    told: dict[str, Any] = {"target": target, "progress": progress}
    how: dict[str, Any] = {"out": out, "on_bad_files": on_bad_files, "cohorts": cohorts, "top": top}
    how |= {"engine": engine, "address": address}
    found: Explanation | StreamedExplanation = explainer(X, **how, **told)
    return found


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
    return found(network_of(model), x, model=replayed, **goal, **free, **how)


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

    return found(source_of(model), X, baseline, output, baseline_name=baseline_name)


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

    source = source_of(model)
    return found(source, X, feature, low, high, output=output, max_knots=max_knots)
