"""importance(exp, by, kind): how much each feature weighs, signed, and how that varies by region.

One number for a feature hides that a network is many rules: every result here carries the 5 % and
95 % points, the median and the share of positive values among the rows it speaks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import DataError
from gatewise.explain.compute import Floats, Ids, exponents
from gatewise.explain.names import output_index
from gatewise.tables import counted

if TYPE_CHECKING:
    from gatewise.explain.explanation import Explanation
    from gatewise.explain.folded import Folded

By = Literal["row", "cluster", "cohort", "global"]
Kind = Literal["coefficient", "scaled", "within", "contribution", "odds", "scaled_odds"]
LOW, HIGH = 0.05, 0.95
ODDS = ("odds", "scaled_odds")


@dataclass(frozen=True, eq=False)
class Importance:
    """Signed importance of every feature in each part of the data, and its spread in that part.

    values (parts, features, outputs): the mean over the rows of the part (of odds ratios, the
    geometric mean); size: the mean absolute value (for odds, exp of the mean |log odds|). low,
    median, high: 5 %, 50 % and 95 % of the rows of the part are at or below; positive: the share
    of rows above 0 (for odds, above 1). parts: what each is called; rows: its size.
    """

    by: By
    kind: Kind
    parts: tuple[str, ...]
    rows: Ids
    feature_names: tuple[str, ...]
    output_names: tuple[str, ...]
    values: Floats
    size: Floats
    low: Floats
    median: Floats
    high: Floats
    positive: Floats
    reference_name: str

    def __len__(self) -> int:
        return len(self.parts)

    def order(self, part: int = 0, output: int | str = 0) -> Ids:
        """Features, the largest `size` first."""
        k = output_index(output, self.output_names)
        return np.argsort(-self.size[part, :, k], kind="stable")

    def table(self) -> dict[str, NDArray[Any]]:
        """A row a part, output and feature: columns that any table library takes."""
        p, f, o = self.values.shape
        places = (a.reshape(-1) for a in np.meshgrid(*map(np.arange, (p, o, f)), indexing="ij"))
        part, output, feature = places
        return {
            self.by: np.array(self.parts)[part],
            "rows": self.rows[part],
            "output": np.array(self.output_names)[output],
            "feature": np.array(self.feature_names)[feature],
            self.kind: self.values[part, feature, output],
            **{
                name: getattr(self, name)[part, feature, output]
                for name in ("size", "low", "median", "high", "positive")
            },
        }

    def __repr__(self) -> str:
        p, f, o = self.values.shape
        head = (
            f"Importance ({self.kind}, by {self.by}): {counted(p, 'part')}, "
            f"{counted(f, 'feature')}, {counted(o, 'output')}"
        )
        return "\n".join([head, *self._lines()])

    def _lines(self) -> list[str]:
        """The ten largest of the first part and output, each with its spread."""
        v, low, high, up = (a[0, :, 0] for a in (self.values, self.low, self.high, self.positive))
        sign = "> 1" if self.kind in ODDS else "> 0"
        return [
            f"  {self.feature_names[j]}: {v[j]:.3g} ({low[j]:.3g} to {high[j]:.3g}, "
            f"{sign} for {up[j]:.0%} of {counted(int(self.rows[0]), 'row')})"
            for j in self.order()[:10].tolist()
        ]


def importance(
    exp: Explanation | Folded,
    by: By = "global",
    kind: Kind = "scaled",
    *,
    ids: Any = None,
    reference: Any = None,
    features: Sequence[int] | None = None,
) -> Importance:
    """Importance of the features, over every row, cluster, cohort (`ids`), or all rows at once.

    kind, with W the coefficients of a row's own rule:
    "coefficient": W_j, per unit of the feature; "scaled": W_j sd_j, sd over all rows; "within":
    W_j times the sd inside the row's cluster (cohort, where by="cohort"); "contribution":
    W_j (x_j - reference_j), summed over the members for an `exp.folded()`; "odds": exp(W_j), the
    factor on the odds by one unit, for the logits of a sigmoid; "scaled_odds": exp(W_j sd_j).
    reference: another one for contributions ("mean", "median", "zero", a row, a mask of rows).
    Raises DataError where the words are unknown, ids are missing, or odds make no sense.
    """
    _require_words(by, kind, ids)
    exp = exp if reference is None else _against(exp, reference)
    part, parts = _parts(exp, by, ids)
    order = np.argsort(part, kind="stable")
    sizes = np.bincount(part, minlength=len(parts))
    chosen = range(len(exp.feature_names)) if features is None else features
    columns = _columns(exp, kind, part if by == "cohort" else None)
    found = [_summary(columns(j)[order], sizes) for j in chosen]
    stacked = (np.stack([f[k] for f in found], 1) for k in range(6))
    values, size, low, median, high, positive = (_linked(a, kind, k) for k, a in enumerate(stacked))
    names = tuple(exp.feature_names[j] for j in chosen)
    arrays = (values, size, low, median, high, positive)
    return Importance(by, kind, parts, sizes, names, exp.output_names, *arrays, exp.reference_name)


def _require_words(by: str, kind: str, ids: Any) -> None:
    for word, known, name in ((by, By, "by"), (kind, Kind, "kind")):
        if word not in get_args(known):
            raise DataError(f"{name} must be one of {', '.join(get_args(known))}; got {word!r}")
    if (by == "cohort") != (ids is not None):
        raise DataError(
            "by='cohort' and ids= go together: ids holds the cohort of every row, as "
            "`cohorts(exp).ids` does"
        )


def _against(exp: Any, reference: Any) -> Any:
    if _is_folded(exp):
        return type(exp)(exp.explanation.against(reference))
    return exp.against(reference)


def _parts(exp: Explanation | Folded, by: str, ids: Any) -> tuple[Ids, tuple[str, ...]]:
    """The part of every row, and what the parts are called."""
    rows = len(exp)
    if by == "global":
        return np.zeros(rows, np.int64), ("all rows",)
    if by == "row":
        return np.arange(rows), tuple(f"row {i}" for i in range(rows))
    if by == "cluster":
        own = _whole(exp)
        return own.ids, tuple(f"cluster {c}" for c in range(own.clusters))
    given = np.asarray(ids)
    if given.shape != (rows,):
        raise DataError(
            f"ids has shape {given.shape}: give one cohort for each of the {counted(rows, 'row')}"
        )
    labels, part = np.unique(given, return_inverse=True)
    return part.astype(np.int64), tuple(str(label) for label in labels)


def _columns(exp: Any, kind: str, cohort: Ids | None) -> Any:
    """j -> (rows, outputs): the signed importance of feature j for each row (of odds, the log)."""
    if kind == "contribution":
        whole = exp.contributions(slice(None))
        return lambda j: whole[:, j]
    if _is_folded(exp):
        raise DataError(
            f"kind={kind!r} needs a coefficient, and a folded category has none: use "
            "kind='contribution', or the Explanation itself"
        )
    if kind in ODDS:
        _require_logits(exp)
    if kind in ("coefficient", "odds"):
        return lambda j: exp.coefficients[exp.ids, :, j]
    if kind == "within":
        part = exp.ids if cohort is None else cohort
        return lambda j: exp.coefficients[exp.ids, :, j] * _spread(exp.data[:, j], part)
    return lambda j: exp.coefficients[exp.ids, :, j] * exp.scale[j]


def _require_logits(exp: Explanation) -> None:
    head = exp.network.head[0].layer if exp.network.head else "nothing"
    if head.lower() != "sigmoid":
        raise DataError(
            "an odds ratio needs the logit of a sigmoid, and behind these outputs is "
            f"{head.lower()}: for a softmax take the contrast of two classes, exp.contrast(a, b)"
        )


def _spread(column: Floats, part: Ids) -> Floats:
    """(rows, 1) the standard deviation of the column inside each row's part; 0 where it is one."""
    top = exponents(
        column
    )  # a power of two rounds nothing, and squares neither overflow nor vanish
    small, count = np.ldexp(column, -top), np.bincount(part)
    first = np.zeros(len(count))
    first[part[::-1]] = small[::-1]
    away = small - first[part]  # from a row of the part: exactly 0 where all are equal
    middle = np.bincount(part, away) / count
    square = np.bincount(part, (away - middle[part]) ** 2) / count
    return np.asarray(np.ldexp(np.sqrt(square), top)[part, None])


def _summary(column: Floats, sizes: Ids) -> tuple[Floats, ...]:
    """(parts, outputs) mean, mean size, three quantiles, share above 0; rows come part by part."""
    if len(sizes) == len(column):  # every part is one row: nothing to sum or to rank
        return (column, np.abs(column), column, column, column, (column > 0).astype(np.float64))
    found = [_statistics(np.ascontiguousarray(v), sizes) for v in column.T]
    return tuple(np.stack(each, 1) for each in zip(*found, strict=True))


def _statistics(v: Floats, sizes: Ids) -> tuple[Floats, ...]:
    """(parts,) each of them, for one output."""
    starts = np.cumsum([0, *sizes])[:-1]

    def average(a: Any) -> Floats:
        return np.asarray(np.add.reduceat(a, starts, dtype=np.float64) / sizes)

    ranked = v[np.lexsort((v, np.repeat(np.arange(len(sizes)), sizes)))]
    places = (starts + np.ceil(q * sizes).astype(np.int64) - 1 for q in (LOW, 0.5, HIGH))
    quantiles = (ranked[np.maximum(p, starts)] for p in places)
    return (average(v), average(np.abs(v)), *quantiles, average(v > 0))


def _linked(array: Floats, kind: str, place: int) -> Floats:
    """exp of log odds; the share of positive ones stays."""
    with np.errstate(over="ignore"):
        return np.exp(array) if kind in ODDS and place < 5 else array


def _is_folded(exp: Any) -> bool:
    return hasattr(exp, "explanation")


def _whole(exp: Any) -> Any:
    return exp.explanation if _is_folded(exp) else exp
