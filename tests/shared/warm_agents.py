"""Agents that look about in the process of their run, or break it, found as "tests.shared.warm_agents:NAME"."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from banel_envs import Oracle, Problem
from banel_envs.policies import Policy
from tests.shared.small import Small

NOTES = "BANEL_TEST_NOTES"  # the folder where agents write what they saw
RUNS = 0  # of this module's agents in this process


def note(name: str, what: Any) -> None:
    Path(os.environ[NOTES], name).write_text(json.dumps(what))


def opened() -> list[str]:
    """What the open files of this process are, the three standard ones left out."""
    folder = Path("/proc/self/fd")
    found = {}
    for number in os.listdir(folder):  # noqa: PTH208 (no second descriptor)
        try:
            found[int(number)] = str((folder / number).readlink())
        except FileNotFoundError:  # the listing itself
            continue
    return sorted(path.rpartition("/")[2].partition(":")[0] for number, path in found.items() if number > 2)


class Looks(Small):
    """Notes the state of its process before it asks."""

    name = "looks"

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        global RUNS
        RUNS += 1
        policies = super().learn(problem, oracle, rng)
        yield next(policies)
        tag = os.environ.get("BANEL_TEST_TAG", "")
        numpy_state: Any = np.random.get_state()
        seen = {
            "runs": RUNS,
            "changed": hasattr(np, "changed_by_a_run"),
            "threads": [path.joinpath("comm").read_text().strip() for path in Path("/proc/self/task").iterdir()],
            "torch_threads": torch.get_num_threads(),
            "opened": opened(),
            "torch": hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest(),
            "numpy": hashlib.sha256(numpy_state[1].tobytes() + bytes([numpy_state[2] % 256])).hexdigest(),
            "python": hashlib.sha256(repr(random.getstate()).encode()).hexdigest(),
            "folder": str(Path.cwd()),
            "environment": dict(os.environ),
            "sigint": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
            "sigchld": signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL,
            "parent": os.getppid(),
            "parent_is": Path(f"/proc/{os.getppid()}/cmdline").read_bytes().replace(b"\0", b" ").decode(),
        }
        note(f"looks-{tag}-{time.monotonic_ns()}.json", seen)
        np.changed_by_a_run = True  # type: ignore[attr-defined]
        os.environ["BANEL_CHANGED"] = "1"
        yield from policies


class Crashes(Small):
    """Takes the interpreter down, as a wrong pointer does."""

    name = "crashes"

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        yield problem.base_policy()
        os.kill(os.getpid(), signal.SIGSEGV)


class Leaves(Small):
    """Ends the process as if all were well."""

    name = "leaves"

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        yield problem.base_policy()
        os._exit(0)


class Orphans(Small):
    """Kills the parent of warm runs, if it was forked from one."""

    name = "orphans"

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        for k, policy in enumerate(super().learn(problem, oracle, rng)):
            yield policy
            if k == 2 and b"fork_server" in Path(f"/proc/{os.getppid()}/cmdline").read_bytes():
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(60)  # the system ends this process first


class Slow(Small):
    """Notes that it has begun, and takes its time."""

    name = "slow"

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        for k, policy in enumerate(super().learn(problem, oracle, rng)):
            yield policy
            if k == 2:
                note(f"slow-{os.getpid()}", os.getpid())
                time.sleep(float(os.environ.get("BANEL_TEST_SLEEP", "60")))


class Speaks(Small):
    """Writes to stderr and fails."""

    name = "speaks"

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        yield problem.base_policy()
        print("x" * 300_000, file=sys.stderr)
        raise ArithmeticError("the agent lost count")
