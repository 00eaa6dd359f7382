"""Folded: contributions with one column a group, for readers who think of `sex`, not of `sex=m`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gatewise.explain.compute import Floats, Ids
from gatewise.explain.groups import Group, columns_of
from gatewise.explain.slices import Block, SlicedExplanation, take
from gatewise.tables import counted

if TYPE_CHECKING:
    from gatewise.explain.explanation import Explanation


@dataclass(frozen=True, eq=False)
class Folded:
    """An Explanation seen one column a group: values of a group = sum over its members' values.

    Exact: base_values + values.sum over columns is still f(x). data holds the position of the
    level among the group's (the number of levels for the dropped one, -1 where no single level can
    be named); display_data its name. There are no slopes: a category has none.
    """

    explanation: Explanation

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups, in order of their first member."""
        return self.explanation.groups

    @property
    def members(self) -> tuple[tuple[int, ...], ...]:
        """(columns,) the inputs behind each column; one, where it is no group."""
        return columns_of(self.groups, self.explanation.feature_names)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """(columns,) the group's name, or the input's own."""
        named = {g.members: g.name for g in self.groups}
        own = self.explanation.feature_names
        return tuple(named.get(m) or own[m[0]] for m in self.members)

    @property
    def output_names(self) -> tuple[str, ...]:
        """As in the Explanation."""
        return self.explanation.output_names

    @property
    def reference_name(self) -> str:
        """As in the Explanation."""
        return self.explanation.reference_name

    @property
    def output(self) -> Floats:
        """(rows, outputs) f(x)."""
        return self.explanation.output

    @property
    def values(self) -> Floats:
        """(rows, columns, outputs) summed contributions."""
        return self.contributions(slice(None))

    @property
    def base_values(self) -> Floats:
        """(rows, outputs), as in the Explanation."""
        return self.explanation.base_values

    @property
    def data(self) -> Floats:
        """(rows, columns) numbers, and positions of levels."""
        return self.levels(self.explanation.data)

    @property
    def display_data(self) -> NDArray[np.object_]:
        """(rows, columns) numbers, and names of levels."""
        return self.said(self.explanation.data)

    def contributions(self, rows: slice | Ids) -> Floats:
        """`values` of some rows only."""
        return self.fold(self.explanation.contributions(rows))

    def fold(self, values: Floats) -> Floats:
        """(rows, features, ...) summed over the members of each column."""
        starts = np.cumsum([0, *(len(m) for m in self.members)])[:-1]
        order = [j for m in self.members for j in m]
        return np.asarray(np.add.reduceat(values[:, order], starts, axis=1))

    def levels(self, data: Floats) -> Floats:
        """(rows, columns) for rows of inputs: see `data`."""
        named = {g.members: g for g in self.groups}
        columns = [named[m].level(data) if m in named else data[:, m[0]] for m in self.members]
        return np.stack(columns, 1).astype(np.float64)

    def said(self, data: Floats) -> NDArray[np.object_]:
        """(rows, columns) for rows of inputs: see `display_data`."""
        named = {g.members: g for g in self.groups}
        shown = np.empty((len(data), len(self.members)), object)
        for k, m in enumerate(self.members):
            shown[:, k] = named[m].said(data) if m in named else data[:, m[0]]
        return shown

    def block(self, rows: Ids, features: Ids, outputs: Ids) -> Block:
        """The arrays of some rows, columns and outputs."""
        exp = self.explanation
        whole = exp.block(rows, np.arange(len(exp.feature_names)), outputs)
        return Block(
            rows,
            self.fold(whole.values)[:, features],
            whole.base_values,
            self.levels(whole.data)[:, features],
            self.said(whole.data)[:, features],
            tuple(self.feature_names[j] for j in features),
            whole.output_names,
            whole.output,
            None,
            None,
            whole.error,
            whole.margin,
            whole.reference_name,
            whole.margin_unit,
        )

    def __len__(self) -> int:
        return len(self.explanation)

    def __getitem__(self, item: Any) -> SlicedExplanation:
        return take(self, item)

    def __iter__(self) -> Iterator[SlicedExplanation]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        lines = [
            f"Folded: {counted(len(self), 'row')}, {counted(len(self.members), 'column')} "
            f"({counted(len(self.groups), 'group')}), {counted(len(self.output_names), 'output')}",
            *(f"  {_described(g)}" for g in self.groups),
        ]
        return "\n".join(lines)


def _described(group: Group) -> str:
    """'sex: male; dropped: female'."""
    inside = ", ".join(group.levels) or counted(len(group.members), "input")
    return f"{group.name}: {inside}" + (f"; dropped: {group.dropped}" if group.dropped else "")
