"""The agent's side of `--isolate`: python -m banel_leaderboard.running.isolation_agent FOLDER.

This process holds the agent, a Problem and a pipe to the process that holds the oracle (see isolation_server.py). FOLDER is
where it stores the policies that it sends.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from banel_agents import make_agent
from banel_envs import Oracle, Problem
from banel_envs.automaton import Automaton
from banel_envs.errors import BadPolicy, BadTokens, BadValue, BudgetExhausted
from banel_envs.files.frames import Frames
from banel_envs.meter.oracle import stands_in
from banel_envs.policies import COST, Policy, load_policy_file, save_policy
from banel_envs.policies.grammar import automaton_of
from banel_envs.problem import FailureType, Tokens
from banel_leaderboard.running.machine import Clock, peak_memory_mb


@stands_in
class RemoteOracle:
    """Stands in for the Oracle: it asks over the pipe, and gives the same answers and raises the same errors."""

    def __init__(self, problem: Problem, budget: int, feedback: str, pipe: Frames) -> None:
        self.problem, self.budget, self.feedback = problem, budget, feedback
        self.count = self.errors = 0
        self._pipe = pipe

    @property
    def left(self) -> int:
        """Sequences that may still be asked."""
        return self.budget - self.count

    @property
    def open(self) -> int:
        """See Oracle. It is always 0 here, because an error between question and answer ends the whole run."""
        return 0

    def __call__(self, tokens: object) -> NDArray[np.float32]:
        """See Oracle."""
        return self._told(tokens)[0]

    def typed(self, tokens: object) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        """See Oracle."""
        if self.feedback != "typed":
            raise BadValue(f"types are told under the feedback 'typed', and this oracle's is {self.feedback!r}")
        return self._told(tokens)

    def _told(self, tokens: object) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        """The rewards of sequences [n, T], and the types behind them: none where the feedback tells none."""
        clean = self.problem.check_tokens(tokens)
        self._pipe.send({"event": "ask", "shape": clean.shape, "dtype": "int64"}, clean.tobytes())
        header, raw = self._pipe.receive()
        self.count, self.errors = header["count"], header["errors"]
        if "error" not in header:
            rewards = np.frombuffer(raw, np.float32, len(clean))
            return rewards.copy(), np.frombuffer(raw, np.int8, offset=rewards.nbytes).copy()
        if header["error"] == "BudgetExhausted":
            raise BudgetExhausted(header["asked"], self.left, self.budget)
        raise BadTokens(header["message"])

    def close(self) -> None:
        """Do nothing: the process that holds the ledger closes it."""


def main() -> None:
    """Read the order, let the agent learn, and send every policy back."""
    outgoing = os.fdopen(os.dup(1), "wb")
    incoming = os.fdopen(os.dup(0), "rb")
    # The pipe moves to other file descriptors: what an agent prints must not get between the frames, and an agent that
    # reads from standard input must not take one.
    os.dup2(2, 1)
    with open(os.devnull) as nothing:  # noqa: PTH123 (a device)
        os.dup2(nothing.fileno(), 0)
    pipe = Frames(incoming, outgoing)
    order, _ = pipe.receive()
    sys.path += [entry for entry in order["path"] if entry not in sys.path]
    torch.set_num_threads(order["threads"])
    try:
        _learn(order, pipe, Path(sys.argv[1]))
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        pipe.send({"event": "error", "error": message, "traceback": traceback.format_exc()})


def _learn(order: dict[str, Any], pipe: Frames, scratch: Path) -> None:
    problem = _problem(order, pipe)
    oracle = RemoteOracle(problem, order["budget"], order["feedback"], pipe)
    agent = make_agent(order["spec"]["agent"], order["spec"]["settings"])
    rng = np.random.default_rng()
    rng.bit_generator.state = order["rng"]
    clock = Clock()
    policies = iter(agent.learn(problem, cast(Oracle, oracle), rng))
    before: Policy | None = None
    for number in range(sys.maxsize):
        with clock:
            try:
                policy = next(policies)
            except (StopIteration, BudgetExhausted):
                break
            except BadPolicy as error:
                raise error.of(f"{agent.name} at NRE {oracle.count}: a policy of its cannot be used") from error
        tally = _tally(agent, clock)
        # An agent may yield one object several times in a row, which is then stored and sent only once.
        if policy is not before:
            save_policy(scratch / f"{number % 2}.safetensors", policy)
            tally["path"] = str(scratch / f"{number % 2}.safetensors")
        before = policy
        pipe.send({"event": "policy", **tally})
        pipe.receive()  # the harness answers when it has read the policy and, at a place of the grid, measured it
    pipe.send({"event": "end", **_tally(agent, clock)})


def _tally(agent: Any, clock: Clock) -> dict[str, Any]:
    return {
        "wall": clock.wall,
        "cpu": clock.cpu,
        "peak_mb": peak_memory_mb(),
        "work": [COST.sampled, COST.scored, COST.trained, COST.in_torch],
        "reported": {name: float(value) for name, value in getattr(agent, "reported", {}).items()},
    }


def _problem(order: dict[str, Any], pipe: Frames) -> Problem:
    def allowed(prefix: Tokens) -> NDArray[np.int8]:
        pipe.send({"event": "mask", "shape": prefix.shape}, np.ascontiguousarray(prefix).tobytes())
        return np.frombuffer(pipe.receive()[1], np.int8).reshape(len(prefix), -1).copy()

    def base() -> Policy:
        policy = load_policy_file(order["base"])
        device = order["spec"]["device"]
        return policy if device == "cpu" else policy.to(device)  # type: ignore[attr-defined]

    def grammar() -> Automaton:
        return automaton_of(load_policy_file(order["grammar"]).following)  # type: ignore[attr-defined]

    given = order["problem"]
    types = tuple(FailureType(*one) for one in given["failure_types"])
    words = given["vocabulary"]  # a number stays one; its decoder is code, and stays in the other process
    fields = given | {"vocabulary": words if isinstance(words, int) else tuple(words), "failure_types": types}
    return Problem(
        **fields, base=base, allowed=allowed if order["masked"] else None, grammar=grammar if order["grammar"] else None
    )


if __name__ == "__main__":
    main()
