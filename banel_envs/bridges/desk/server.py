"""DeskServer: a desk for other processes of this machine, over a Unix socket or a local port.

    {"do": "ask", "key": "step 3", "shape": [64, 8]} and 64 * 8 little-endian int64      the client's frame
    {"n": 64, "typed": false} and 64 little-endian float32                               the answer's: 0, 1 or NaN
    {"error": "KeyReused", "message": "..."}                                             or an error

A client that dies while it writes a frame has asked nothing. One that dies later is answered all the same, and the answer is
kept under its key. A thread serves each connection; all of them hand in at the one desk.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from banel_envs.bridges.desk import link
from banel_envs.bridges.desk.desk import Desk
from banel_envs.bridges.desk.link import Address
from banel_envs.errors import BadTokens, BadValue, FrameBroken

MOST_CONNECTIONS = 256  # at a time; further ones are closed
GREETING_SECONDS = 10.0  # that a stranger has for the greeting
_LOOK = 0.2  # seconds between two looks at whether the server was closed


class DeskServer:
    """Lets other processes ask at a desk, until it is closed. Closing it leaves the desk open.

    Args:
        desk: the desk; somebody must serve it.
        address: the path of a Unix socket, or (host, port) of this machine, port 0 for a free one. By default a socket in a
            folder that only this user can enter, or a free port where the system has no such sockets.
        secret: what a client has to know; a new one by default.

    Raises:
        BadValue: no address of this machine, one in use, or a secret that could be guessed.
    """

    def __init__(self, desk: Desk, address: Address | None = None, secret: str | None = None) -> None:
        self.desk = desk
        self.secret = secrets.token_hex(32) if secret is None else secret
        self._secret = link.check_secret(self.secret)
        self._scratch = tempfile.TemporaryDirectory() if address is None and hasattr(socket, "AF_UNIX") else None
        if address is None:
            address = ("127.0.0.1", 0) if self._scratch is None else str(Path(self._scratch.name) / "desk")
        self._socket, self.address = _listen(link.check_address(address))
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._accept, name="banel desk server", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more connections, and end those that there are."""
        self._closed = True
        self._thread.join()
        self._socket.close()
        with self._lock:
            for connection in self._connections:
                link.end(connection)
        if isinstance(self.address, str):
            Path(self.address).unlink(missing_ok=True)
        if self._scratch is not None:
            self._scratch.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                continue
            except OSError:  # such as too many open files: what waits is taken when there is room
                continue
            if not self._free.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(target=self._converse, args=(connection,), name="banel desk client", daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        """Serve one connection until it ends."""
        with self._lock:
            self._connections.add(connection)
        try:
            with contextlib.suppress(FrameBroken, OSError):
                connection.settimeout(GREETING_SECONDS)
                frames = link.frames_of(connection)
                if link.greet_client(frames, self._secret):
                    connection.settimeout(None)
                    while not self._closed:
                        frames.send(*self._answer(*frames.receive()))
        finally:
            link.end(connection)
            with self._lock:
                self._connections.discard(connection)
            self._free.release()

    def _answer(self, header: dict[str, Any], raw: bytes) -> tuple[dict[str, Any], bytes]:
        """The answer to one frame. Every error is the client's to know, and ends nothing else."""
        try:
            if header.get("do") == "state":
                return self._state(), b""
            if header.get("do") != "ask":
                raise BadValue(f"a desk is told to {str(header.get('do'))[:40]!r}; it can 'ask' and tell its 'state'")
            reply = self.desk.reply(_sequences(header, raw), header.get("key", ""))
        except Exception as error:
            return link.told(error), b""
        types = b"" if reply.types is None else reply.types.tobytes()
        answer = {"n": len(reply.rewards), "typed": reply.types is not None}
        return answer, reply.rewards.astype("<f4").tobytes() + types

    def _state(self) -> dict[str, Any]:
        desk = self.desk
        numbers = {"budget": desk.budget, "count": desk.count, "left": desk.left, "horizon": desk.problem.T}
        return {"task": desk.problem.id, "feedback": desk.feedback, **numbers, "vocabulary": desk.problem.V}


def _sequences(header: dict[str, Any], raw: bytes) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The batch in a frame; BadTokens where the shape does not fit the bytes."""
    shape = header.get("shape")
    match shape:
        case [int(n), int(horizon)] if min(n, horizon) >= 0 and n * horizon * 8 == len(raw):
            return np.frombuffer(raw, "<i8").reshape(n, horizon).astype(np.int64)
    raise BadTokens(f"a frame of {len(raw)} bytes says that its shape is {str(shape)[:40]}; send int64 [n, T]")


def _listen(address: Address) -> tuple[socket.socket, Address]:
    """A socket that listens, and its address with the port that it got."""
    try:
        if isinstance(address, str) and _left_behind(address):
            Path(address).unlink()
        listening = socket.socket(link.family(address), socket.SOCK_STREAM)
        try:
            listening.bind(address)
            if isinstance(address, str):
                os.chmod(address, 0o600)  # noqa: PTH101 (as the socket was bound: by the name given)
            listening.listen()
            listening.settimeout(_LOOK)
        except BaseException:
            listening.close()
            raise
    except (OSError, OverflowError) as error:
        raise BadValue(f"no desk can listen at {address!r}: {error}; give another address") from error
    return listening, address if isinstance(address, str) else listening.getsockname()[:2]


def _left_behind(path: str) -> bool:
    """Whether a Unix socket is there at which nobody listens: its process was killed."""
    if not Path(path).is_socket():
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
    return False
