"""JSON of one meaning: what is read, what is refused and how it is said."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banel_envs.errors import BadJson, NotJson
from banel_envs.files import strict_json
from tests.shared.hostile import ANYTHING, within

NESTED = st.recursive(ANYTHING, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": 1, "a": 1}', "the key 'a' stands there twice"),
        ('{"a": {"b": 1, "c": 2, "b": 3}}', "the key 'b' stands there twice"),
        ('{"a": 1, "\\u0061": 2}', "the key 'a' stands there twice"),
        ('{{"{0}": 1, "{0}": 1}}'.format("k" * 5_000), "5,000 characters"),
        ("NaN", "NaN is not a number"),
        ("[Infinity]", "Infinity is not a number"),
        ('{"a": -Infinity}', "-Infinity is not a number"),
        ("1e999", "'1e999' is too large"),
        ("-1e999", "is too large"),
        ("9" * 400 + ".0", "is too large"),
        ("[" * 65 + "]" * 65, "nested more than 64 levels"),
        ('{"a":' * 65 + "1" + "}" * 65, "nested more than 64 levels"),
        ("[" * 500 + "]" * 500, "nested more than 64 levels"),
        ("[" * 1_000_000, "nested more than 64 levels"),
        ('{"a":' * 1_000_000, "nested more than 64 levels"),
        ('"\\ud800"', "half of a surrogate pair"),
        ('{"\\udfff": 1}', "half of a surrogate pair"),
        ('["a\\uD83D"]', "half of a surrogate pair"),
    ],
)
def test_what_has_two_meanings_is_refused(text: str, says: str) -> None:
    for content in (text, text.encode()):
        with within(10), pytest.raises(BadJson, match=says) as raised:
            strict_json.loads(content)
        assert not isinstance(raised.value, NotJson) and len(str(raised.value)) < 300


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"{}{}", b"hello", b"\xff\xfe{\x00}\x00", b"\xef\xbb\xbf{}", b'"\xff"', b"'a'", b"{'a': 1}", b"[1,]",
        b"01", b"\x00", b'"\n"', b"1" * 5_000, b"-" + b"1" * 5_000, "\udcff", b"\xed\xa0\x80",
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_json_is_refused(content: bytes | str) -> None:
    with within(10), pytest.raises(NotJson) as raised:
        strict_json.loads(content)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    "text", ["[" * 64 + "]" * 64, '"\\ud83d\\ude00"', '"\\\\ud800"', "1e308", "-0.0", "1" * 4_000, " 1 "]
)
def test_what_has_one_meaning_is_read(text: str) -> None:
    assert strict_json.loads(text) == json.loads(text)


@settings(max_examples=100, deadline=None)
@given(NESTED)
def test_what_is_written_is_read_again(value: object) -> None:
    for ascii_only in (True, False):
        text = json.dumps(value, ensure_ascii=ascii_only)
        assert strict_json.loads(text) == strict_json.loads(text.encode()) == value


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet='{}[]",:\\ u0d8a1eE+-.NI', max_size=30) | st.binary(max_size=30))
def test_what_is_read_is_what_python_reads(content: str | bytes) -> None:
    """And nothing but BadJson is raised, whatever the text."""
    try:
        value = strict_json.loads(content)
    except BadJson:
        return
    assert value == json.loads(content)
    assert not isinstance(value, float) or math.isfinite(value)
