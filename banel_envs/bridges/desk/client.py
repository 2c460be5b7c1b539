"""DeskClient: asks at the desk of another process. It loads NumPy and nothing of the task, so it starts fast anywhere.

It may be used by several threads, which wait for each other, and in a forked process, which gets a connection of its own.
From asyncio, call `await asyncio.to_thread(client.ask, tokens, key)`. If the connection breaks, it connects again and sends
the same batch under the same key, so that nothing is lost and nothing is charged twice.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from banel_envs.bridges.desk import link
from banel_envs.bridges.desk.link import Address
from banel_envs.errors import BadTokens, BadValue, DeskClosed, DeskUnreachable, FrameBroken
from banel_envs.files.frames import Frames

_AGAIN = 0.1  # seconds between two tries to connect


class DeskClient:
    """Asks at a DeskServer.

    Args:
        address: DeskServer.address.
        secret: DeskServer.secret.
        patience: seconds to go on trying to connect, at first and after a break. 0 tries once.

    Raises:
        BadValue: no address of this machine, or patience is no time.
    """

    def __init__(self, address: Address, secret: str, *, patience: float = 10.0) -> None:
        self.address, self._secret = link.check_address(address), link.check_secret(secret)
        if not patience >= 0:
            raise BadValue(f"patience is {patience!r}; it must be a number of seconds, at least 0")
        self.patience = patience
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._connection: tuple[socket.socket, Frames] | None = None
        self._closed = False

    def ask(self, tokens: object, key: str) -> NDArray[np.float32]:
        """Rewards of sequences [n, T]: float32 [n], 0 failed, 1 success, NaN withheld. See Desk.ask.

        Raises:
            DeskUnreachable: nobody answers there, or the secret is wrong. The batch may have been asked: repeat it under the
                same key.
            DeskFailed: the reward raised an error that is none of this package's.
            BanelError: as for Desk.ask.
        """
        return self._asked(tokens, key)[0]

    def typed(self, tokens: object, key: str) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        """The rewards, and why each sequence failed, int8 [n]; see Oracle.typed. BadValue under another feedback.

        The feedback is looked at first, so that nothing is charged for a question that cannot be answered.
        """
        feedback = self.state()["feedback"]
        if feedback != "typed":
            raise BadValue(f"types are told under the feedback 'typed', and this desk's is {feedback!r}")
        rewards, types = self._asked(tokens, key)
        return rewards, np.zeros(len(rewards), np.int8) if types is None else types

    def state(self) -> dict[str, Any]:
        """What the desk says of itself: task, feedback, budget, count, left, horizon and vocabulary."""
        return self._exchange({"do": "state"}, b"")[0]

    @property
    def count(self) -> int:
        """Sequences asked so far (NRE), by all clients together."""
        return int(self.state()["count"])

    @property
    def left(self) -> int:
        """Sequences that may still be asked, by all clients together."""
        return int(self.state()["left"])

    @property
    def budget(self) -> int:
        """Sequences that may be asked in all."""
        return int(self.state()["budget"])

    def close(self) -> None:
        """End the connection; the desk goes on."""
        with self._lock:
            self._closed = True
            self._drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _asked(self, tokens: object, key: str) -> tuple[NDArray[np.float32], NDArray[np.int8] | None]:
        array = np.asarray(tokens)
        if array.ndim != 2 or array.dtype.kind not in "iu":
            raise BadTokens(f"tokens are {array.dtype} {list(array.shape)}; a desk takes integers [n, T]")
        raw = array.astype("<i8").tobytes()
        if len(raw) > link.RAW:
            raise BadTokens(
                f"a batch of {len(raw)} bytes is more than {link.RAW}; ask it in several, each with a key of its own"
            )
        if not isinstance(key, str):
            raise BadValue(f"the key is {key!r}; it is a text that names the batch")
        header, answer = self._exchange({"do": "ask", "key": key, "shape": list(array.shape)}, raw)
        n, typed = header.get("n"), header.get("typed") is True
        if n != len(array) or len(answer) != n * (5 if typed else 4):
            raise FrameBroken(
                f"the desk answered {len(answer)} bytes to {len(array)} sequences; ask again with the same key"
            )
        rewards = np.frombuffer(answer, "<f4", n).astype(np.float32)
        return rewards, np.frombuffer(answer, np.int8, n, offset=4 * n).copy() if typed else None

    def _exchange(self, header: dict[str, Any], raw: bytes) -> tuple[dict[str, Any], bytes]:
        """Send a frame and return the answer, over a new connection if the old one broke."""
        end: float | None = None
        while True:
            try:
                with self._lock:
                    answer, content = self._try(header, raw)
                break
            except (OSError, FrameBroken) as error:
                if isinstance(error, DeskUnreachable):
                    raise
                end = time.monotonic() + self.patience if end is None else end
                if time.monotonic() >= end:
                    raise DeskUnreachable(
                        f"no desk answers at {self.address!r} ({error}); what was sent may have been asked: repeat it under "
                        f"the same key, which is free if it was"
                    ) from error
                time.sleep(_AGAIN)
        if "error" in answer:
            raise link.raised(answer)
        return answer, content

    def _try(self, header: dict[str, Any], raw: bytes) -> tuple[dict[str, Any], bytes]:
        """Send a frame and return the answer. After any error the connection is dropped, since an answer may be on its way."""
        try:
            frames = self._connect()
            frames.send(header, raw)
            return frames.receive()
        except BaseException:
            self._drop()
            raise

    def _connect(self) -> Frames:
        """The connection, made and greeted if there is none in this process."""
        if self._closed:
            raise DeskClosed("this client was closed; make another")
        if self._pid != os.getpid():  # forked: the connection is the parent's, and two writers would mix their frames
            self._pid, self._connection = os.getpid(), None
        if self._connection is None:
            connection = socket.socket(link.family(self.address), socket.SOCK_STREAM)
            try:
                connection.settimeout(self.patience or None)
                connection.connect(self.address)
                frames = link.frames_of(connection)
                link.greet_server(frames, self._secret)
                connection.settimeout(None)  # an answer may take as long as the reward does
            except BaseException:
                link.end(connection)
                raise
            self._connection = (connection, frames)
        return self._connection[1]

    def _drop(self) -> None:
        if self._connection is not None and self._pid == os.getpid():
            link.end(self._connection[0])
        self._connection = None
