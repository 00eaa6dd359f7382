"""Exact integrated gradients: along a straight line a network of gates has finitely many slopes.

Sundararajan, Taly & Yan, "Axiomatic Attribution for Deep Networks" (1703.01365):
    value_j = (x_j - baseline_j) integral_0^1 df/dx_j (baseline + t (x - baseline)) dt.
The integrand is constant between the places where a unit changes its branch, so the integral is a
finite sum: there is no number of steps to choose, and values add up to f(x) - f(baseline).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gatewise.errors import DataError, EmptyData, WrongShape
from gatewise.explain.compute import mean
from gatewise.explain.explanation import Explanation
from gatewise.explain.inputs import inputs_of, reference_of
from gatewise.explain.names import feature_names, output_index, pick_outputs
from gatewise.explain.references import mask_of
from gatewise.ir.network import Network
from gatewise.regions.lines import mean_slopes
from gatewise.tables import Matrix, as_matrix, as_row, counted, is_table, open_table

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class IntegratedGradients:
    """values (rows, features, outputs): each feature's part of f(x) - f(baseline), in input units.

    base_values and output (rows, outputs): f at the baseline and at the row. slopes (rows,
    features, outputs): the mean gradient on the way. Names as in an Explanation.
    """

    values: Floats
    base_values: Floats
    output: Floats
    slopes: Floats
    data: Floats
    baseline: Floats
    feature_names: tuple[str, ...]
    output_names: tuple[str, ...]
    baseline_name: str = "the given baseline"

    def __len__(self) -> int:
        return len(self.values)

    @property
    def completeness(self) -> Floats:
        """(rows, outputs) |sum of values - (f(x) - f(baseline))|, as measured."""
        return np.asarray(np.abs(self.values.sum(1) - (self.output - self.base_values)))

    @property
    def max_error(self) -> float:
        """The largest completeness error over rows and outputs."""
        return float(self.completeness.max(initial=0))

    def __repr__(self) -> str:
        return (
            f"IntegratedGradients: {counted(len(self), 'row')}, "
            f"{counted(len(self.feature_names), 'feature')}, "
            f"{counted(len(self.output_names), 'output')}, from {self.baseline_name}\n"
            f"  largest |sum of values - (f(x) - f(baseline))| {self.max_error:.2g}"
        )


def integrated_gradients(
    source: Explanation | Network,
    x: Any = None,
    baseline: Any = None,
    output: Sequence[int | str] | int | str | None = None,
    *,
    baseline_name: str = "",
) -> IntegratedGradients:
    """Integrated gradients of every row of x, by the breakpoints of its line; in float64.

    source: a Network, or an Explanation, whose rows, reference and outputs are then the defaults.
    x: a table as the model takes it, or numbers (rows, inputs) as the network does; baseline: one
    row, one for each row of x, or a reference by name as `explain` takes it ("mean", "median",
    "zero", "row 17", a mask of rows), among the Explanation's rows, or of a Network among those of
    x; the mean of x by default; output: as in `explain`.
    Raises NotPiecewiseAffine, naming the node, where a gate jumps or a node is curved.
    """
    network, matrix, chosen, names = asked(source, x, output)
    network = network.to(torch.float64)
    base, said = _baseline(source, network, matrix, baseline)
    step = torch.from_numpy(matrix.values - base)
    before, after = (network(v)[:, chosen].cpu().numpy() for v in (base, matrix.values))
    slopes = mean_slopes(network, torch.from_numpy(base), step, chosen).mT
    return IntegratedGradients(
        (slopes * step[:, :, None]).cpu().numpy(),
        np.broadcast_to(before, after.shape),
        after,
        slopes.cpu().numpy(),
        matrix.values,
        base,
        feature_names(network, matrix),
        names,
        baseline_name or said,
    )


def from_baselines(
    source: Explanation | Network,
    x: Any,
    baselines: Mapping[str, Any],
    output: Sequence[int | str] | int | str | None = None,
) -> dict[str, IntegratedGradients]:
    """Integrated gradients from each of several named baselines."""
    if not baselines:
        raise DataError("baselines is empty: name at least one, as in {'the median': row}")
    return {
        name: integrated_gradients(source, x, row, output, baseline_name=name)
        for name, row in baselines.items()
    }


def asked(
    source: Explanation | Network, X: Any, output: Sequence[int | str] | int | str | None
) -> tuple[Network, Matrix, list[int], tuple[str, ...]]:
    """The network, the rows, and positions and names of the outputs that a question is about.

    The network is on the CPU: lines are walked and summed there.
    """
    if isinstance(source, Network):
        if X is None:
            raise EmptyData("a network has no rows of its own: give them as X")
        return source.to(device="cpu"), rows_of(source, X), *pick_outputs(source, output)
    network = source.network.to(device="cpu")
    matrix = source.matrix if X is None else rows_of(source.network, X)
    if output is None:
        return network, matrix, list(source.outputs), source.output_names
    several = list(output) if isinstance(output, list | tuple) else [output]
    held = [output_index(o, source.output_names) for o in several]
    chosen, names = source.outputs, source.output_names
    return network, matrix, [chosen[k] for k in held], tuple(names[k] for k in held)


def rows_of(network: Network, X: Any) -> Matrix:
    """A table through the model's own preparation; numbers as the network takes them.

    A row by name (a dict, a Series) holds the network's inputs, as numbers do.
    """
    if isinstance(X, Matrix):
        return X
    if is_table(X):
        return inputs_of(network, X)
    if isinstance(X, Mapping) or hasattr(X, "iloc"):
        names = network.feature_names or tuple(f"x{j}" for j in range(network.inputs))
        X = as_row(X, names, "the row")
    return as_matrix(X if _rank(X) != 1 else [X], network.feature_names, network.inputs)


def directions_of(network: Network, names: tuple[str, ...], given: Any) -> Floats:
    """(1 or rows, inputs) ways to go, in the network's inputs: in order, or by name."""
    given = given.detach().cpu() if isinstance(given, torch.Tensor) else given
    frame = open_table(given)
    if frame is not None and len(frame) != 1:
        return as_matrix(frame.to_native(), names, network.inputs).values
    named = frame is not None or isinstance(given, Mapping | str) or hasattr(given, "iloc")
    image = tuple(getattr(given, "shape", ())) == network.input_shape
    if named or image or not hasattr(given, "__len__") or _rank(given) < 2:
        return as_row(given, names, "direction")[None]
    return as_matrix(given, names, network.inputs).values


def _rank(X: Any) -> int:
    """How many axes the numbers have; a list of numbers has one."""
    if hasattr(X, "ndim"):
        return int(X.ndim)
    if not isinstance(X, list | tuple):
        return 2  # as_matrix says what it is
    return 1 if len(X) and not hasattr(X[0], "__len__") else 2


def _baseline(
    source: Explanation | Network, network: Network, matrix: Matrix, given: Any
) -> tuple[Floats, str]:
    """(1 or rows, inputs) and what to call it."""
    if given is None and not isinstance(source, Network):
        return source.reference[None], source.reference_name
    if given is None:
        return mean(matrix.values)[None], "the mean of the data"
    behind = matrix if isinstance(source, Network) else source.matrix
    mask = mask_of(given, feature_names(network, matrix))
    row = isinstance(given, str | Mapping) or (hasattr(given, "iloc") and not is_table(given))
    if row or mask is not None:
        base, said = reference_of(network, behind, given if mask is None else mask)
        return base[None], said
    base = rows_of(network, given).values
    if len(base) not in (1, len(matrix.values)):
        raise WrongShape(
            f"baseline has {counted(len(base), 'row')} for {counted(len(matrix.values), 'row')} "
            "of data: give one, or one for each"
        )
    return base, "the given baseline"
