"""Frames over a pair of byte streams: how two processes of this package talk without pickling anything.

A frame is a line of JSON, the header, which gives the number of raw bytes that follow it, and these bytes. Whoever is on the
other side can send a header or raw bytes that are too long, no JSON, or half a frame: each of them is refused, and at most
the stated number of bytes is ever held.
"""

from __future__ import annotations

import json
from typing import IO, Any, Protocol

from banel_envs.errors import FrameBroken

HEADER = 2**24  # bytes; the longest header holds a vocabulary and the words of a grammar
RAW = 2**31  # bytes; a question of a million sequences of 256 tokens


class Outgoing(Protocol):
    """What frames are written to."""

    def write(self, content: bytes, /) -> object:
        """Write all of it."""

    def flush(self) -> None:
        """Send what was written."""


class Frames:
    """Sends and receives frames.

    Args:
        incoming: the stream to read from.
        outgoing: the stream to write to.
        header: bytes that a header may have when it is received.
        raw: raw bytes that a frame may have when it is received.
    """

    def __init__(self, incoming: IO[bytes], outgoing: Outgoing, header: int = HEADER, raw: int = RAW) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self.header, self.raw = header, raw

    def send(self, header: dict[str, Any], raw: bytes = b"") -> None:
        """Send one frame.

        Raises:
            FrameBroken: the other side has gone.
        """
        try:
            self._outgoing.write(json.dumps({**header, "bytes": len(raw)}).encode() + b"\n" + raw)
            # The other side waits for this frame and this side for its answer, so nothing may stay in the buffer.
            self._outgoing.flush()
        except BrokenPipeError as error:
            raise FrameBroken("the other process ended") from error

    def receive(self) -> tuple[dict[str, Any], bytes]:
        """The next frame: its header, and its raw bytes.

        Raises:
            FrameBroken: the other side has gone, in the middle of a frame too, or what it sent is no frame within the limits.
        """
        line = self._incoming.readline(self.header + 1)
        if not line.endswith(b"\n"):
            if len(line) > self.header:
                raise FrameBroken(f"a header has more than {self.header} bytes")
            raise FrameBroken("the other process ended")
        try:
            header = json.loads(line)
            size = header.pop("bytes")
        except (ValueError, RecursionError, AttributeError, LookupError, TypeError) as error:
            raise FrameBroken("a header is no JSON object that gives the number of bytes behind it") from error
        if type(size) is not int or not 0 <= size <= self.raw:
            raise FrameBroken(f"a frame says that {str(size)[:40]} bytes follow; it is a whole number up to {self.raw}")
        raw = self._incoming.read(size)
        if len(raw) < size:
            raise FrameBroken("the other process ended in the middle of a frame")
        return header, raw
