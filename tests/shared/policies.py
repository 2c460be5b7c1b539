"""Small policies of every kind, and some of no kind of this package, for the tests of policies and of their measures."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from banel_envs import Problem
from banel_envs.policies import Excluding, Masked, Mixture, Repeating, Tempered, Uniform, UniformGrammar
from banel_envs.policies.composed.filtered import Filtered
from banel_envs.policies.composed.guided import Guided
from banel_envs.policies.language.prompted_policy import PromptedPolicy
from banel_envs.policies.networks.gru import GRU, GRUConfig
from banel_envs.policies.networks.transformer import Transformer, TransformerConfig
from banel_envs.policies.torch_policy import TorchPolicy
from banel_envs.testing import sequences

torch.set_num_threads(1)  # networks this small only wait for each other

V, T = 4, 4
ENDS = [V - 1, None]


def problem(end):
    return Problem("test/Policy-v0", ("a", "b", "c", "$"), T, 1, lambda: Uniform(V, T, end), end=end)


@cache
def space(end):
    return sequences(problem(end))


def network(end, seed=0, temperature=1.0):
    net = Transformer(TransformerConfig(V, T, width=16, layers=2, heads=2))
    net.initialise(np.random.default_rng(seed))
    with torch.no_grad():
        net.head.weight.mul_(3)  # away from uniform
    return TorchPolicy(net.eval(), end, temperature)


def prompted(end, prompts=((0, 2, 1),), temperature=1.0):
    net = Transformer(TransformerConfig(V, len(prompts[0]) + T, width=16, layers=2, heads=2))
    net.initialise(np.random.default_rng(4))
    return PromptedPolicy(net.eval(), end, prompts, T, temperature)


def excluding(policy, end, k=9):
    rows = np.random.default_rng(5).choice(len(space(end)), k, replace=False)
    return Excluding(policy, space(end)[rows])


# After "a" no "a" follows, and what begins with "b" goes on with "a" never and with "b" any time; state 0 is the empty
# sequence's. With an end token, "$" is the fourth token.
FOLLOWING = np.array([[1, 2, 0, 3], [-1, 0, 0, 3], [-1, 2, 2, 3], [-1, -1, -1, 3]])


KINDS = {
    "uniform": lambda end: Uniform(V, T, end),
    "torch": lambda end: network(end),
    "torch in float64": lambda end: network(end).double(),
    "torch at a temperature": lambda end: network(end, temperature=0.5),
    "tempered": lambda end: Tempered(network(end), 1.7),
    "mixture": lambda end: Mixture([network(end), network(end, 1), Uniform(V, T, end)]),
    "mixture with a point": lambda end: Mixture([network(end), Repeating(space(end)[17], V)]),
    "excluding": lambda end: excluding(network(end), end),
    "excluding nothing": lambda end: excluding(network(end), end, 0),
    "excluding from a mixture": lambda end: excluding(Mixture([network(end), Uniform(V, T, end)]), end),
    "mixture of excluding": lambda end: Mixture([excluding(network(end), end), Uniform(V, T, end)]),
    "repeating": lambda end: Repeating(space(end)[17], V),
    "uniform over a grammar": lambda end: UniformGrammar(FOLLOWING, T, end),
    "masked": lambda end: Masked(network(end), FOLLOWING),
    "prompted": prompted,
    "several prompts": lambda end: prompted(end, ((0, 1), (2, 0), (1, 1)), 0.7),
    "excluding after a prompt": lambda end: excluding(prompted(end), end),
    "guided": lambda end: Guided(network(end), network(end, 1), 0.7),
    "guided within a grammar": lambda end: Masked(Guided(network(end), network(end, 1), 2.0), FOLLOWING),
    "mixture with a grammar": lambda end: Mixture([Masked(network(end), FOLLOWING), UniformGrammar(FOLLOWING, T, end)]),
    "excluding from a grammar": lambda end: excluding(UniformGrammar(FOLLOWING, T, end), end),
}


def filtered(end, proposed=4_000, claimed=1.0):
    """Of a network against another, its normaliser counted, times `claimed`."""
    base, phi = network(end), network(end, 1)
    tokens = base.sample(proposed, np.random.default_rng(8))
    passed = (base.log_prob(tokens) - phi.log_prob(tokens) >= 0).sum()
    return Filtered(base, [phi], [0.0], proposed, round(float(passed) * claimed))


def recurrent(end, seed=0):
    net = GRU(GRUConfig(V, T, width=8))
    net.initialise(np.random.default_rng(seed))
    return TorchPolicy(net.eval(), end)


class Foreign:
    """A policy of no kind of this package: a network behind the three methods."""

    def __init__(self, end, inner=None):
        self.inner, self.end = network(end) if inner is None else inner, end

    def sample(self, n, rng):
        return self.inner.sample(n, rng)

    def log_prob(self, tokens):
        return self.inner.log_prob(tokens)

    def next_log_probs(self, prefix):
        return self.inner.next_log_probs(prefix)


class Stepped(Uniform):
    """A subclass that only has another step."""

    def step(self, last, position, state):
        log_probs, state = super().step(last, position, state)
        skewed = log_probs + np.arange(self.vocabulary)
        return skewed - np.log(np.exp(skewed).sum(axis=1, keepdims=True)), state


HONEST = {
    **KINDS,
    "filtered": filtered,
    "recurrent": recurrent,
    "foreign": Foreign,
    "foreign mixture": lambda end: Foreign(end, Mixture([network(end), Uniform(V, T, end)])),
    "excluding from a foreign one": lambda end: excluding(Foreign(end), end),
    "a subclass with a step": lambda end: Stepped(V, T, end),
}
