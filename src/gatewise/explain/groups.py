"""Inputs that belong together: the 0/1 columns of one category, or columns the user names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import DataError
from gatewise.explain.names import whole
from gatewise.ir.network import Network
from gatewise.tables import counted, listed

Floats = NDArray[np.float64]
SHOWN = 4  # inputs of a group that is no category, in a text


@dataclass(frozen=True)
class Group:
    """Inputs that are one thing to a reader.

    members: their positions among the network's inputs, in order; levels: what a 1 in each says,
    none where they are not the columns of one category; dropped: the level that all zeros stand
    for, if the encoder left it out; inputs: the names of the members.
    """

    name: str
    members: tuple[int, ...]
    levels: tuple[str, ...]
    dropped: str | None = None
    inputs: tuple[str, ...] = ()

    def level(self, rows: Floats) -> NDArray[np.int64]:
        """(rows,) which level each row has: a position in `levels`, their number where none is 1.

        -1 where the members are not zeros with at most one 1: there is no level to name.
        """
        cells = rows[:, list(self.members)]
        plain = ((cells == 0) | (cells == 1)).all(1) & (cells.sum(1) <= 1) & bool(self.levels)
        found = np.where(cells.any(1), cells.argmax(1), len(self.levels))
        return np.where(plain, found, -1)

    def said(self, rows: Floats) -> NDArray[np.object_]:
        """(rows,) the level by name; "none" where the encoder saw none and dropped none.

        Where no level can be named, the inputs and their numbers: 'a=1, b=0'.
        """
        none = "none" if self.dropped is None else self.dropped
        level = self.level(rows)
        found = np.array([*self.levels, none, ""], object)[level]
        for i in np.flatnonzero(level < 0):
            found[i] = self._numbers(rows[i])
        return np.asarray(found)

    def _numbers(self, row: Floats) -> str:
        """The first SHOWN of the inputs."""
        if not self.inputs:
            return counted(len(self.members), "input")
        shown = list(zip(self.inputs, row[list(self.members)], strict=True))[:SHOWN]
        text = ", ".join(f"{name}={number:.4g}" for name, number in shown)
        left = len(self.members) - SHOWN
        return text if left <= 0 else f"{text}, {left} more"


def groups_of(
    network: Network, names: Sequence[str], given: Mapping[str, Sequence[int | str]] | None = None
) -> tuple[Group, ...]:
    """The groups of a network's inputs: its Pipeline's, and those given, in order of first member.

    A given group may name inputs, their positions, or whole columns that the Pipeline one-hot
    encoded; a Pipeline's group that lies within a given one is replaced by it. Every input is in
    one group at most. Raises DataError where a name is no input, or a group is empty.
    """
    own = _own(network, names)
    mine = [_given(name, members, names, own) for name, members in _items(given)]
    taken = {j for group in mine for j in group.members}
    kept = [g for g in own.values() if not taken.issuperset(g.members)]
    found = sorted([*kept, *mine], key=lambda g: g.members)
    _require_disjoint(found, names)
    _require_names(found, names)
    return tuple(found)


def settled(groups: Sequence[Group], rows: Floats) -> tuple[Group, ...]:
    """The groups, without levels where rows of inputs show that they are not one category's.

    A category's columns are 0 or 1, and at most one of them is 1 in every row. Two flags that the
    user puts in one group are not, nor is an age.
    """
    return tuple(
        g if not g.levels or (g.level(rows) >= 0).all() else replace(g, levels=(), dropped=None)
        for g in groups
    )


def _own(network: Network, names: Sequence[str]) -> dict[str, Group]:
    """The Pipeline's groups, by the raw column they encode."""
    place = {name: j for j, name in enumerate(getattr(network.prepare, "names", names))}
    groups = getattr(network.prepare, "groups", {})
    return {
        name: Group(
            name, tuple(place[n] for n in g.names), tuple(g.levels), g.dropped, tuple(g.names)
        )
        for name, g in groups.items()
    }


def _items(given: Any) -> list[tuple[str, Any]]:
    if given is None:
        return []
    if not isinstance(given, Mapping):
        raise DataError(
            f"groups is a {type(given).__name__}: give a dict, each name with a list of inputs, "
            "{'person': ['age', 'sex']}"
        )
    return [(str(name), members) for name, members in given.items()]


def _given(name: str, members: Any, names: Sequence[str], own: Mapping[str, Group]) -> Group:
    asked = [members] if isinstance(members, str | int) else list(members)
    if not asked:
        raise DataError(f"group '{name}' is empty: name at least one input, or leave the group out")
    found = [j for one in asked for j in _positions(name, one, names, own)]
    twice = next((names[j] for j in found if found.count(j) > 1), None)
    if twice is not None:
        raise DataError(f"group '{name}' names the input '{twice}' twice: name each input once")
    places = tuple(sorted(found))
    called = tuple(names[j] for j in places)
    whole_column = next((g for g in own.values() if g.members == places), None)
    if whole_column is not None:
        return Group(name, places, whole_column.levels, whole_column.dropped, called)
    mixed = any(not set(places).isdisjoint(g.members) for g in own.values())
    levels = () if mixed else tuple(_level(column, name) for column in called)
    return Group(name, places, levels, None, called)


def _level(column: str, group: str) -> str:
    """'male' of 'sex=male', or of 'sex_male' as pandas writes it."""
    return column.removeprefix(f"{group}=").removeprefix(f"{group}_")


def _positions(
    group: str, asked: Any, names: Sequence[str], own: Mapping[str, Group]
) -> tuple[int, ...]:
    """An input by name or position, or all those of a column that the Pipeline encoded."""
    if isinstance(asked, str) and asked in names:
        return (list(names).index(asked),)
    if isinstance(asked, str) and asked in own:
        return own[asked].members
    place = None if isinstance(asked, str) else whole(asked)
    if place is not None and -len(names) <= place < len(names):
        return (place % len(names),)
    encoded = f", or the encoded {listed(list(own))}" if own else ""
    raise DataError(
        f"group '{group}' names {asked!r}, which is no input: name some of {listed(names)}{encoded}"
    )


def _require_disjoint(groups: Sequence[Group], names: Sequence[str]) -> None:
    owner: dict[int, str] = {}
    for group in groups:
        for j in group.members:
            if j in owner:
                raise DataError(
                    f"input '{names[j]}' is in the groups '{owner[j]}' and '{group.name}': an "
                    "input belongs to one group at most, so take it out of one of them"
                )
            owner[j] = group.name


def _require_names(groups: Sequence[Group], names: Sequence[str]) -> None:
    """Once folded, every column has a name of its own."""
    inside = {j for g in groups for j in g.members}
    left = {name for j, name in enumerate(names) if j not in inside}
    for k, group in enumerate(groups):
        if group.name in left or group.name in {g.name for g in groups[:k]}:
            raise DataError(
                f"group '{group.name}' has the name of another input or group: call it otherwise"
            )


def columns_of(groups: Sequence[Group], names: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """The members of every column once folded: groups and the inputs in none, in order."""
    inside = {j for g in groups for j in g.members}
    alone = [(j,) for j in range(len(names)) if j not in inside]
    return tuple(sorted([*alone, *(g.members for g in groups)]))
