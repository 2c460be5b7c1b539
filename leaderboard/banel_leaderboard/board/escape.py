r"""Text of records, ledgers and paths, made safe for where it is shown: a page, Markdown, a terminal.

A page escapes markup by itself (Jinja); what is left are characters that cannot be seen, and length. Markdown has more ways
in: backticks end a code span, `|` a cell, a bare address or e-mail becomes a link without any sign around it.
"""

from __future__ import annotations

import re
from typing import Any

from markupsafe import Markup

from banel_envs.visible import MOST, visible

MOST_ON_PAGE = 2_000  # characters of one text on a page: the longest of our own is about 700
# Wherever they stand in a line: none of our lines begins with somebody else's text. An underscore inside a word is one.
_MARKS = re.compile(r"([\\`*\[\]<|~&$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
# What makes a link of bare text, found by some readers after escapes are undone: so it is shown as an escape itself.
_ADDRESSES = re.compile(r"(?<=[A-Za-z]):(?=//)|(?<=www)\.|(?<=\S)@|@(?=\S)", re.IGNORECASE)


def page(value: Any) -> Any:
    """What Jinja puts into a page: visible and not too long; markup of our own and numbers as they are."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return visible(value, MOST_ON_PAGE)
    return value


def markdown(text: str, most: int = MOST) -> str:
    """Text that reads as it is written: no link, image, markup, heading or cell begins in it."""
    return _ADDRESSES.sub(lambda found: f"\\u{ord(found.group()):04x}", _MARKS.sub(r"\\\1", visible(text, most)))


def code(text: str, most: int = MOST) -> str:
    """A code span: nothing in it is markup but a backtick and, in a table, a bar; both are shown as escapes."""
    return "`" + (visible(text, most).replace("`", "\\x60").replace("|", "\\x7c") or " ") + "`"
