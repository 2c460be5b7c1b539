"""The way to the parent of warm runs: start it, hand it a run, wait for the run's end or kill it (see fork_server.py)."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import IO, Any

SERVER = "banel_leaderboard.sweeping.fork_server"
LENGTH = struct.Struct("!I")  # stands before an order
KILL = b"k"  # asks for the end of a run
COLD = b"cold"  # the answer where the parent must not fork, because something started a thread in it


class Cold(Exception):
    """The run was not made here and needs a process of its own: the parent cannot fork, or has ended."""


def possible(device: str) -> bool:
    """Whether a run can be forked: on Linux, and without a GPU, whose library does not survive a fork."""
    # macOS has fork, but its own libraries start threads; there is no way there to let a run end with its parent either.
    return sys.platform.startswith("linux") and hasattr(os, "fork") and device == "cpu"


class Run:
    """A run that was handed over."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._answer: bytes | None = None

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, negative for a signal.

        Raises:
            TimeoutError: the run has not ended within so many seconds.
            Cold: the run has to be made in a process of its own.
        """
        if self._answer is None:
            self._channel.settimeout(timeout)
            try:
                self._answer = self._channel.recv(16)
            except ConnectionResetError:
                self._answer = b""
            self._channel.close()
        if self._answer in (b"", COLD):
            raise Cold
        return int(self._answer)

    def kill(self) -> None:
        """Kill it, if it still runs; `wait` then gives its exit status."""
        with contextlib.suppress(OSError):  # it has ended
            self._channel.sendall(KILL)


class ForkServer:
    """The parent of the runs of one sweep. It is started with the first run, and ends when this object is closed."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """The environment is that of the parent's process; each run brings its own."""
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", SERVER, str(theirs.fileno())],  # -P: no module of the folder we are in
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                pass_fds=[theirs.fileno()],
            )
        self._sending = threading.Lock()

    def start(self, order: Mapping[str, Any], environment: Mapping[str, str], errors: IO[bytes]) -> Run:
        """Hand a run over.

        Args:
            order: what worker.work is given.
            environment: the variables of the run's process.
            errors: a file that takes what the process writes to stderr.

        Raises:
            Cold: the parent has ended.
        """
        text = json.dumps({**order, "environment": dict(environment)}).encode()
        mine, theirs = socket.socketpair()
        try:
            with theirs, self._sending:
                socket.send_fds(self._control, [b"r"], [theirs.fileno(), errors.fileno()])
            mine.sendall(LENGTH.pack(len(text)) + text)
        except OSError as error:
            mine.close()
            raise Cold from error
        return Run(mine)

    @property
    def pid(self) -> int:
        """The parent's process."""
        return self._process.pid

    def close(self) -> None:
        """End the parent, and kill the runs that are still going on."""
        self._control.close()
        self._process.wait()
