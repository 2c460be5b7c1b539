"""Frames: what goes in comes out, and what is no frame within the limits is refused."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banel_envs.errors import FrameBroken
from banel_envs.files.frames import Frames


def read(content, **limits):
    return Frames(io.BytesIO(content), io.BytesIO(), **limits).receive()


WORDS = st.text('ab"{\n\u20ac', max_size=4)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.dictionaries(WORDS, st.integers() | WORDS, max_size=2), st.binary(max_size=20)), max_size=3)
)
def test_frames_come_out_as_they_went_in(frames):
    wire = io.BytesIO()
    writer = Frames(io.BytesIO(), wire)
    frames = [({key: value for key, value in header.items() if key != "bytes"}, raw) for header, raw in frames]
    for header, raw in frames:
        writer.send(header, raw)
    reader = Frames(io.BytesIO(wire.getvalue()), io.BytesIO())
    assert [reader.receive() for _ in frames] == frames
    with pytest.raises(FrameBroken, match="ended"):
        reader.receive()


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=80))
def test_noise_is_refused_or_read_and_never_more(noise):
    try:
        header, raw = read(noise, header=50, raw=20)
    except FrameBroken:
        return
    assert isinstance(header, dict) and len(raw) <= 20


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "ended"),
        (b'{"bytes": 3}\nab', "in the middle"),
        (b'{"bytes": 3}', "ended"),
        (b'{"bytes": 21}\n' + b"x" * 21, "up to 20"),
        (b'{"bytes": -1}\n', "up to 20"),
        (b'{"bytes": true}\n', "up to 20"),
        (b'{"bytes": 1.0}\nx', "up to 20"),
        (b"{}\n", "no JSON object"),
        (b"[1]\n", "no JSON object"),
        (b"\xff\n", "no JSON object"),
        (b'{"a": "' + b"x" * 60 + b'", "bytes": 0}\n', "more than 50 bytes"),
        (b"x" * 60, "more than 50 bytes"),
    ],
)
def test_what_is_no_frame_is_refused(content, said):
    with pytest.raises(FrameBroken, match=said):
        read(content, header=50, raw=20)


def test_deep_brackets_end_in_the_same_error():
    with pytest.raises(FrameBroken, match="no JSON object"):
        read(b'{"bytes": 0, "a": ' + b"[" * 200_000 + b"\n")
