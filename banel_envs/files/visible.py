r"""Text that somebody else wrote, made safe to show: every character that cannot be seen becomes a visible escape.

A right-to-left override turns `gpj.exe` into `exe.jpg`, an escape sequence moves a terminal's cursor, a zero-width space
makes two names look like one. `visible` shows such characters as `\u202e`, and cuts what is too long.
"""

from __future__ import annotations

import re
from typing import Any

MOST = 500  # characters of a message that are shown
MOST_VALUE = 100  # of one value in a message
# Characters that count as printable and show nothing: fillers, joiners, variation selectors.
_BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")


def visible(text: str, most: int | None = MOST) -> str:
    """The text with control, format and blank characters as escapes, cut after `most` characters (None: not cut)."""
    if most is not None and len(text) > most:
        text = text[:most] + "…"
    # Nearly every text is plain, and is returned without looking at each character.
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() and not _BLANK.match(c) else _escape(c) for c in text)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def terminal(text: object) -> str:
    """One line for a terminal: no control characters, whoever wrote it."""
    return visible(" ".join(str(text).split()), None)


def shown(value: Any, most: int = MOST_VALUE) -> str:
    """The repr of a value out of somebody else's file, for a message: visible and short."""
    if isinstance(value, str):
        return repr(value) if len(value) <= most else repr(value[:most]) + f"… ({len(value):,} characters)"
    try:
        return visible(repr(value), most)
    except (ValueError, RecursionError):  # an integer of too many digits, a list of too many levels
        return f"a {type(value).__name__} too large to show"
