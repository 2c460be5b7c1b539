r"""Make the text of records, ledgers and paths safe to show on a page and in Markdown.

On a page Jinja escapes all markup, so only invisible characters and the length have to be dealt with here. Markdown is
harder: a backtick ends a code span, `|` ends a cell of a table, and a bare web or e-mail address becomes a link without
any sign around it.
"""

from __future__ import annotations

import re
from typing import Any

from markupsafe import Markup

from banel_envs.files.visible import MOST, visible

MOST_ON_PAGE = 2_000  # characters of one text on a page; the longest text of the package itself has about 700
# The characters that are markup inside a line. Those that are markup only at its beginning (#, -, +, digits) are not
# here, because no line that the board writes begins with text from a file. An underscore inside a word is no markup.
_MARKS = re.compile(r"([\\`*\[\]<|~&$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
# The characters that make a link of bare text. Some Markdown readers look for links after they have undone escapes by a
# backslash, so these characters are written as \u003a and the like, which stay visible.
_ADDRESSES = re.compile(r"(?<=[A-Za-z]):(?=//)|(?<=www)\.|(?<=\S)@|@(?=\S)", re.IGNORECASE)


def page(value: Any) -> Any:
    """Make a value fit for a page: text becomes visible and not too long; own markup and numbers stay as they are."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return visible(value, MOST_ON_PAGE)
    return value


def markdown(text: str, most: int = MOST) -> str:
    """Text that Markdown shows as it is written, so that no link, image, markup, heading or cell begins in it."""
    return _ADDRESSES.sub(lambda found: f"\\u{ord(found.group()):04x}", _MARKS.sub(r"\\\1", visible(text, most)))


def code(text: str, most: int = MOST) -> str:
    """The text as a code span. A backtick would end the span, and a bar a cell, so both are written as escapes."""
    return "`" + (visible(text, most).replace("`", "\\x60").replace("|", "\\x7c") or " ") + "`"
