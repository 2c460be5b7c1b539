"""Agents that train need a Trainable and no network of this package; and what they do where the vocabulary is large."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from banel_agents import make_agent
from banel_agents.declared import not_samples
from banel_agents.novelty.rnd import Novelty, RNDConfig
from banel_agents.novelty.states import BUCKETS, States
from banel_agents.search.logistic import Features
from banel_envs import GenerationVectorEnv, Oracle, Problem, Task, as_sb3_vec_env
from banel_envs.errors import BadValue
from banel_envs.policies import Autoregressive, Policy, Trainable, Uniform
from banel_envs.problem import MOST_ONE_HOT
from tests.shared.beginnings import T, base, task

LARGE = 151_936
TRAINED = ("banel", "reinforce", "count", "rnd", "pseudo_count", "nsr", "npo", "unlikelihood", "grpo", "spo")
OTHERS = (
    "tempered_sft",
    "tempered",
    "negative_guidance",
    "soft_banel",
    "esrl",
    "kl_rl",
    "expert_iteration",
    "omission",
)


class Wrapped(Autoregressive):
    """A Trainable that is no TorchPolicy: it has the methods of one, and none of its attributes."""

    def __init__(self, inner):
        self._inner = inner
        self.vocabulary, self.horizon, self.end = inner.vocabulary, inner.horizon, inner.end
        self.parameters, self.train, self.loss = inner.parameters, inner.train, inner.loss
        self.start, self.step, self.select = inner.start, inner.step, inner.select

    def start(self): ...

    def step(self, last, position, state): ...

    def select(self, state, rows): ...

    def _score_sorted(self, tokens, watch=None):
        return self._inner._score_sorted(tokens, watch)

    def parameters(self): ...

    def train(self, mode=True): ...

    def loss(self, tokens, weights=None): ...

    def clone(self):
        return Wrapped(self._inner.clone())

    def with_new_weights(self, rng):
        return Wrapped(self._inner.with_new_weights(rng))

    def tempered(self, temperature):
        return Wrapped(self._inner.tempered(temperature))


def asked(name, made, **settings):
    """All that an agent asks and how it rates what it asked at the end, under a small budget."""
    oracle = Oracle(made, budget=120)
    questions = []
    policies = list(make_agent(name, settings).learn(oracle.problem, oracle, np.random.default_rng(0)))
    for policy in (policies[0], policies[-1]):
        questions.append(policy.sample(50, np.random.default_rng(1)))
        questions.append(policy.log_prob(questions[-1]))
    return oracle.count, questions


def on(policy):
    """The tiny task with this base policy."""
    plain = task()
    return replace(plain, problem=replace(plain.problem, base=policy.clone))


def test_what_is_trainable():
    assert isinstance(base(), Trainable) and isinstance(Wrapped(base()), Trainable)
    assert isinstance(base(), Policy) and not isinstance(Uniform(2, 3, None), Trainable)


@pytest.mark.parametrize("name", TRAINED + OTHERS)
def test_any_trainable_will_do(name, monkeypatch):
    monkeypatch.setenv("BANEL_KERNEL", "torch")  # so that both are trained by PyTorch
    settings = {} if name in ("tempered",) else {"batch": 40}
    count, found = asked(name, on(Wrapped(base())), **settings)
    expected_count, expected = asked(name, on(base()), **settings)
    assert count == expected_count > 0
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["elliptical", "dp_novelty", "ppo"])
def test_who_reads_hidden_states_says_so(name):
    with pytest.raises(BadValue, match=r"is a Wrapped, and this agent reads the hidden states of a TorchPolicy"):
        asked(name, on(Wrapped(base())))


# --- a large vocabulary


def large(T=6, V=LARGE):
    return Problem("test/Large-v0", V, T, 100, lambda: Uniform(V, T, 0), end=0)


def failing(problem):
    return Task(problem, lambda tokens: np.zeros(len(tokens), np.int8))


def test_states_of_a_small_vocabulary_are_its_own_tokens():
    problem = task().problem
    states = States(problem, 2)
    assert states.size == T * (problem.V + 1)
    assert states.windows(np.array([[0, 1, 2, 3, 3, 3]])).tolist()[2] == [4, 1, 2, 4, 4, 4]


def test_states_of_a_large_vocabulary_are_buckets():
    problem = large()
    states = States(problem, 2)
    tokens = np.arange(1, LARGE - LARGE % 6 + 1)[: 6 * 25_000].reshape(-1, 6)
    windows = states.windows(tokens)
    seen = windows[windows < BUCKETS]
    assert states.size == 6 * (BUCKETS + 1)
    assert windows.max() == BUCKETS and windows.min() == 0
    counts = np.bincount(seen, minlength=BUCKETS)
    assert counts.max() < 1.1 * counts.mean()  # neighbours are spread evenly
    assert states.one_hot(windows[:3]).shape == (3, states.size)


def test_rnd_knows_what_it_saw_of_a_large_vocabulary():
    rng = np.random.default_rng(0)
    novelty = Novelty(large(), RNDConfig(), rng)
    known, new = rng.integers(1, LARGE, (2, 20, 6))
    for _ in range(60):
        novelty.learn(known)
    assert novelty.mean_errors(known).mean() < 0.5 * novelty.mean_errors(new).mean()


def test_who_needs_a_number_for_each_token_refuses_a_large_vocabulary():
    problem = large()
    oracle = Oracle(failing(problem), budget=50)
    for name in ("ppo", "maskable_ppo"):
        with pytest.raises(BadValue, match=r"V is 151,936, and PPO takes .* up to V = 4,096; use an agent"):
            next(iter(make_agent(name).learn(problem, oracle, np.random.default_rng(0))))
    with pytest.raises(BadValue, match=r"Stable-Baselines3 takes .* up to V = 4,096; use an agent"):
        as_sb3_vec_env(GenerationVectorEnv(problem, oracle, 2))
    with pytest.raises(BadValue, match=r"the classifier takes .* up to V = 4,096; use an agent"):
        Features(problem)
    assert oracle.count == 0


def test_the_declared_policy_is_checked_in_a_large_vocabulary():
    problem, rng = large(V=20_000), np.random.default_rng(0)
    base = problem.base_policy()
    honest = base.sample(60, rng)
    assert not_samples([(base, honest)], "base", problem, rng) is None
    alike = 7 + MOST_ONE_HOT * rng.integers(4, size=honest.shape)  # other tokens that share one number
    assert "pattern" in not_samples([(base, alike)], "base", problem, rng)
