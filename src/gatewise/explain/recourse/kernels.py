"""Upper bounds of linear functions of the units, over a box cut by a cost ball (compiled).

On [l, u] with l < 0 < u: a z <= max(0, z) <= u (z - l) / (u - l), a = 0 or 1, so a row over
(x, r) is at most a row over x (`carry`). With |x_j - centre_j| worth weight_j each, c x is at most
c centre + the most gain that the budget buys: sum |c_j| room_j s_j over 0 <= s_j <= 1 with
sum weight_j room_j s_j <= budget, best rate first (`most`). Where g x + k >= 0 is known,
c x <= most(c + m g) + m k for every m >= 0 (`most_rows`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gatewise.numeric import compiled


class Ball(NamedTuple):
    """A domain in arrays: room above and below the centre, the cost of a step, what may be spent.

    budget: infinite where only the box counts. One-hot groups that switch as one: group k holds the
    inputs members[first[k] : first[k + 1]], which are at `now` (by input) and may be 1 where `can`.
    """

    centre: Any
    up: Any
    down: Any
    weight: Any
    budget: float
    members: Any
    first: Any
    none: Any
    now: Any
    can: Any


class Units(NamedTuple):
    """Units r = max(0, pre (x, r) + bias); unit i reads the first width[i] of (x, r)."""

    pre: Any
    bias: Any
    width: Any
    low: Any
    high: Any


@compiled
def lines(low: float, high: float) -> Any:
    """(slope, rise, lower): lower z <= max(0, z) <= slope z + rise on [low, high]."""
    if low >= 0:
        return 1.0, 0.0, 1.0
    if high <= 0:
        return 0.0, 0.0, 0.0
    lower = 1.0 if high > -low else 0.0
    if high - low < np.inf:
        slope = high / (high - low)
        return slope, -slope * low, lower
    return 0.0, high, lower


@compiled
def carry(row: Any, units: Units, met: Any) -> float:
    """Put lines in for the units of a row over (x, r), last first: what is left over x, constant.

    row (inputs + units,) is changed in place; met (units,) gets the coefficient each unit had.
    """
    n = len(units.bias)
    d, constant = len(row) - n, 0.0
    for i in range(n - 1, -1, -1):
        a = row[d + i]
        met[i] = a
        if a == 0:
            continue
        row[d + i] = 0
        slope, rise, lower = lines(units.low[i], units.high[i])
        through = a * slope if a > 0 else a * lower
        if a > 0 and rise != 0:
            constant += a * rise
        if through != 0:
            constant += through * units.bias[i]
            for j in range(units.width[i]):
                row[j] += through * units.pre[i, j]
    return constant


@compiled
def switch(c: Any, ball: Ball, k: int) -> Any:
    """(gain, price) of a one-hot group: its best switch, at the price of the cheapest gainful."""
    members = ball.members[ball.first[k] : ball.first[k + 1]]
    here = off = 0.0
    for j in members:
        here += c[j] * ball.now[j]
        off += ball.weight[j] * ball.now[j]
    gain, price = 0.0, np.inf
    if ball.none[k] and here < 0:
        gain, price = -here, off
    for j in members:
        rise = c[j] - here
        if ball.can[j] and rise > 0:
            gain = max(gain, rise)
            price = min(price, off + ball.weight[j] * (abs(1 - ball.now[j]) - ball.now[j]))
    return gain, price


@compiled
def spent(rate: Any, price: Any, budget: float) -> float:
    """The most gain that the budget buys, items in parts; rates are used up (set to 0)."""
    total = 0.0
    while budget > 0:
        best = np.argmax(rate)
        if rate[best] <= 0:
            break
        part = min(price[best], budget)
        total += rate[best] * part
        budget -= part
        rate[best] = 0
    return total


@compiled
def most(c: Any, ball: Ball, rate: Any, price: Any) -> float:
    """An upper bound of c x over the ball; rate, price (inputs,) are room to work in."""
    total = free = 0.0
    for j in range(len(c)):
        room = ball.up[j] if c[j] > 0 else ball.down[j]
        total += c[j] * ball.centre[j]
        rate[j] = abs(c[j]) / ball.weight[j]
        price[j] = ball.weight[j] * room
    for k in range(len(ball.none)):
        gain, cost = switch(c, ball, k)
        for j in ball.members[ball.first[k] : ball.first[k + 1]]:
            rate[j] = price[j] = 0
        if cost == 0:
            free += gain
        elif gain > 0:
            j = ball.members[ball.first[k]]
            rate[j], price[j] = gain / cost, cost
    if ball.budget < np.inf:
        return total + free + spent(rate, price, ball.budget)
    for j in range(len(c)):
        if rate[j] > 0:
            free += rate[j] * price[j]
    return total + free


@compiled
def most_rows(rows: Any, ball: Ball, g: Any, k: float, times: Any) -> Any:
    """(rows,) upper bounds of rows x, the least over the multipliers `times` of g x + k >= 0.

    times are relative to the sizes of the row and of g, in the ball's steps.
    """
    d = rows.shape[1]
    found, c = np.empty(len(rows)), np.empty(d)
    rate, price = np.empty(d), np.empty(d)
    size = np.max(np.abs(g / ball.weight)) if d else 0.0
    for i in range(len(rows)):
        own = np.max(np.abs(rows[i] / ball.weight)) if d else 0.0
        found[i] = most(rows[i], ball, rate, price)
        for t in times:
            if t > 0 and size > 0:
                m = t * own / size
                for j in range(d):
                    c[j] = rows[i, j] + m * g[j]
                found[i] = min(found[i], most(c, ball, rate, price) + m * k)
    return found


@compiled
def carry_rows(rows: Any, units: Units, constants: Any) -> Any:
    """Carry every row in place, its constant added to; the coefficients that the first one met."""
    met, first = np.empty(len(units.bias)), np.zeros(len(units.bias))
    for i in range(len(rows)):
        constants[i] += carry(rows[i], units, met)
        if i == 0:
            first[:] = met
    return first
