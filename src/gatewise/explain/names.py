"""Outputs and features by name or by position, or a sentence that lists what there is."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from gatewise.errors import DataError
from gatewise.ir.network import Network
from gatewise.tables import Matrix, listed


def feature_names(network: Network, matrix: Matrix) -> tuple[str, ...]:
    """The network's names, else the table's, else x0, x1, ..."""
    names = network.feature_names or matrix.columns
    return tuple(names) or tuple(f"x{j}" for j in range(network.inputs))


def output_names(network: Network) -> tuple[str, ...]:
    """The network's names, else y0, y1, ..."""
    return tuple(network.output_names) or tuple(f"y{i}" for i in range(network.outputs))


def pick_outputs(
    network: Network, outputs: Sequence[int | str] | int | str | None
) -> tuple[list[int], tuple[str, ...]]:
    """Indices and names of the outputs to explain; all of them when None."""
    names = output_names(network)
    if outputs is None:
        return list(range(network.outputs)), names
    asked = list(outputs) if isinstance(outputs, list | tuple | np.ndarray) else [outputs]
    if not asked:
        raise DataError(
            f"output= is empty: name at least one of the network's {listed(names)}, "
            "or leave it out for all"
        )
    chosen = [output_index(o, names) for o in asked]
    if len(set(chosen)) < len(chosen):
        twice = next(names[i] for i in chosen if chosen.count(i) > 1)
        raise DataError(f"output= names '{twice}' more than once: name each output once")
    return chosen, tuple(names[i] for i in chosen)


def output_index(asked: Any, names: Sequence[str], where: str = "the network has") -> int:
    """A whole number is a position, one below 0 from the end; a text is a name, or else a position
    written out, counted from 0.

    where: says whose names they are, where they are not the network's.
    """
    if isinstance(asked, str) and asked in names:
        return list(names).index(asked)
    position = whole(asked)
    if position is not None and -len(names) <= position < len(names):
        return position % len(names)
    raise DataError(
        f"no output {asked!r}: {where} {len(names)} ({listed(names)}), and each is picked "
        f"by its name or its position, counted from 0"
    )


def whole(asked: Any) -> int | None:
    """A whole number, also one written out in digits; None for anything else."""
    if isinstance(asked, str):
        return int(asked) if re.fullmatch(r"[0-9]{1,9}", asked) else None
    if isinstance(asked, bool | np.bool_):
        return None
    try:
        return operator.index(asked)
    except TypeError:
        return None
