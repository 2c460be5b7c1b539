"""The way back from packed columns, written again for the tests, plainly."""

from __future__ import annotations

import math
from typing import Any

from banel_leaderboard.site.packing import BASE, DIGITS


def unpack(column: dict[str, Any]) -> list[Any]:
    """The numbers of a column; lists of them for a column of lists."""
    if "c" in column:
        return [_number(column["c"], column)] * column["n"]
    codes = list(_codes(column["v"]))
    if "l" not in column:
        return [_number(code, column) for code in codes]
    rows = []
    while codes:
        length = column["l"] or codes.pop(0)
        last, row = 0.0, []
        for code in codes[:length]:
            value = _number(code, column)
            if code > 2:
                value = last = last + round(value * column["k"])
                value /= column["k"]
            row.append(value)
        del codes[:length]
        rows.append(row)
    return rows


def _number(code: int, column: dict[str, Any]) -> Any:
    if code < 3:
        return (None, -math.inf, math.inf)[code]
    z = code - 3
    if not column.get("u"):
        z = -(z + 1) // 2 if z % 2 else z // 2
    return z / column["k"]


def _codes(text: str) -> Any:
    at = 0

    def digit() -> int:
        nonlocal at
        at += 1
        return DIGITS.index(text[at - 1])

    while at < len(text):
        first = digit()
        if first < 80:
            yield first
        elif first < 90:
            yield 80 + (first - 80) * BASE + digit()
        elif first == 90:
            yield 1_000 + digit() * BASE + digit()
        else:
            value = 0
            for _ in range(digit()):
                value = value * BASE + digit()
            yield 9_464 + value
