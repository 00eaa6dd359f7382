"""What every Affine must obey, each law a function that raises AssertionError with the reason."""

from __future__ import annotations

import torch

from gatewise.ir.kinds import Affine, map_tensors, pull
from gatewise.numeric import gamma

ROWS = 4


def random_values(shapes, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(ROWS, *s, generator=generator, dtype=dtype) for s in shapes]


def within(a, b, bound, what):
    """|a - b| <= bound, entry by entry."""
    wrong = (a - b).abs() > bound
    assert not wrong.any(), f"{what}: {int(wrong.sum())} entries, worst {(a - b).abs().max():.3g}"


def bias_of(kind: Affine):
    return torch.zeros(()) if kind.bias is None else kind.bias


def linear(kind, shapes, shape):
    """L(2x - 3y) = 2 L(x) - 3 L(y), and the node adds its bias to L."""
    x, y = random_values(shapes, 1), random_values(shapes, 2)
    mixed = [2 * u - 3 * v for u, v in zip(x, y, strict=True)]
    tiny = 1e-12 * (1 + kind.magnitude(*(v.abs() for v in mixed)))
    within(kind.linear(*mixed), 2 * kind.linear(*x) - 3 * kind.linear(*y), tiny, "not linear")
    most = 1e-12 * (1 + kind.magnitude(*(v.abs() for v in x)) + bias_of(kind).abs())
    within(kind(*x), kind.linear(*x) + bias_of(kind), most, "not L(x) + c")
    assert kind(*x).shape == (ROWS, *shape)


def transpose(kind, shapes, shape):
    """<L x, g> = <x, Lᵀ g>."""
    x, (g,) = random_values(shapes, 1), random_values([shape], 2)
    back = pull(kind, g.unsqueeze(0), shapes)
    assert [tuple(v.shape) for v in back] == [(1, ROWS, *s) for s in shapes]
    ahead = (kind.linear(*x) * g).sum()
    total = sum((u * v.squeeze(0)).sum() for u, v in zip(x, back, strict=True))
    within(ahead, total, 1e-10 * (1 + ahead.abs()), "not the transpose")


def magnitude(kind, shapes, shape):
    """|L x| <= |L| |x|, and |L| is attained: no sign hides outside the weights."""
    x = random_values(shapes)
    most = kind.magnitude(*(v.abs() for v in x))
    assert bool((kind.linear(*x).abs() <= most * (1 + 1e-12)).all()), "|L| does not dominate"
    ones = [torch.ones_like(v) for v in x]
    same = Affine(kind.rule, tuple(w.abs() for w in kind.weights))
    for k, one in enumerate(ones):
        only = [one if j == k else torch.zeros_like(v) for j, v in enumerate(ones)]
        (g,) = pull(same, torch.ones(1, ROWS, *shape, dtype=one.dtype), [v.shape[1:] for v in x])[
            k : k + 1
        ]
        assert bool((g >= 0).all()), "a coefficient of the rule is negative"
        assert bool((same.linear(*only) >= 0).all())


def rounding(kind, shapes, shape):
    """The map, in float32, is within gamma(terms) |L| |x| of the exact one."""
    single, exact = in_single(kind)
    x = random_values(shapes, dtype=torch.float32)
    wide = [v.double() for v in x]
    most = exact.magnitude(*(v.abs() for v in wide))
    within(
        single.linear(*x).double(),
        exact.linear(*wide),
        gamma(kind.terms, torch.float32) * most,
        f"terms={kind.terms} is too few",
    )
    more = gamma(kind.terms + 1, torch.float32) * (most + bias_of(exact).abs())
    within(single(*x).double(), exact(*wide), more, f"terms={kind.terms} is too few with bias")


def rounding_back(kind, shapes, shape):
    """The transpose, in float32, is within gamma(terms_back) |L|ᵀ |g|."""
    single, exact = in_single(kind)
    (g,) = random_values([shape], dtype=torch.float32)
    g = g.unsqueeze(0)
    found, expected = pull(single, g, shapes), pull(exact, g.double(), shapes)
    most = pull(exact.absolute(), g.double().abs(), shapes)
    bound = gamma(kind.terms_back, torch.float32)
    for y, z, m in zip(found, expected, most, strict=True):
        within(y.double(), z, bound * m, f"terms_back={kind.terms_back} is too few")


def any_rows(kind, shapes, shape):
    """Rows do not mix, however many there are."""
    x = random_values(shapes)
    whole = kind(*x)
    for n in (0, 1, 3):
        part = kind(*(v[:n] for v in x))
        assert part.shape == (n, *shape)
        within(part, whole[:n], 1e-12 * (1 + whole[:n].abs()), "rows mix")


def in_single(kind: Affine) -> tuple[Affine, Affine]:
    """The same map with weights in float32, and with those weights in float64."""
    single = map_tensors(kind, lambda t: t.float() if t.is_floating_point() else t)
    return single, map_tensors(single, lambda t: t.double() if t.is_floating_point() else t)


LAWS = (linear, transpose, magnitude, rounding, rounding_back, any_rows)
