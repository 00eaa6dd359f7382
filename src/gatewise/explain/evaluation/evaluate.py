"""How good is an explanation? The measures of the literature, ours and other methods side by side.

Under the three words of Murdoch et al. 2019 (1901.04592, "PDR"): predictive accuracy (is the
network worth explaining), descriptive accuracy (does the explanation say what the network does),
relevancy (can it be taken in). Every number comes with its definition; some are worse for the
exact rule than for averaged methods, and say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import DataError, NotPiecewiseAffine
from gatewise.explain.evaluation import measures as m
from gatewise.explain.evaluation.methods import Attribution, Method, Peer, exact_path, exact_rule
from gatewise.explain.evaluation.target import accuracies
from gatewise.explain.explanation import Explanation, require_explanation
from gatewise.ir.network import Network, fingerprint
from gatewise.tables import counted, listed

if TYPE_CHECKING:
    from gatewise.explain.cohorts.cohorts import Cohorts

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
Word = Literal["predictive accuracy", "descriptive accuracy", "relevancy"]
WORDS: tuple[Word, ...] = ("predictive accuracy", "descriptive accuracy", "relevancy")


@dataclass(frozen=True)
class Measure:
    """One line of an Evaluation: values has a number (or None: not asked) for every method.

    better: "lower", "higher", or "" where neither is; definition: one sentence; source: whose.
    """

    name: str
    word: Word
    better: str
    definition: str
    source: str
    values: tuple[float | None, ...]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Measures (lines) of methods (columns), "exact rule" first.

    rows: how many rows were used; notes: sample sizes and what was left out, in sentences;
    fingerprint: of the network.
    `evaluation["additivity error"]` is {method: number or None}.
    """

    methods: tuple[str, ...]
    measures: tuple[Measure, ...]
    output: str
    rows: int
    seed: int
    notes: tuple[str, ...]
    fingerprint: str = ""

    def __getitem__(self, name: str) -> dict[str, float | None]:
        """{method: number} of one measure."""
        for measure in self.measures:
            if measure.name == name:
                return dict(zip(self.methods, measure.values, strict=True))
        raise KeyError(f"no measure {name!r}; there are {listed([x.name for x in self.measures])}")

    def __contains__(self, name: str) -> bool:
        return any(measure.name == name for measure in self.measures)

    def table(self) -> dict[str, list[Any]]:
        """Columns word, measure, better, one a method, definition, source: any frame takes them."""
        columns: dict[str, list[Any]] = {
            "word": [x.word for x in self.measures],
            "measure": [x.name for x in self.measures],
            "better": [x.better for x in self.measures],
        }
        for i, method in enumerate(self.methods):
            columns[method] = [x.values[i] for x in self.measures]
        columns["definition"] = [x.definition for x in self.measures]
        columns["source"] = [x.source for x in self.measures]
        return columns

    def __repr__(self) -> str:
        heading = f"Evaluation of output '{self.output}' on {counted(self.rows, 'row')}"
        lines = [("", "better", *self.methods)]
        for measure in self.measures:
            cells = ("-" if v is None else f"{v:.3g}" for v in measure.values)
            lines.append((measure.name, measure.better, *cells))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = [_line(cells, widths) for cells in lines]
        words = [measure.word for measure in self.measures]
        for word in reversed(WORDS):
            if word in words:
                text.insert(1 + words.index(word), f"  {word}")
        return "\n".join([heading, *text, *(f"  {note}" for note in self.notes)])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = (cell.ljust(w) for cell, w in zip(cells[:2], widths, strict=False))
    numbers = (cell.rjust(w) for cell, w in zip(cells[2:], widths[2:], strict=True))
    return "  ".join(["    " + first, *rest, *numbers]).rstrip()


@dataclass(frozen=True)
class Question:
    """A measure before it is taken."""

    name: str
    word: Word
    better: str
    source: str
    definition: str
    score: m.Score


YEH = "Yeh et al. 2019, 1901.09392"
DESCRIPTIVE: Word = "descriptive accuracy"
RELEVANCY: Word = "relevancy"
QUESTIONS = (
    Question("additivity error", DESCRIPTIVE, "lower", "Lundberg & Lee 2017, 1705.07874",
         "largest |base value + sum of values - output|, in the output's units", m.additivity),
    Question("region error, median", DESCRIPTIVE, "lower", "Chu et al. 2018, 1802.06259",
         "|output said by the slopes at the row - network| at verified points of the row's region, "
         "in deviations of the output", m.region_median),
    Question("region error, largest", DESCRIPTIVE, "lower", "Chu et al. 2018, 1802.06259",
         "the same, at the worst point", m.region_largest),
    Question("rule inconsistency", DESCRIPTIVE, "lower", "Chu et al. 2018, 1802.06259",
         "largest relative change of the slopes between two points of one region", m.consistency),
    Question("infidelity, noise", DESCRIPTIVE, "lower", YEH,
         "mean square of (change said by the slopes - change of the output) in a small ball, over "
         "the mean square change: 0 all is said, 1 nothing", m.infidelity_moved),
    Question("infidelity, removal", DESCRIPTIVE, "lower", YEH,
         "the same where a random half of the features goes to the reference, and the values of "
         "those say the change", m.infidelity_removed),
    Question("sensitivity, median", DESCRIPTIVE, "lower", YEH,
         "largest relative change of the values in a small ball around a row; the median row",
         m.sensitivity_median),
    Question("sensitivity, largest", DESCRIPTIVE, "lower", YEH,
         "the same, for the worst row", m.sensitivity_largest),
    Question("randomisation check", DESCRIPTIVE, "lower", "Adebayo et al. 2018, 1810.03292",
         "mean |rank correlation| of a row's values with those on the network with all weights "
         "drawn anew: an explanation that does not look at the weights has 1", m.randomisation),
    Question("stability between seeds", DESCRIPTIVE, "higher", "Alvarez-Melis & Jaakkola 2018, "
         "1806.08049 (robustness), between trainings",
         "mean rank correlation of a row's values with those on networks trained again",
         m.stability),
    Question("effective features", RELEVANCY, "lower", "Bhatt et al. 2020, 2005.00631",
         "exp(entropy): how many equal parts are as spread out as a row's values",
         m.effective_features),
    Question("entropy", RELEVANCY, "lower", "Bhatt et al. 2020, 2005.00631",
         "of a row's |values|, in nats: their complexity", m.entropy),
)  # fmt: skip


def evaluate(
    exp: Explanation,
    *,
    peers: Sequence[Peer | str] = (),
    output: int = 0,
    rows: int | Sequence[int] | Ids = 200,
    radius: float = 0.1,
    retrained: Sequence[Network | Explanation] = (),
    cohorts: Cohorts | None = None,
    seed: int = 0,
) -> Evaluation:
    """Take every measure of the exact rule, of exact integrated gradients, and of the peers.

    peers: other methods, or names in `peers.PEERS` ("lime", "kernel_shap", ...) of those
    whose package is installed; output: position among the explained outputs; rows: how many (drawn
    with `seed`), or which; radius: of the small ball, in deviations of each feature (half its
    width); retrained: Networks (or Explanations of them) of the same inputs, trained with other
    seeds; cohorts: few rules, counted under relevancy.
    Without peers, some seconds for 200 rows. Raises DataError where it cannot be asked.
    """
    _whole(exp, cohorts, output)
    methods, t, which = _prepared(exp, peers, output, rows, radius, retrained, seed)
    answers = [m.answer(t, method) for method in methods]
    measures = [*_predictive(exp, len(methods), seed)]
    for question in QUESTIONS:
        scores = [question.score(t, *pair) for pair in zip(methods, answers, strict=True)]
        measures.append(_measure(question, scores))
    measures += _counts(exp, cohorts, output, len(methods))
    return Evaluation(
        tuple(method.name for method in methods),
        tuple(x for x in measures if any(v is not None for v in x.values)),
        exp.output_names[output],
        len(which),
        seed,
        _notes(t, radius, len(exp)),
        fingerprint(exp.network),
    )


def _whole(exp: Any, cohorts: Cohorts | None, output: int) -> None:
    """Is it an Explanation, and are the cohorts and the output its own?"""
    require_explanation(exp, "evaluate", ", and rows= for some of its rows")
    _place(exp, output)
    if cohorts is not None and (cohorts.explanation is not exp or cohorts.output != output):
        raise DataError(
            f"the cohorts are of output '{cohorts.output_name}' of their own explanation, not of "
            f"this one's '{exp.output_names[output]}': ask for cohorts of this one"
        )


def _prepared(
    exp: Explanation,
    peers: Sequence[Peer | str],
    output: int,
    rows: int | Sequence[int] | Ids,
    radius: float,
    retrained: Sequence[Network | Explanation],
    seed: int,
) -> tuple[list[Method], m.Trial, Ids]:
    which = _rows(exp, rows, seed)
    position = exp.outputs[_place(exp, output)]
    if not (np.isfinite(radius) and radius > 0):
        raise DataError(f"radius must be a number of deviations above 0, got {radius!r}")
    asked = [*ours(exp.network, exp.reference, position), *_made(exp, peers, output)]
    methods = [Method(peer, exp.reference, exp.scale) for peer in asked]
    _distinct([method.name for method in methods])
    others = tuple(_same_inputs(exp.network, network) for network in retrained)
    box = (exp.data.min(0), exp.data.max(0))
    x = np.ascontiguousarray(exp.data[which])
    sizes = m.Sizes(radius=radius)
    t = m.trial(exp.network, position, x, exp.reference, exp.scale, box, others, sizes, seed)
    return methods, t, which


def ours(network: Network, reference: Floats, output: int) -> list[Peer]:
    """The methods that are exact here: the second where no gate of the network jumps."""
    rule = exact_rule(network, reference, output)
    try:
        return [rule, exact_path(network, reference, output)]
    except NotPiecewiseAffine:
        return [rule]


def _rows(exp: Explanation, rows: int | Sequence[int] | Ids, seed: int) -> Ids:
    if isinstance(rows, int | np.integer) and not isinstance(rows, bool):
        if rows < 1:
            raise DataError(f"rows must be at least 1, got {rows}")
        order = np.random.default_rng(seed).permutation(len(exp))
        return np.sort(order[:rows]).astype(np.int64)
    found = np.asarray(rows)
    good = found.ndim == 1 and len(found) and found.dtype.kind in "iu"
    if not good or found.min() < 0 or found.max() >= len(exp):
        raise DataError(
            f"rows must be a number of rows, or positions from 0 to {len(exp) - 1}; got {rows!r}"
        )
    return found.astype(np.int64)


def _place(exp: Explanation, output: int) -> int:
    if isinstance(output, bool) or not 0 <= output < len(exp.outputs):
        raise DataError(
            f"output= is a position among the {counted(len(exp.outputs), 'explained output')} "
            f"({listed(exp.output_names)}), counted from 0; got {output!r}"
        )
    return output


def _distinct(names: list[str]) -> None:
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise DataError(f"methods {listed(sorted(twice))} are given twice: give each its own name")


def _made(exp: Explanation, peers: Sequence[Peer | str], output: int) -> list[Peer]:
    """Peers, those given by name made."""
    given = [peers] if isinstance(peers, str | Peer) else list(peers)
    if not any(isinstance(peer, str) for peer in given):
        return [peer for peer in given if isinstance(peer, Peer)]
    from gatewise.explain.evaluation.peers import peers as by_name

    return [by_name(exp, [p], output)[0] if isinstance(p, str) else p for p in given]


def _same_inputs(network: Network, other: Network | Explanation) -> Network:
    other = other.network if isinstance(other, Explanation) else other
    if (other.inputs, other.outputs) != (network.inputs, network.outputs):
        raise DataError(
            f"a retrained network has {other.inputs} inputs and {other.outputs} outputs, not "
            f"{network.inputs} and {network.outputs}: train it on the same columns"
        )
    return other.to(network.dtype, network.device)


def _measure(q: Question, values: Sequence[float | None]) -> Measure:
    return Measure(q.name, q.word, q.better, q.definition, q.source, tuple(values))


def _predictive(exp: Explanation, methods: int, seed: int) -> list[Measure]:
    """The network's accuracy and a linear model's; they are no method's, so the first column."""
    if exp.target is None:
        return []
    outputs, net = exp.census.output.double().cpu().numpy(), exp.network
    found = accuracies(net, outputs, exp.target, exp.data, seed)
    word: Word = "predictive accuracy"
    blank = (None,) * (methods - 1)
    lines = []
    for a in found:
        on = f"on {counted(a.rows, 'row')} of the target, those it was trained on included"
        lines.append(
            Measure(f"{a.metric} of the network", word, "higher", on, "", (a.network, *blank))
        )
        model = "least squares" if a.metric == "R²" else "logistic regression"
        on = f"{model} on the same inputs, each fifth of the rows from the other four"
        lines.append(Measure(f"{a.metric} of a linear model", word, "", on, "", (a.linear, *blank)))
    return lines


def _counts(exp: Explanation, cohorts: Cohorts | None, output: int, methods: int) -> list[Measure]:
    """How many rules there are; cohorts only where given."""
    blank = (None,) * (methods - 1)
    source = "Murdoch et al. 2019, 1901.04592 (relevancy)"

    def line(name: str, value: float, definition: str) -> Measure:
        return Measure(name, RELEVANCY, "lower", definition, source, (value, *blank))

    found = [
        line("rules", float(exp.clusters), "distinct exact rules on all rows of the explanation")
    ]
    if cohorts is None:
        return found
    deviation = float(exp.output[:, output].std()) or 1.0
    return [
        *found,
        line("rules of the cohorts", float(len(cohorts)), "how many"),
        line(
            "conditions a prediction",
            float(cohorts.conditions_per_row.mean()),
            "mean number of conditions that pick the cohort of a row",
        ),
        line(
            "error of the cohorts",
            cohorts.overall.mean / deviation,
            "mean |cohort's rule - network| on rows that no rule was fitted on, in deviations",
        ),
    ]


def _notes(t: m.Trial, radius: float, total: int) -> tuple[str, ...]:
    kept, drawn = int(t.inside.kept.sum()), t.inside.kept.size
    return (
        f"{len(t.x)} of {counted(total, 'row')}; {kept} points verified inside their region, of "
        f"{drawn} drawn, {t.reach:.2g} deviations from their row (median)",
        f"{t.moved.x.shape[1]} moves and removals a row; {counted(t.again, 'row')} with "
        f"{t.near.shape[1]} neighbours each, and {counted(len(t.drawn), 'redrawn network')}",
        f"the ball reaches {radius:g} deviations of each feature to either side; a correlation "
        f"of {chance(t.x.shape[1]):.2f} in the randomisation check is chance",
    )


def chance(features: int) -> float:
    """E |rank correlation| of independent rows, about sqrt(2 / (pi (features - 1)))."""
    return float(np.sqrt(2 / (np.pi * (features - 1)))) if features > 2 else 1.0


__all__ = ["Attribution", "Evaluation", "Measure", "Peer", "chance", "evaluate", "ours"]
