"""What an explanation of files was asked for: checked, and told apart from other jobs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gatewise.errors import DataError
from gatewise.explain.cohorts.cohorts import Cohorts
from gatewise.explain.compute import Floats, quiet
from gatewise.explain.groups import Group, groups_of
from gatewise.explain.inputs import OnBadRows, reference_of
from gatewise.explain.names import pick_outputs
from gatewise.explain.references import mask_of
from gatewise.ir.network import Network, fingerprint
from gatewise.numeric import whole_number
from gatewise.patterns.streaming.parts import OnBadFiles, Table
from gatewise.tables import Matrix, Origin

VERSION = 2
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Asked:
    """background: inputs whose mean and deviations stand for those of the rows, or None; cohorts:
    whose statistics are kept, else those of the `top` largest clusters."""

    output: Sequence[int | str] | int | str | None = None
    target: str = ""
    reference: Any = None
    background: Matrix | None = None
    groups: Mapping[str, Sequence[int | str]] | None = None
    margin: bool = True
    batch_size: int | None = None
    on_bad_rows: OnBadRows = "raise"
    on_bad_files: OnBadFiles = "raise"
    cohorts: Cohorts | None = None
    top: int = 1000
    progress: Progress = quiet


@dataclass(frozen=True, eq=False)
class Question:
    """A network in float64, without its preparation (`table` has it); what of it is explained.

    reference: the row and its name, None for the mean of the rows, which the first reading finds,
    or row `row` of them.
    """

    network: Network
    table: Table
    asked: Asked
    outputs: tuple[int, ...]
    output_names: tuple[str, ...]
    feature_names: tuple[str, ...]
    groups: tuple[Group, ...]
    reference: tuple[Floats, str] | None
    row: int | None

    @property
    def needs_first(self) -> bool:
        """Must all rows be read before the first of them can be explained?"""
        alone = self.asked.background is None and self.asked.margin
        return self.reference is None or alone or bool(self.asked.target)


def question(network: Network, table: Table, asked: Asked) -> Question:
    """Everything that can be refused before a row is read is refused here."""
    whole_number(asked.top, "top", 0)
    chosen, outputs = pick_outputs(network, asked.output)
    names = tuple(table.columns) or tuple(f"x{j}" for j in range(network.inputs))
    groups = groups_of(network, names, asked.groups)
    if asked.cohorts is not None:
        _require_own(asked.cohorts, network)
    row = _row(asked)
    reference = None if row is not None or _is_mean(asked) else _given(network, names, asked)
    return Question(
        network,
        table,
        asked,
        tuple(chosen),
        outputs,
        names,
        groups,
        reference,
        row,
    )


def _is_mean(asked: Asked) -> bool:
    named = isinstance(asked.reference, str) and asked.reference == "mean"
    return asked.background is None and (asked.reference is None or named)


def _row(asked: Asked) -> int | None:
    """The K of "row K", where it is one of the rows that are read."""
    if asked.background is not None or not isinstance(asked.reference, str):
        return None
    found = re.fullmatch(r"row ([0-9]{1,12})", asked.reference)
    return None if found is None else int(found[1])


def _given(network: Network, names: tuple[str, ...], asked: Asked) -> tuple[Floats, str]:
    given, behind = asked.reference, asked.background
    if behind is None:
        # what "median", "row -1" and a mask need is more than sums over rows
        masked = not isinstance(given, str) and mask_of(given, names) is not None
        if masked or (isinstance(given, str) and given != "zero"):
            what = "a mask of rows" if masked else repr(given)
            raise DataError(
                f"reference is {what}, which is not streamed: for files give 'mean', 'zero', "
                "'row 17' (say, counted from 0), a row of numbers, or a background table (data=)"
            )
        nothing = np.zeros((1, network.inputs))
        behind = Matrix(nothing, names, np.zeros(1, np.int64), origin=Origin("pyarrow"))
    return reference_of(network, behind, given, asked.target)


def _require_own(cohorts: Any, network: Network) -> None:
    if not isinstance(cohorts, Cohorts):
        raise DataError(
            f"cohorts are what gatewise.cohorts returns (of a sample of the rows), got a "
            f"{type(cohorts).__name__}"
        )
    mine, theirs = fingerprint(network), fingerprint(cohorts.explanation.network)
    if mine != theirs:
        raise DataError(
            f"the cohorts are of another network: its fingerprint is {theirs[:12]}, this one's "
            f"{mine[:12]}"
        )


def job_of(q: Question, part_rows: int) -> dict[str, Any]:
    """What an explanation is of: two that agree here give the same answer."""
    asked, table = q.asked, q.table
    return {
        "version": VERSION,
        "model": fingerprint(q.network),
        "columns": list(table.columns),
        "preparation": table.preparation,
        "files": table.files,
        "on_bad_rows": asked.on_bad_rows,
        "on_bad_files": asked.on_bad_files,
        "output": list(q.outputs),
        "target": asked.target,
        "reference": _reference_said(q),
        "background": _digest(None if asked.background is None else asked.background.values),
        "groups": [[g.name, *g.members] for g in q.groups],
        "margin": bool(asked.margin),
        "cohorts": _cohorts_said(asked.cohorts),
        "top": asked.top,
        "part rows": part_rows,
    }


def _reference_said(q: Question) -> Any:
    if q.row is not None:
        return f"row {q.row}"
    return "mean" if q.reference is None else q.reference[0].tolist()


def _cohorts_said(cohorts: Cohorts | None) -> str:
    if cohorts is None:
        return ""
    said = [cohorts.condition(k) for k in range(len(cohorts))]
    return _digest(cohorts.coefficients, cohorts.intercepts, np.array(said))


def _digest(*arrays: Any) -> str:
    held = [np.ascontiguousarray(a).tobytes() for a in arrays if a is not None]
    return hashlib.sha256(b"".join(held)).hexdigest() if held else ""
