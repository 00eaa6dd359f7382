"""Columns come back as they were, bit for bit; JSON cannot end its element; samples are fair."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gatewise.show import embed
from pages import unpacked


@settings(max_examples=200, deadline=None)
@given(
    arrays.arrays(
        np.float64,
        st.integers(1, 400),
        elements=st.one_of(
            st.sampled_from([0.0, -0.0, 1.5, 0.1, 127, 128, -129, 1e9, 5e-324, 1e300, 33000]),
            st.floats(allow_nan=False, allow_infinity=False),
            st.integers(-300, 300).map(float),
        ),
    )
)
def test_nothing_is_rounded(values):
    back = unpacked(embed.packed(values))
    assert back.tobytes() == values.tobytes()


@pytest.mark.parametrize("distinct", [1, 2, 127, 128, 129, 255, 256, 257, 40_000, 70_000])
def test_any_number_of_distinct_values(distinct):
    values = (np.random.default_rng(0).permutation(80_000) % distinct) / 7
    packed = embed.packed(values)
    np.testing.assert_array_equal(unpacked(packed), values)
    assert ("of" in packed) == (1 < distinct <= 40_000)


def test_few_values_take_few_bytes():
    values = np.repeat([0.1, 0.2, 0.7], 1000)
    assert len(embed.packed(values)["b64"]) == 4000
    assert len(embed.packed(np.arange(3000.0))["b64"]) == 8000


def test_json_cannot_end_its_element():
    hostile = {"</script><script>": ["<!--", "&lt;", "\u2028", "]]>"]}
    text = embed.as_json(hostile)
    assert not set(text) & set("<>&\u2028")
    assert json.loads(text) == hostile
    with pytest.raises(ValueError, match="JSON"):
        embed.as_json({"x": float("nan")})


def test_all_rows_where_they_fit_else_a_spread_of_them(explained):
    e = explained(3, 8, 1, rows=500)
    np.testing.assert_array_equal(embed.rows(e), np.arange(500))
    some = embed.rows(e, limit=100)
    assert 90 <= len(some) <= 100
    assert (np.diff(some) > 0).all()
    y = e.output[:, 0]
    assert {int(y.argmin()), int(y.argmax()), int(e.census.first[0])} <= set(some.tolist())
    ranks = np.argsort(np.argsort(y))[some]
    assert np.diff(np.sort(ranks)).max() <= 11


def test_wide_rows_are_fewer(explained):
    e = explained(50, 4, 1, rows=400)
    few = embed.rows(e, budget=100_000)
    assert 50 < len(few) < 400
    size = sum(len(embed.packed(c)["b64"]) for c in e.data[few].T)
    assert size < 130_000
