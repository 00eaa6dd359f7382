"""Explanations measured, audited, reported and saved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gatewise.api.source import Model, as_network, network_of, source_of
from gatewise.explain.explainer import Progress
from gatewise.explain.explanation import Explanation, require_explanation
from gatewise.explain.inputs import OnBadRows
from gatewise.numeric import whole_number
from gatewise.patterns.streaming import is_stored

if TYPE_CHECKING:
    from gatewise.auditing.audit import Audit
    from gatewise.explain.cohorts.cohorts import Cohorts
    from gatewise.explain.evaluation.evaluate import Evaluation, Peer
    from gatewise.explain.reasons import Reasons
    from gatewise.explain.recourse.recourse import Recourse
    from gatewise.patterns.streaming.parts import OnBadFiles


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
    model: Model | Explanation,
    X: Any = None,
    y: Any = None,
    *,
    test: Any = None,
    rules: Sequence[int] = (1, 2, 4, 8),
    holdout: float | None = None,
    level: float = 0.95,
    repeats: int = 2000,
    seed: int = 0,
    rows: int | None = None,
    on_bad_rows: OnBadRows = "raise",
    on_bad_files: OnBadFiles = "raise",
    progress: Progress | None = None,
) -> Audit:
    """Does the network beat the best linear model on rows it never saw, by how much, and where?

    model: anything `read` takes, with a table X and y (a column's name, or one value a row); or an
    Explanation with its target. test: a table of rows it was not trained on, or (X_test, y_test).
    The settings are those of `gatewise.auditing.audit.audit`.
    X, test: also paths of files or folders (Parquet, Arrow, CSV) or pyarrow datasets, which are
    streamed; y is then the name of a column, and rows how many are sampled for what is fitted on a
    sample (50,000): see `gatewise.auditing.streaming.audit`. on_bad_files: only there.
    """
    from gatewise.auditing.audit import audit as found

    if is_stored(X):
        from gatewise.auditing.streaming.audit import ask

        asked: dict[str, Any] = {"test": test, "rules": rules, "holdout": holdout, "level": level}
        asked |= {"repeats": repeats, "seed": seed, "rows": rows, "on_bad_rows": on_bad_rows}
        asked |= {"on_bad_files": on_bad_files, "progress": progress}
        return ask(network_of(model), X, y, **asked)
    how: dict[str, Any] = {"rules": rules, "holdout": holdout, "level": level, "rows": rows}
    how |= {"repeats": repeats, "seed": seed, "on_bad_rows": on_bad_rows, "progress": progress}
    return found(source_of(model), X, y, test=test, **how)


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
