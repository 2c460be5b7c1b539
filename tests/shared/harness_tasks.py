"""Own tasks and agents for the tests of the harness and the command, found as "tests.shared.harness_tasks:NAME"."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import partial

import numpy as np

from banel_envs import Problem, Task
from banel_envs.policies import Mixture, Repeating, Uniform
from banel_envs.pool import Pool, Proposal

HERE = "tests.shared.harness_tasks:"
V, T, BUDGET = 4, 3, 60
SUCCESSES = np.array([[3, 3, 3], [3, 3, 2]])  # of 64 sequences: the uniform policy succeeds at 1/32
UNIFORM = 2 / 64
PAID = []  # every sequence that the paid task's reward was asked for
FAULT = {"at": None, "error": None}  # the question before which Steps raises
HEARD = []  # the answers that Steps got, batch by batch
SCRIPT = []  # what Scripted asks, batch by batch
BANEL = {"batch": 16, "pool": 100, "phi_epochs": 1.0, "minibatch": 16}  # seconds, not minutes


def judge(tokens, calls=None):
    if calls is not None:
        calls.extend(map(tuple, tokens.tolist()))
    return (tokens[:, None] == SUCCESSES).all(axis=2).any(axis=1)


def tiny(id, **parts):
    masked = parts.pop("allowed", None)
    problem = Problem(id, tuple("abcd"), T, BUDGET, base=lambda: Uniform(V, T, None), allowed=masked)
    return Task(problem, **{"reward": judge, "successes": lambda: SUCCESSES, "digest": "d" * 64} | parts)


def build():
    """Two successes among 64 sequences."""
    return tiny("own/Tiny-v0")


def no_set():
    """The same reward, its successes not enumerable."""
    return tiny("own/NoSet-v0", successes=lambda: None)


def pooled():
    """The same reward, its successes known to a pool that holds one of them; 20 samples count, 2,000 at the end."""
    pool = Pool((Proposal(Repeating(SUCCESSES[0], V), 50, SUCCESSES[:1].repeat(50, axis=0)),), samples=20, final=2_000)
    return tiny("own/Pooled-v0", successes=lambda: None, pool=lambda: pool)


def paid():
    """The same reward, never to be called off the meter."""
    return tiny("own/Paid-v0", successes=lambda: None, free_evaluation=False, reward=partial(judge, calls=PAID))


def masked():
    """Sequences that begin with the token 0 are malformed."""

    def allowed(prefix):
        mask = np.ones((len(prefix), V), np.int8)
        if prefix.shape[1] == 0:
            mask[:, 0] = 0
        return mask

    return tiny("own/Masked-v0", allowed=allowed)


def closed():
    """A reward that raises."""

    def reward(tokens):
        raise OSError("the laboratory is closed")

    return tiny("own/Closed-v0", reward=reward)


def network():
    """A transformer as the base policy, for the agents that train one; about one sample in ten succeeds."""
    import torch

    from banel_envs.policies.networks.transformer import Transformer, TransformerConfig
    from banel_envs.policies.torch_policy import TorchPolicy

    net = Transformer(TransformerConfig(V, T, width=8, layers=1, heads=2))
    net.initialise(np.random.default_rng(3))
    with torch.no_grad():
        net.head.weight.mul_(2.0)
    base = TorchPolicy(net.eval(), None)
    problem = Problem("own/Network-v0", tuple("abcd"), T, 64, base=base.clone)
    return Task(problem, judge, lambda: SUCCESSES, digest="e" * 64)


def not_a_task():
    return 3


def raises():
    raise RuntimeError("no reward machine")


@dataclass(frozen=True)
class StepsConfig:
    batch: int = 6


class Steps:
    """Asks the uniform policy's samples; after k batches it yields k parts of a success in one of the base."""

    name = "steps"
    Config = StepsConfig

    def __init__(self, config=None):
        self.config = config or StepsConfig()
        self.reported = {}

    def learn(self, problem, oracle, rng):
        base = problem.base_policy()
        yield base
        members = [base]
        while oracle.left:
            if FAULT["at"] == oracle.count:
                raise FAULT["error"]
            HEARD.append(oracle(base.sample(min(self.config.batch, oracle.left), rng)))
            members.append(Repeating(SUCCESSES[len(members) % 2], V))
            self.reported = {"members": len(members)}
            yield Mixture(list(members))


def rate_after(batches):
    """The exact success rate of the policy that Steps yields after so many batches."""
    return (UNIFORM + batches) / (1 + batches)


class Overdraws(Steps):
    """Never looks at what is left."""

    name = "overdraws"

    def learn(self, problem, oracle, rng):
        yield problem.base_policy()
        while True:
            oracle(problem.base_policy().sample(7, rng))


class Silent(Steps):
    name = "silent"

    def learn(self, problem, oracle, rng):
        oracle(np.zeros((1, T), int))
        yield from ()


class Early(Steps):
    """Asks before its first yield."""

    name = "early"

    def learn(self, problem, oracle, rng):
        oracle(np.zeros((2, T), int))
        yield problem.base_policy()


class Unmade(Steps):
    """Fails before its first question, unless it asks six at once."""

    name = "unmade"

    def learn(self, problem, oracle, rng):
        yield problem.base_policy()
        if self.config.batch != 6:
            raise ValueError("it asks six at once")
        yield from super().learn(problem, oracle, rng)


class Banel(Steps):
    """Has the name of an agent that ships."""

    name = "banel"


class Scripted(Steps):
    """Asks SCRIPT and stops."""

    name = "scripted"

    def learn(self, problem, oracle, rng):
        yield problem.base_policy()
        for batch in SCRIPT:
            oracle(np.array(batch))


class Renews(Steps):
    """Asks SCRIPT, and yields the base policy as a new object after each batch."""

    name = "renews"

    def learn(self, problem, oracle, rng):
        yield problem.base_policy()
        for batch in SCRIPT:
            oracle(np.array(batch))
            yield problem.base_policy()


class Dies(Steps):
    """Its process ends in the middle."""

    name = "dies"

    def learn(self, problem, oracle, rng):
        yield problem.base_policy()
        oracle(SUCCESSES)
        os._exit(3)


class Prints(Steps):
    """Talks on every stream it has."""

    name = "prints"

    def learn(self, problem, oracle, rng):
        for policy in super().learn(problem, oracle, rng):
            print("not a frame", flush=True)
            os.write(1, b'{"event": "end"}\n')
            yield policy


class Twice(Steps):
    """Yields the same policy again and again: it is measured once."""

    name = "twice"

    def learn(self, problem, oracle, rng):
        base = problem.base_policy()
        while oracle.left:
            yield base
            oracle(base.sample(5, rng))


class Rough(Steps):
    """Its policies compute a little differently in batches of other sizes, and say so."""

    name = "rough"

    def learn(self, problem, oracle, rng):
        for k, policy in enumerate(super().learn(problem, oracle, rng)):
            policy.tolerance = (0.1, 0.3, 0.2)[k % 3]
            yield policy


class Catches(Steps):
    """Reports which errors it met, by class and text."""

    name = "catches"

    def learn(self, problem, oracle, rng):
        from banel_envs.errors import BadTokens, BudgetExhausted

        yield problem.base_policy()
        met = {}
        for name, tokens in {
            "shape": np.zeros((1, T + 1), int),
            "range": [[0, 0, V]],
            "float": np.zeros((1, T)),
        }.items():
            try:
                oracle(tokens)
            except BadTokens as error:
                met[name] = float(len(str(error)))
        met["nothing"] = float(len(oracle(np.zeros((0, T), int))))
        oracle(SUCCESSES)
        try:
            oracle(np.zeros((BUDGET, T), int))
        except BudgetExhausted as error:
            met |= {"asked": error.asked, "left": error.left, "budget": error.budget, "count": oracle.count}
        self.reported = met
        yield problem.base_policy()


class Masks(Steps):
    """Reports what the grammar allows and how many answers were withheld."""

    name = "masks"

    def learn(self, problem, oracle, rng):
        yield problem.base_policy()
        for prefix, ask in ((np.zeros((1, 0), int), [[0, 1, 2]]), (np.ones((1, 2), int), SUCCESSES)):
            withheld = np.isnan(oracle(ask)).sum()
            self.reported = {"allowed": float(problem.action_mask(prefix).sum()), "withheld": float(withheld)}
            yield problem.base_policy()


class Loses(Steps):
    name = "loses"

    def learn(self, problem, oracle, rng):
        yield problem.base_policy()
        raise KeyError("lost")


class Reads(Steps):
    """Reads its standard input, where there is nothing for it."""

    name = "reads"

    def learn(self, problem, oracle, rng):
        if sys.stdin.read() != "":
            raise ValueError("it took what was not its own")
        yield from super().learn(problem, oracle, rng)
