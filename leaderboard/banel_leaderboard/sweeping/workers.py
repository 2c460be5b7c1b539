"""Workers: one process for each run, forked from a parent that has imported everything, or started anew.

A forked run begins in a fraction of a second, where Python and PyTorch take seconds to start. Both kinds of process make
the same run. A process is started anew where none can be forked: on another system than Linux, and on a GPU.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, Protocol

from banel_envs.errors import LedgerLocked
from banel_leaderboard.records.record import RunRecord
from banel_leaderboard.records.spec import Spec
from banel_leaderboard.running.resolve import finished_record
from banel_leaderboard.sweeping import fork_client
from banel_leaderboard.sweeping.fork_client import Cold, ForkServer
from banel_leaderboard.sweeping.worker import WAITING

# The libraries read these when they are loaded. Without them every run would use all cores, and sum in another order.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")
WORKER = "banel_leaderboard.sweeping.worker"
MOST_ERRORS = 1 << 16  # bytes of a run's stderr that are read, from its end


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    spec: Spec
    status: Literal["done", "kept", "served", "waiting", "failed"]
    message: str = ""


class Process(Protocol):
    """The process of a run."""

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, negative for a signal; TimeoutError if it has not ended within so many seconds."""
        ...

    def kill(self) -> None:
        """Kill it."""
        ...


class Started:
    """A process that was started for its run alone."""

    def __init__(self, order: Mapping[str, Any], environment: Mapping[str, str], errors: IO[bytes]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", WORKER, json.dumps(order)],  # -P: no module of the folder we are in
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=environment,
            cwd=order["folder"],
        )
        self.kill = self._process.kill

    def wait(self, timeout: float | None = None) -> int:
        """See Process."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError from error


@dataclass
class Workers:
    """Makes each run in a process, and can stop all of them."""

    out: Path
    timeout: float | None = None
    isolate: bool = False
    patience: float = 0.0  # seconds to wait for a ledger that a lost worker may still hold
    warm: bool = True  # whether processes are forked, where that is possible
    _alive: set[Process] = field(default_factory=set, init=False, repr=False)
    _stopped: bool = field(default=False, init=False, repr=False)
    _server: ForkServer | None = field(default=None, init=False, repr=False)
    _starting: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __reduce__(self) -> tuple[type[Workers], tuple[Any, ...]]:
        """What a Ray node is sent: it starts processes of its own."""
        return Workers, (self.out, self.timeout, self.isolate, self.patience, self.warm)

    def run(self, spec: Spec) -> Outcome:
        """Make one run: until it is finished, has failed, or has to wait for answers."""
        if self._stopped:
            return Outcome(spec, "failed", "stopped")
        with tempfile.TemporaryFile() as errors:
            try:
                status = self._finish(spec, errors)
            except TimeoutError:
                return Outcome(spec, "failed", f"stopped after {self.timeout:g} s; run again to go on where it was")
            if status == 0:
                return Outcome(spec, "done")
            # The worker's last line names the error; what comes before it is a traceback or warnings of libraries.
            errors.seek(max(0, errors.seek(0, os.SEEK_END) - MOST_ERRORS))
            last = errors.read().decode(errors="replace").strip().splitlines()[-1:]
        message = "stopped" if self._stopped else (last or [f"exit status {status}"])[0]
        return Outcome(spec, "waiting" if status == WAITING else "failed", message)

    def _finish(self, spec: Spec, errors: IO[bytes]) -> int:
        """The exit status of a run; TimeoutError, when it is killed, if it takes longer than `timeout`."""
        order = {"spec": dataclasses.asdict(spec), "out": str(self.out), "isolate": self.isolate}
        if self.warm and fork_client.possible(spec.device):
            try:
                return self._wait(start_warm(self.server(), order, errors))
            except Cold:
                self.warm = False  # whatever kept the parent from forking would do it again
                if self._stopped:  # the parent ended because it was closed
                    return -signal.SIGKILL
        return self._wait(Started(order_here(order), os.environ | ONE_THREAD, errors))

    def _wait(self, process: Process) -> int:
        self._alive.add(process)
        if self._stopped:  # by another thread, which may have come before this process was known
            process.kill()
        try:
            return process.wait(self.timeout)
        except TimeoutError:
            process.kill()
            process.wait()
            raise
        finally:
            self._alive.discard(process)

    def server(self) -> ForkServer:
        """The parent of warm runs, which is started when it is first asked for."""
        with self._starting:
            if self._server is None:
                self._server = ForkServer(os.environ | ONE_THREAD)
            return self._server

    def finished(self, spec: Spec) -> RunRecord | None:
        """See resolve.finished_record."""
        until = time.monotonic() + self.patience
        while True:
            try:
                return finished_record(spec, self.out)
            except LedgerLocked:  # after a wait of its own
                if time.monotonic() >= until:
                    raise

    def stop(self) -> None:
        """Kill all processes. The ledgers hold everything that was answered, so the runs can go on later."""
        self._stopped = True
        for process in list(self._alive):
            process.kill()

    def close(self) -> None:
        """End the parent of warm runs, and with it those that still go on; no run is made after this."""
        self._stopped = True
        with self._starting:
            if self._server is not None:
                self._server.close()
            self._server = None


def order_here(order: Mapping[str, Any]) -> dict[str, Any]:
    """The order of a run, with the folder in which its process works: that of this process."""
    return {**order, "folder": str(Path.cwd())}


def start_warm(server: ForkServer, order: Mapping[str, Any], errors: IO[bytes], **own: str) -> fork_client.Run:
    """Fork one run, in the folder and with the environment of this process and these variables of its own."""
    return server.start(order_here(order), os.environ | ONE_THREAD | own, errors)
