"""The parent of warm runs: it has imported everything, and forks one process for each run.

`fork_client.py` starts it as `python -m banel_leaderboard.sweeping.fork_server FD`. A run comes as two file descriptors: a
socket of its own, on which its order is read and its exit status is answered, and the file for what it writes to stderr.
The run is killed when its socket says so or is closed, so no run outlives the command that asked for it. If this parent
is killed, the system kills its runs.

The parent has one thread, so nothing is lost in a fork. It loads tasks and agents that ship with the package, and computes
each task's success set once, for all runs. A person's own code is imported in the run's process only: what it changes or
breaks is gone with that run.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import threading
import traceback
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import torch

from banel_agents import AGENTS
from banel_envs import TASKS
from banel_envs.tasks import SHIPPED
from banel_leaderboard.running import machine
from banel_leaderboard.sweeping.fork_client import COLD, LENGTH
from banel_leaderboard.sweeping.worker import work

DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl


@dataclass(frozen=True)
class Arrived:
    """A run that is asked for: its order, and the two file descriptors that came with it."""

    order: dict[str, Any]
    channel: socket.socket
    errors: int


@dataclass
class Server:
    """Forks runs until the client has gone."""

    control: socket.socket
    runs: dict[int, socket.socket] = field(default_factory=dict)  # process to its socket
    warmed: set[str] = field(default_factory=set)

    def serve(self) -> Arrived | None:
        """Fork what is asked for. Returns None here, when the client has gone, and the run's order in each new process."""
        woken, wake = socket.socketpair()
        wake.setblocking(False)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the client's to handle: it kills the runs
        signal.signal(signal.SIGCHLD, lambda *_: None)  # with a handler, the wakeup descriptor below is written to
        signal.set_wakeup_fd(wake.fileno())
        with selectors.DefaultSelector() as ready, woken, wake:
            ready.register(self.control, selectors.EVENT_READ)
            ready.register(woken, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    if key.fileobj is woken:
                        woken.recv(1024)
                        self._bury(ready)
                    elif key.fileobj is self.control:
                        arrived = self._receive()
                        if arrived is None:
                            self._end()
                            return None
                        if arrived.order and self._fork(arrived, ready) == 0:
                            return arrived
                    elif key.fileobj in self.runs.values():
                        # One byte asks for the run's end, and so does the end of the socket: the client has gone.
                        self._kill(key.fileobj, ready)

    def _receive(self) -> Arrived | None:
        """The next run; None when the client has gone, an empty order where it went while it was asking."""
        _, descriptors, _, _ = socket.recv_fds(self.control, 1, 2)
        if not descriptors:
            return None
        channel, errors = socket.socket(fileno=descriptors[0]), descriptors[1]
        size = channel.recv(LENGTH.size, socket.MSG_WAITALL)
        length = LENGTH.unpack(size)[0] if len(size) == LENGTH.size else 0
        text = channel.recv(length, socket.MSG_WAITALL)
        with contextlib.suppress(json.JSONDecodeError):
            return Arrived(json.loads(text), channel, errors)
        channel.close()
        os.close(errors)
        return Arrived({}, channel, errors)

    def _fork(self, arrived: Arrived, ready: selectors.BaseSelector) -> int:
        """Fork one run; 0 in the new process."""
        spec = arrived.order["spec"]
        with contextlib.suppress(Exception):  # the run meets the same error, and names it
            warm(spec["task"], spec["agent"], self.warmed)
        pid = None if machine.native_threads() != 1 else os.fork()
        if pid == 0:
            return 0
        os.close(arrived.errors)
        if pid is None:
            arrived.channel.sendall(COLD)
            arrived.channel.close()
            return -1
        self.runs[pid] = arrived.channel
        ready.register(arrived.channel, selectors.EVENT_READ)
        return pid

    def _kill(self, channel: Any, ready: selectors.BaseSelector) -> None:
        ready.unregister(channel)
        for pid, other in self.runs.items():
            if other is channel:
                os.kill(pid, signal.SIGKILL)

    def _bury(self, ready: selectors.BaseSelector) -> None:
        """Answer the exit status of every run that has ended."""
        for pid in list(self.runs):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                channel = self.runs.pop(pid)
                with contextlib.suppress(KeyError):  # it is being killed, and was left out of the selector then
                    ready.unregister(channel)
                with contextlib.suppress(OSError):  # the client has gone
                    channel.sendall(str(os.waitstatus_to_exitcode(status)).encode())
                channel.close()

    def _end(self) -> None:
        for pid in self.runs:
            os.kill(pid, signal.SIGKILL)
        for pid in self.runs:
            os.waitpid(pid, 0)


def warm(task: str, agent: str, warmed: set[str]) -> None:
    """Load a shipped task and a shipped agent, once each; what does not ship is left to the run's own process."""
    new = {name for name in (task, agent) if name in SHIPPED or name in AGENTS} - warmed
    if not new:
        return
    warmed |= new
    if agent in new:
        importlib.import_module(AGENTS[agent].where.partition(":")[0])
        if not AGENTS[agent].portable:  # PyTorch trains there, and its optimisers import this when they are first made
            importlib.import_module("torch._dynamo")
    if task in new:
        built = TASKS[task]
        built.problem.base_policy()  # it is not kept, but what it imports is
        if built.free_evaluation:
            built.successes()
            built.pool()
    # The collector would write to every object that it visits, and so copy the pages that the runs share.
    gc.collect()
    gc.freeze()


def become_a_run(server: Server, arrived: Arrived, parent: int) -> dict[str, Any]:
    """Make this new process as a process of its own would begin: no file, no seed and no setting of another run."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before it could be noticed
        os._exit(1)
    os.dup2(arrived.errors, 2)
    # The sockets of other runs are closed here. Python must not close their numbers later, which are other files then.
    for other in (server.control, arrived.channel, *server.runs.values()):
        other.detach()
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    order = arrived.order
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    # A new process seeds these from the system. Python's own generator does it by itself after a fork.
    np.random.seed()
    torch.default_generator.seed()
    machine.begin_peak()
    return order


def leave(order: dict[str, Any]) -> NoReturn:
    """Make a run and end this process, as Python would end it, but without taking down what the parent has loaded.

    That would take longer than a short run: every page that is touched for it is copied first.
    """
    status = 1
    try:
        status = work(order)
    except SystemExit as error:  # an agent may end its process
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as multiprocessing does in its forks
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status & 0xFF)


def main() -> int:
    """Serve, and in each forked process make its run; the exit status of this one."""
    torch.set_num_threads(1)
    importlib.import_module("banel_leaderboard.running.harness")
    machine.versions()
    machine.processor()
    server = Server(socket.socket(fileno=int(sys.argv[1])))
    parent = os.getpid()
    arrived = server.serve()
    if arrived is None:
        return 0
    leave(become_a_run(server, arrived, parent))


if __name__ == "__main__":
    sys.exit(main())
