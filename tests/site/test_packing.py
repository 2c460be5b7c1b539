"""Packed columns: by hand, and back again whatever they hold."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banel_envs.errors import BadValue
from banel_leaderboard.site.packing import BASE, DIGITS, column, lists
from tests.site.unpacked import unpack

NUMBERS = st.one_of(st.none(), st.sampled_from([math.inf, -math.inf]), st.integers(-(10**12), 10**12))


def test_the_digits_need_no_escape_in_json_or_html() -> None:
    assert BASE == len(set(DIGITS)) == 92 and not set(DIGITS) & set('"\\<')


def test_by_hand() -> None:
    # 3 + z: the character of 3 is the fourth visible one, '$' (the second, a quotation mark, is no digit).
    assert column([0, 1, None]) == {"k": 1, "u": 1, "v": DIGITS[3] + DIGITS[4] + DIGITS[0]}
    # With a number below 0: 2 -> 3 + 4, -1 -> 4; an infinity has a code of its own.
    assert column([2, -1, -math.inf, math.inf]) == {"k": 1, "v": DIGITS[7] + DIGITS[4] + DIGITS[1] + DIGITS[2]}
    assert column([0.25, 0.25], 100) == {"k": 100, "u": 1, "c": 28, "n": 2}
    # 77 is code 80, the first of two characters; 997 is code 1,000, the first of three; 9,461 the first longer one.
    assert column([76, 77, 997, 9_461])["v"] == DIGITS[79] + DIGITS[80] + DIGITS[0] + DIGITS[90] + DIGITS[0] * 2 + (
        DIGITS[91] + DIGITS[1] + DIGITS[0]
    )
    assert lists([[5, 7], [1, 4]]) == {"k": 1, "l": 2, "u": 1, "v": DIGITS[8] + DIGITS[5] + DIGITS[4] + DIGITS[6]}
    assert lists([[5], []])["l"] == 0


@given(st.lists(NUMBERS, min_size=1), st.sampled_from([1, 2, 100]))
def test_a_column_comes_back(values: list[float | None], scale: int) -> None:
    given = [None if v is None else v / scale for v in values]
    assert unpack(column(given, scale)) == given


@given(st.lists(st.lists(NUMBERS), min_size=1))
def test_lists_come_back(rows: list[list[float | None]]) -> None:
    assert unpack(lists(rows)) == rows


def test_a_number_that_is_none_is_refused() -> None:
    with pytest.raises(BadValue, match="NaN"):
        column([math.nan])
