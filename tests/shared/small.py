"""Small tasks and agents for the tests of the harness and the command, found by "tests.shared.small:name"."""

from __future__ import annotations

import gc
import os
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banel_agents.base import ask
from banel_envs import Oracle, Problem, Task
from banel_envs.policies import COST, Mixture, Policy, Repeating, Tempered
from banel_envs.problem import Tokens
from banel_envs.testing import sequences
from tests.shared.runs import SUCCESSES, tiny

V, T, END = 5, 4, 4  # of the network task
HIT = np.array([3, 3, 3])
MISS = np.array([0, 0, 0])


def task() -> Task:
    """64 sequences, 2 of them successes; the base policy is uniform."""
    return tiny()


def in_pairs() -> Task:
    """`task` with a grammar: the first two tokens are the same."""

    def allowed(prefix: Tokens) -> NDArray[np.int8]:
        mask: NDArray[np.int8] = np.ones((len(prefix), 4), np.int8)
        if prefix.shape[1] == 1:
            mask[:] = np.eye(4, dtype=np.int8)[prefix[:, 0]]
        return mask

    plain = tiny()
    return replace(plain, problem=replace(plain.problem, allowed=allowed))


def unlisted() -> Task:
    """`task` with its successes kept in the reward alone."""
    return replace(tiny("test/Unlisted-v0"), successes=lambda: None)


class Counted:
    """A reward that counts the rows it is asked."""

    def __init__(self, reward: Callable[[Tokens], Any]) -> None:
        self.rows, self._reward = 0, reward

    def __call__(self, tokens: Tokens) -> Any:
        self.rows += len(tokens)
        return self._reward(tokens)


PAID = Counted(tiny().reward)


def paid() -> Task:
    """A task whose reward is paid for."""
    return Task(tiny("test/Paid-v0").problem, PAID, free_evaluation=False)


def graded() -> Task:
    """Real values with a threshold: the mean token, a success from 2.5 of 3 on."""
    return Task(tiny("test/Graded-v0").problem, lambda tokens: tokens.mean(axis=1), threshold=2.5)


def hopeless() -> Task:
    """A task without any success."""
    problem = tiny("test/Hopeless-v0").problem
    return Task(problem, lambda tokens: np.zeros(len(tokens), np.int8), successes=lambda: np.empty((0, 3), np.int64))


def network_problem(id: str = "test/Network-v0", budget: int = 60) -> Problem:
    """Words of up to 4 letters, written by a transformer of 700 weights."""
    return Problem(id, tuple("abcd$"), T, budget, base=partial(_network, 0), end=END)


def _network(seed: int) -> Policy:
    from banel_envs.policies.networks.transformer import Transformer, TransformerConfig
    from banel_envs.policies.torch_policy import TorchPolicy

    network = Transformer(TransformerConfig(V, T, width=8, layers=1, heads=1))
    network.initialise(np.random.default_rng(seed))
    return TorchPolicy(network.eval(), END)


def three_letters(tokens: Tokens) -> NDArray[np.int8]:
    """Success: "d" at least three times."""
    hits: NDArray[np.int8] = ((tokens == 3).sum(axis=1) >= 3).astype(np.int8)
    return hits


def network() -> Task:
    """The network task; its 17 successes are listed."""
    problem = network_problem()
    every = sequences(problem)
    hits = every[three_letters(every) == 1]
    return Task(problem, three_letters, successes=lambda: hits, witness=lambda: hits[0], digest="n" * 64)


def unlisted_network() -> Task:
    """`network` with its successes kept in the reward alone."""
    return replace(network(), problem=network_problem("test/UnlistedNetwork-v0"), successes=lambda: None)


@dataclass(frozen=True)
class Config:
    """One knob of every built-in type."""

    batch: int = 10
    rate: float = 0.5
    form: str = "plain"
    loud: bool = False


class Small:
    """What the agents here share."""

    name = "small"
    Config = Config

    def __init__(self, config: Any = None) -> None:
        self.config = config or Config()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Base policy, tempered by chance after every question."""
        base = problem.base_policy()
        policy: Policy = base
        while oracle.left:
            yield policy
            ask(oracle, policy.sample(self.config.batch, rng))
            policy = Tempered(base, 1 + rng.random())  # type: ignore[arg-type]
        yield policy


class Watches(Small):
    """Reports whether the harness moved a global generator or a tally of tokens while it had the policy."""

    name = "watches"

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self.reported: dict[str, float] = {"moved": 0.0}

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        for policy in super().learn(problem, oracle, rng):
            before = _globals()
            yield policy
            self.reported["moved"] += before != _globals()


def _globals() -> tuple[str, ...]:
    import torch

    with np.printoptions(threshold=1_000):
        return tuple(map(repr, (random.getstate(), np.random.get_state(), torch.get_rng_state().tolist(), COST)))


class Raises(Small):
    """Raises after two questions, as long as the file "broken" is in the working folder."""

    name = "raises"

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        for k, policy in enumerate(super().learn(problem, oracle, rng)):
            yield policy
            if k == 2 and Path("broken").exists():
                raise ArithmeticError("the agent lost count")


class Silent(Small):
    """Yields nothing."""

    name = "silent"

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        ask(oracle, problem.base_policy().sample(self.config.batch, rng))
        yield from ()


class Overspends(Small):
    """Never looks at what is left."""

    name = "overspends"

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        policy = problem.base_policy()
        yield policy
        while True:
            oracle(policy.sample(7, rng))


class Scripted(Small):
    """Asks the misses and hits of `SCRIPT`, 10 at a time."""

    name = "scripted"
    # 1-12: every one of 12 sequences that open with 0; 13: a success; 14: another; 15: the first again; then misses.
    SCRIPT = np.concatenate(
        ([[0, a, b] for a in range(4) for b in range(3)], SUCCESSES, SUCCESSES[:1], np.tile(MISS, (45, 1)))
    )

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        yield problem.base_policy()
        for start in range(0, 60, 10):
            ask(oracle, self.SCRIPT[start : start + 10])


class Steps(Small):
    """Yields a policy that succeeds at k/8 for each k of `LEVELS`, at NRE 0, 9, 18, 27, 36, 45, 54."""

    name = "steps"
    LEVELS = (0, 1, 2, 3, 4, 5, 2)

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        for k in self.LEVELS:
            yield Mixture([Repeating(HIT, problem.V)] * k + [Repeating(MISS, problem.V)] * (8 - k))
            oracle(np.tile(MISS, (min(9, oracle.left), 1)))


class Unmoved(Small):
    """Yields one and the same policy again and again."""

    name = "unmoved"

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        policy = problem.base_policy()
        while oracle.left:
            yield policy
            ask(oracle, policy.sample(self.config.batch, rng))


class Quiet(Small):
    """Asks seven sequences, and then only yields."""

    name = "quiet"

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        policy = problem.base_policy()
        yield policy
        oracle(policy.sample(7, rng))
        while True:
            yield policy


class Looks(Small):
    """Reports how many tasks, oracles and task modules it finds in its process, prints, and reads what it can."""

    name = "looks"

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self.reported: dict[str, float] = {}

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        self.reported["tasks"] = sum(type(thing) is Task for thing in gc.get_objects())
        self.reported["oracles"] = sum(type(thing) is Oracle for thing in gc.get_objects())
        self.reported["task modules"] = sum(name.startswith("banel_envs.tasks.") for name in sys.modules)
        self.reported["input"] = len(sys.__stdin__.read()) if Path(sys.argv[0]).stem == "isolated" else 0  # type: ignore[union-attr]
        print("printed by an agent, with\nbytes", b"\x00" * 3)
        sys.stdout.flush()
        sys.__stdout__.write("more\n" * 2_000)  # type: ignore[union-attr]
        yield from super().learn(problem, oracle, rng)


class Malformed(Small):
    """Meets BadTokens and BudgetExhausted, and reports how they came."""

    name = "malformed"

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self.reported: dict[str, float] = {}

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        from banel_envs.errors import BadTokens, BudgetExhausted

        yield problem.base_policy()
        for name, tokens, error in (
            ("bad", np.full((2, problem.T), problem.V), BadTokens),
            ("over", np.tile(MISS, (1_000, 1)), BudgetExhausted),
        ):
            try:
                oracle(tokens)
            except error as raised:
                limits = (raised.asked, raised.left, raised.budget) if isinstance(raised, BudgetExhausted) else ()
                self.reported[name] = float(oracle.count == 0 and limits in ((), (1_000, 60, 60)))
        yield from super().learn(problem, oracle, rng)


class Dies(Small):
    """Its process ends at the third question, without a word."""

    name = "dies"

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        import os

        for k, policy in enumerate(super().learn(problem, oracle, rng)):
            yield policy
            if k == 2 and Path("broken").exists():
                os._exit(7)


class Exits(Small):
    """Ends its process at once."""

    name = "exits"

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        os._exit(7)
        yield problem.base_policy()


class Heeds(Small):
    """Asks a sequence that says how many of its last answers were withheld."""

    name = "heeds"

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        yield problem.base_policy()
        withheld = int(np.isnan(oracle(np.full((2, problem.T), 3))).sum())
        oracle(np.full((2, problem.T), withheld))


def little(agent: str) -> dict[str, Any]:
    """Settings of a shipped agent that fit a budget of 60."""
    from banel_agents import make_agent

    wanted = {"batch": 10, "pool": 60, "candidates": 60, "minibatch": 10}
    names = {f.name for f in fields(make_agent(agent).Config)} if ":" not in agent else set()
    return {name: value for name, value in wanted.items() if name in names}


def only_run(out: Path) -> Path:
    """The one run folder under `out`."""
    (ledger,) = out.rglob("ledger.jsonl")
    return ledger.parent


def tree(folder: Path) -> dict[str, bytes]:
    """Every file and its bytes."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
