from __future__ import annotations

import math

import pytest

from gatewise.show.words import compact, count, number, percent, plain, short


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (0, "0"),
        (-0.0, "0"),
        (5, "5"),
        (-12, "−12"),
        (1234, "1,234"),
        (1234.5, "1,230"),
        (0.02171, "0.0217"),
        (0.5, "0.500"),
        (-99.96, "−100"),
        (0.000217, "0.000217"),
        (1.44e-14, "1.44×10⁻¹⁴"),
        (-2e-9, "−2×10⁻⁹"),
        (1.5e7, "1.5×10⁷"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
        (math.nan, "–"),
        (999_999.4, "1×10⁶"),
    ],
)
def test_number(x, said):
    assert number(x) == said


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0, "0 %"),
        (1, "100 %"),
        (0.12, "12 %"),
        (0.046, "4.6 %"),
        (1e-6, "under 0.1 %"),
        (0.9999, "over 99.9 %"),
        (0.994, "99.4 %"),
        (math.nan, "–"),
    ],
)
def test_percent(share, said):
    assert percent(share).replace("\xa0", " ") == said


def test_count_and_compact():
    assert count(1, "row") == "1\xa0row"
    assert count(9871, "row") == "9,871\xa0rows"
    assert " ".join(map(compact, (7, 987, 1000, 9871, 12345, 2_000_000))) == "7 987 1k 9.9k 12k 2M"


def test_plain_is_one_harmless_line():
    assert plain("a\nb\x00\u202ec\u2028d") == "a b c d"
    assert plain("\ud800") == "?"
    assert plain("  ") == "(no name)"
    assert plain(3) == "3"


def test_short_keeps_both_ends():
    assert short("pixel") == "pixel"
    text = short("measurement_of_the_left_wing_17", 20)
    assert len(text) == 20
    assert text.startswith("measure")
    assert text.endswith("_17")
