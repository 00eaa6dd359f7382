"""What cohorts() was asked for, or a sentence that says why not."""

from __future__ import annotations

from typing import Any

import numpy as np

from gatewise.errors import DataError
from gatewise.explain.explanation import require_explanation
from gatewise.numeric import whole_number
from gatewise.tables import listed

MEASURES = ("mean", "p99", "max", "decisions")
FEWEST_ROWS, MOST_INPUTS = 20, 200


def require(e: Any, max_error: Any, measure: Any, holdout: Any) -> None:
    """Raises DataError for what cannot be asked, whatever the output."""
    require_explanation(e, "cohorts")
    if len(e) < FEWEST_ROWS:
        raise DataError(
            f"cohorts need at least {FEWEST_ROWS} rows, some to fit and some to hold out; got "
            f"{len(e)}: explain more rows"
        )
    if len(e.feature_names) > MOST_INPUTS:
        raise DataError(
            f"cohorts are for tables of at most {MOST_INPUTS} inputs, and this network takes "
            f"{len(e.feature_names)}: rules of so many terms are not read"
        )
    if measure not in MEASURES:
        raise DataError(f"measure must be one of {listed(MEASURES)}; got {measure!r}")
    if not _is_number(holdout) or not 0 < holdout < 0.9:
        raise DataError(
            f"holdout is the share of rows kept for measuring, between 0 and 0.9; got {holdout!r}"
        )
    if max_error is not None and not (_is_number(max_error) and 0 <= max_error < np.inf):
        raise DataError(f"max_error must be a finite number, at least 0; got {max_error!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def generator(seed: Any) -> np.random.Generator:
    """The random numbers of a seed."""
    return np.random.default_rng(whole_number(seed, "seed", 0))
