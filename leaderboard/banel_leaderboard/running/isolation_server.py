"""The harness's side of `--isolate`: the agent learns in a process of its own, and the reward stays in this one.

The agent's process holds the Problem and a pipe. The Task, its reward and the ledger are only in this process. The two
exchange frames over two pipes (banel_envs.files.frames). Tokens and rewards travel as raw arrays and policies as
safetensors files, so nothing is ever unpickled. The agent's process imports the agent and sends its questions. This
process answers them from the one Oracle and measures the policies that come back. The questions, the ledger and the
record are the same as without `--isolate`.
Where the operating system can do it (see isolation_wall.py), the agent's process also cannot open the files that hold
answers.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from banel_agents.base import Agent
from banel_envs import Oracle
from banel_envs.errors import BadTokens, BanelError, BudgetExhausted, FrameBroken
from banel_envs.files.frames import Frames
from banel_envs.policies import COST, Excluding, Policy, UniformGrammar, load_policy_file, save_policy
from banel_envs.policies.grammar import table_of
from banel_leaderboard.records.spec import Spec
from banel_leaderboard.running import isolation_wall
from banel_leaderboard.running.machine import threads


class AgentFailed(BanelError):
    """The agent's process raised or ended before its run did."""


def isolated_policies(
    spec: Spec,
    folder: Path,
    closed: Sequence[Path],
    agent: Agent,
    oracle: Oracle,
    rng: np.random.Generator,
    clock: Any,
) -> Iterator[Policy]:
    """The policies of an agent that learns in another process, as `learn` itself would yield them.

    Args:
        spec: the run.
        folder: the run's folder, which the other process cannot open.
        closed: other files and folders that it cannot open.
        agent: the agent in this process, which does not learn; it only takes over what the other one reports.
        oracle: answers the questions of the other process.
        rng: its state is sent to the other process, whose agent draws from it.
        clock: takes over the times and token counts of the other process.

    Raises:
        AgentFailed: the agent raised, or its process ended before the run did.
    """
    with tempfile.TemporaryDirectory() as scratch:
        order = {"spec": _told(spec), "rng": _state(rng), **_describe(oracle, Path(scratch))}
        process = _start([*hidden(spec, folder), *closed], scratch)
        if process.stdin is None or process.stdout is None:  # cannot happen with PIPE; the type checker does not know
            raise AgentFailed("the agent's process has no pipes")
        pipe = Frames(process.stdout, process.stdin)
        try:
            pipe.send(order)
            yield from _serve(pipe, agent, oracle, clock)
        except FrameBroken as error:
            with contextlib.suppress(subprocess.TimeoutExpired):  # the process may still live, with its pipe closed
                process.wait(timeout=5)
            raise AgentFailed(
                f"the agent's process ended before the run did, with exit status {process.returncode}"
            ) from error
        finally:
            # The agent may still compute or hang: the run ends with its budget, whatever the agent does then.
            process.kill()
            process.wait()
            with contextlib.suppress(BrokenPipeError):  # closing flushes the pipe, and nobody reads it any more
                process.stdin.close()
            process.stdout.close()


def hidden(spec: Spec, folder: Path) -> list[Path]:
    """The folders that hold answers to a run's questions, and so are kept from its agent.

    These are the folder of all runs of its task under the same `--out`, the folder of an oracle that answers by files,
    and the folder of the run that it inherits from.
    """
    others = (None if spec.oracle is None else spec.oracle.removeprefix("file:"), spec.inherit)
    return [folder.parents[2], *(Path(other) for other in others if other is not None)]


def _start(hidden: list[Path], scratch: str) -> subprocess.Popen[bytes]:
    """Start the agent's process, which keeps its temporary files in `scratch`."""
    command = [sys.executable, "-P", "-m", "banel_leaderboard.running.isolation_agent", scratch]  # -P: see sweep.py
    if isolation_wall.version():
        command = isolation_wall.behind(hidden, [scratch], command)
    else:
        warnings.warn(isolation_wall.MISSING, RuntimeWarning, stacklevel=2)
    # The usual folder for temporary files may be closed to the process, which PyTorch and others want to write to.
    environment = os.environ | {"TMPDIR": scratch}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


def _told(spec: Spec) -> dict[str, Any]:
    """The fields of a Spec that the other process needs; none of them is a path to an answer."""
    return {"agent": spec.agent, "settings": dict(spec.settings), "device": spec.device}


def _serve(pipe: Frames, agent: Agent, oracle: Oracle, clock: Any) -> Iterator[Policy]:
    policy: Policy | None = None
    while True:
        header, raw = pipe.receive()
        match header["event"]:
            case "ask":
                pipe.send(*_answer(oracle, header, raw))
            case "mask":
                prefix = np.frombuffer(raw, np.int64).reshape(header["shape"])
                pipe.send({}, oracle.problem.action_mask(prefix).tobytes())
            case "policy":
                _take_over(header, agent, clock)
                if "path" in header or policy is None:  # without a path the policy has not changed since the last one
                    policy = _rescored(load_policy_file(header["path"], finite=False), policy)
                yield policy
                pipe.send({})
            case "end":
                _take_over(header, agent, clock)
                return
            case _:
                failure = AgentFailed(header["error"])
                failure.add_note(header["traceback"])  # log.txt then holds the traceback too
                raise failure


def _rescored(policy: Policy, last: Policy | None) -> Policy:
    """The policy, with the log-probabilities of its excluded set computed here, batch by batch as its agent did.

    The agent's process could claim any mass for the set that a policy excludes, so this process computes the mass itself.
    In float32 the result depends on which sequences are scored together. So only the sequences that were not in the
    last policy's set are scored, in one batch; the others keep their log-probabilities. A policy of another kind, or one
    whose set does not begin with the last policy's set, is returned as it is.
    """
    if not isinstance(policy, Excluding) or not isinstance(last, Excluding):
        return policy
    known = len(last.excluded)
    if not np.array_equal(policy.excluded[:known], last.excluded):
        return policy
    new = policy.policy.log_prob(policy.excluded[known:])
    return Excluding(policy.policy, policy.excluded, np.concatenate((last.excluded_log_probs, new)))


def _answer(oracle: Oracle, header: dict[str, Any], raw: bytes) -> tuple[dict[str, Any], bytes]:
    """The rewards, with the types behind them where they are told, or one of the two errors that an agent may catch.

    Any other error is raised here and ends the run.
    """
    tokens = np.frombuffer(raw, header["dtype"]).reshape(header["shape"])
    try:
        told = oracle.typed(tokens) if oracle.feedback == "typed" else (oracle(tokens),)
    except (BudgetExhausted, BadTokens) as error:
        said = {"error": type(error).__name__, "message": str(error), "asked": len(tokens)}
        return {**said, "count": oracle.count, "errors": oracle.errors}, b""
    return {"count": oracle.count, "errors": oracle.errors}, b"".join(part.tobytes() for part in told)


def _take_over(header: dict[str, Any], agent: Agent, clock: Any) -> None:
    clock.wall, clock.cpu = header["wall"], header["cpu"]
    clock.peak_mb = max(clock.peak_mb, header["peak_mb"])
    begun = (clock.sampled, clock.scored, clock.trained, clock.in_torch)
    COST.sampled, COST.scored, COST.trained, COST.in_torch = (
        before + spent for before, spent in zip(begun, header["work"], strict=True)
    )
    agent.reported = header["reported"]  # type: ignore[attr-defined]


def _describe(oracle: Oracle, folder: Path) -> dict[str, Any]:
    """What the other process must know of the oracle, as JSON; the base policy is a file whose path is given."""
    problem = oracle.problem
    base = folder / "base.safetensors"
    save_policy(base, problem.base_policy())
    grammar = folder / "grammar.safetensors"
    if problem.allowed is not None and problem.has_automaton:
        save_policy(grammar, UniformGrammar(table_of(problem.automaton()), problem.T, problem.end))
    return {
        "problem": problem.facts() | {"failure_types": problem.failure_types},
        "masked": problem.allowed is not None,
        "base": str(base),
        "grammar": str(grammar) if grammar.exists() else None,
        "budget": oracle.budget,
        "threads": threads(),  # other threads sum float32 in another order, and that changes the run
        "feedback": oracle.feedback,
        "path": [entry for entry in sys.path if entry],
    }


def _state(rng: np.random.Generator) -> Any:
    """A PCG64 generator's state as JSON. Its integers have more than 64 bits, and JSON keeps all of them."""
    return rng.bit_generator.state
