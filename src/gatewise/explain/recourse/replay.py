"""Every answer tried on the network, and on the model it was read from, with the gap.

Solvers answer within a tolerance, so a point may miss the goal by 1e-9: it is solved again in its
own region for a goal a little harder, until the network itself, in float64, meets the goal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gatewise.errors import DataError
from gatewise.explain.recourse.bounds import Domain
from gatewise.explain.recourse.local import Piece, Pieces
from gatewise.explain.recourse.milp import Goal, nearest
from gatewise.ir.network import Network

Floats = NDArray[np.float64]
RAISES = (0.0, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4)  # of the size of the outputs


def repaired(
    x: Floats, domain: Domain, goal: Goal, f: Callable[[Floats], Floats], piece: Pieces
) -> Floats | None:
    """A point as cheap as x (to within the solver's tolerance) at which f itself meets the goal."""
    if goal.short(f(x)) <= 0:
        return x
    here = piece(x)
    size = 1 + float(np.abs(f(x)).max()) + float(np.abs(goal.offset).max())
    for by in RAISES:
        harder = goal.raised(by * size)
        for rows in (_walled(here, harder), _goal_only(here, harder)):
            found = nearest(domain, rows).x
            if found is not None and goal.short(f(found)) <= 0:
                return found
    return None


def _goal_only(piece: Piece, goal: Goal) -> tuple[Floats, Floats]:
    return goal.matrix @ piece.weight, goal.matrix @ piece.offset + goal.offset


def _walled(piece: Piece, goal: Goal) -> tuple[Floats, Floats]:
    a, b = _goal_only(piece, goal)
    return np.concatenate([piece.a, a]), np.concatenate([piece.b, b])


@dataclass(frozen=True, eq=False)
class Replay:
    """The model's own answer (1, outputs) beside the network's with its head; None: not tried."""

    theirs: Floats | None
    ours: Floats
    why: str = ""

    @property
    def gap(self) -> float | None:
        """The largest difference between the two."""
        return None if self.theirs is None else float(np.abs(self.theirs - self.ours).max())


def replay(network: Network, model: Any, point: Floats, raw: Any = None) -> Replay:
    """The model on the point; raw: the table row that home came from, for a Pipeline."""
    ours = network.predict(point[None]).double().reshape(1, -1).cpu().numpy()
    row, why = model_row(network, model, point, raw)
    if row is None:
        return Replay(None, ours, why)
    theirs = np.asarray(_answer(model, row), np.float64).reshape(1, -1)
    if theirs.shape[1] == 2 * ours.shape[1] == 2:
        theirs = theirs[:, 1:]  # probabilities of both classes, and one score
    if theirs.shape != ours.shape:
        raise DataError(
            f"the model gives {theirs.shape[1]} numbers for a row and the network "
            f"{ours.shape[1]}: give as model= the one that the network was read from"
        )
    return Replay(theirs, ours)


def _answer(model: Any, row: Any) -> Any:
    """What the model says of one row, scores before labels."""
    if isinstance(model, torch.nn.Module):
        like = next(model.parameters(), torch.zeros(()))
        with torch.no_grad():
            return model(torch.as_tensor(row).to(like)).detach().cpu()
    for method in ("predict_proba", "predict"):
        if hasattr(model, method):
            return getattr(model, method)(row)
    if not callable(model):
        raise DataError(
            f"model is a {type(model).__name__}: give a torch module, a scikit-learn estimator, or "
            f"a function of rows"
        )
    return model(row)


def model_row(network: Network, model: Any, point: Floats, raw: Any) -> tuple[Any, str]:
    """The point as the model takes it, or None and why not."""
    if network.prepare is not None:
        return _raw_row(network, point, raw)
    names = getattr(model, "feature_names_in_", None)
    if names is not None:
        import narwhals.stable.v2 as nw

        columns = {str(name): [value] for name, value in zip(names, point, strict=True)}
        return nw.from_dict(columns, backend="pandas").to_native(), ""
    if hasattr(model, "predict"):
        return point[None], ""
    shape = network.input_shape  # a source's own leading 1 is kept in it
    return point.reshape(shape if len(shape) > 1 else (1, -1)), ""


def _raw_row(network: Network, point: Floats, raw: Any) -> tuple[Any, str]:
    """A raw table row whose preparation is the point, made from the raw row of home."""
    prepare: Any = network.prepare
    if raw is None:
        return None, "the Pipeline was not tried: give x as a raw table of one row"
    frame = raw.to_pandas() if hasattr(raw, "to_pandas") else raw.copy()
    before = prepare(raw)[0]
    names = list(prepare.names)
    inside = {n for g in prepare.groups.values() for n in g.names}
    for j in np.flatnonzero(before != point).tolist():
        if names[j] in frame.columns and names[j] not in inside:
            frame[names[j]] = [float(point[j])]
    for column, group in prepare.groups.items():
        places = [names.index(n) for n in group.names]
        if (before[places] != point[places]).any():
            on = [level for level, p in zip(group.levels, places, strict=True) if point[p] == 1]
            if on or group.dropped is not None:
                frame[column] = [_typed(on[0] if on else group.dropped, frame[column])]
    try:
        reached = np.allclose(prepare(frame)[0], point, rtol=1e-12, atol=0)
    except DataError:  # a level that stands for several (infrequent ones) is no value of its column
        reached = False
    if not reached:
        return None, "the Pipeline was not tried: its raw columns cannot be set to this point"
    return frame, ""


def _typed(level: Any, column: Any) -> Any:
    """The level as the column's own kind of value (categories are named by text)."""
    if getattr(column.dtype, "kind", "O") in "iuf":
        return type(column.iloc[0])(float(level))
    return level
