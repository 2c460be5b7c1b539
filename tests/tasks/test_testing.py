"""check_task and check_policy accept what is sound and name what is not."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import pkgutil
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import banel_envs
from banel_envs import Problem, Task
from banel_envs.errors import BadValue, MissingExtra, RewardNotAsked
from banel_envs.policies import Repeating, Uniform
from banel_envs.testing import ContractBroken, check_policy, check_task
from banel_envs.testing.rewards import neighbours

V, T, END = 3, 3, 2
ABA = np.array([0, 1, 0])
PROBLEM = Problem("test/Sound-v0", ("a", "b", "$"), T, 9, partial(Uniform, V, T, END), end=END)


def reward(tokens):
    return (tokens == ABA).all(axis=1).astype(np.int8)


SOUND = Task(PROBLEM, reward, successes=lambda: ABA[None], witness=lambda: ABA)


def task(**changes):
    return dataclasses.replace(SOUND, **changes)


def with_problem(**changes):
    return task(problem=dataclasses.replace(PROBLEM, **changes))


def test_a_sound_task():
    check_task(SOUND)
    check_task(task(threshold=0.5, reward=lambda tokens: reward(tokens) * 0.7))
    check_task(task(successes=lambda: None))
    check_task(task(successes=lambda: None, witness=lambda: None), needs_witness=False)
    check_task(task(rows_at_once=7))
    check_task(task(reward=lambda tokens: iter([(k, k + 1, reward(tokens[k : k + 1])) for k in range(len(tokens))])))
    check_task(task(reward=fragile, on_error="failure"))


def fragile(tokens):
    """Raises on the sequences that begin with "b"."""
    if (tokens[:, 0] == 1).any():
        raise KeyError("b")
    return reward(tokens)


def test_the_task_that_the_readme_shows():
    """Its own words, run: README, "Bring your own oracle"."""
    text = (Path(__file__).parents[2] / "README.md").read_text()
    (code,) = re.findall(r"Save as `my_task.py`:\n\n```python\n(.*?)```", text, re.DOTALL)
    module: dict = {}
    exec(code, module)
    with pytest.warns(RewardNotAsked):
        check_task(module["build"]())
    check_task(module["build"](), spend=30)
    check_task(dataclasses.replace(module["build"](), free_evaluation=True), needs_witness=False)


class Bill:
    """A paid reward that counts what it is asked."""

    def __init__(self, answer=reward):
        self.answer, self.asked = answer, 0

    def __call__(self, tokens):
        self.asked += len(tokens)
        return self.answer(tokens)


@pytest.mark.parametrize("rows_at_once", [None, 1, 4])
@settings(max_examples=15, deadline=None)
@given(spend=st.integers(6, 400), known=st.booleans())
def test_of_a_paid_reward_no_more_is_asked_than_may_be_spent(rows_at_once, spend, known):
    bill = Bill()
    paid = task(reward=bill, free_evaluation=False, rows_at_once=rows_at_once, successes=lambda: None)
    check_task(paid if known else dataclasses.replace(paid, witness=lambda: None), 500, spend=spend)
    assert spend - 3 < bill.asked <= spend


@pytest.mark.parametrize(
    ("spend", "free", "message"),
    [(5, False, "at least 6"), (True, False, "at least 6"), (7.0, False, "at least 6"), (30, True, "is free")],
)
def test_what_cannot_be_spent(spend, free, message):
    with pytest.raises(BadValue, match=message):
        check_task(task(free_evaluation=free), spend=spend)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda t: np.zeros(len(t), np.int8), "its witness fails"),
        (lambda t: reward(t) * 1.0, "give int8"),
        (lambda t: np.ones(len(t), np.int8), "the same for everything tried: 1 known successes, 0 sequences"),
    ],
)
def test_a_paid_reward_that_is_broken_is_named(answer, message):
    with pytest.raises(ContractBroken, match=message):
        check_task(task(reward=answer, free_evaluation=False), spend=900)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([None, 0, 2]))
def test_neighbours_are_sequences_and_differ_in_one_token(seed, end):
    rng = np.random.default_rng(seed)
    problem = Problem("test/Beside-v0", ("a", "b", "c"), 4, 9, partial(Uniform, 3, 4, end), end=end)
    known = Uniform(3, 4, end).sample(1, rng)
    beside = problem.check_tokens(neighbours(problem, known, rng))
    assert len(np.unique(np.concatenate((known, beside)), axis=0)) == 1 + 2 * problem.lengths(known)[0]
    for row in beside:
        first = np.flatnonzero(row != known[0])[0]
        assert row[first] == end or (row[first + 1 :] == known[0, first + 1 :]).all()


def test_a_judge_that_is_not_installed_is_named():
    with pytest.raises(MissingExtra, match="judged by no-such-library"):
        check_task(task(judges=("no-such-library",)))


def test_a_paid_reward_is_not_asked():
    def paid(tokens):
        raise AssertionError("evaluated")

    with pytest.warns(
        RewardNotAsked, match=r"was not asked, so nothing of it was checked; check_task\(task, spend=300\)"
    ):
        check_task(task(reward=paid, free_evaluation=False))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda t: np.full(len(t), 0.5), "give int8"),
        (lambda t: np.full(len(t), np.nan), "give int8"),
        (lambda t: np.random.default_rng().integers(2, size=len(t)).astype(np.int8), "differently the second time"),
        (reward, "has no witness, and all else is sound.*needs_witness=False"),
    ],
)
def test_a_reward_is_checked_before_a_missing_witness(answer, message):
    unknown = task(reward=answer, successes=lambda: None, witness=lambda: None)
    with pytest.raises(ContractBroken, match=message):
        check_task(unknown)
    if answer is not reward:
        with pytest.raises(ContractBroken, match=message):
            check_task(dataclasses.replace(unknown, free_evaluation=False), spend=300)


class Moody:
    """Not a function of the sequences."""

    def __init__(self):
        self.calls = 0

    def __call__(self, tokens):
        self.calls += 1
        return reward(tokens) if self.calls % 3 else np.zeros(len(tokens), np.int8)


def vandal(tokens):
    answer = reward(tokens)
    tokens[:] = 0
    return answer


class Owner:
    """Reward and printer of one object: the printer leads to the reward."""

    def reward(self, tokens):
        return reward(tokens)

    def printer(self, tokens):
        return "x"


OWNER = Owner()
ONE_POLICY = Uniform(V, T, END)


def mask(token, **kind):
    return lambda prefix: np.ones((len(prefix), V), kind.get("dtype", np.int8)) * (np.arange(V) != token)


BROKEN = {
    "bad id": (with_problem(id="Sound"), "is not namespace/Name"),
    "no witness": (task(witness=lambda: None), "has no witness"),
    "witness fails": (task(witness=lambda: ABA[::-1] * 0, successes=lambda: None), "'aaa' .* fails"),
    "success fails": (task(successes=lambda: np.stack((ABA, ABA * 0))), "'aaa' .* fails"),
    "success twice": (task(successes=lambda: np.stack((ABA, ABA))), "holds a sequence twice"),
    "witness elsewhere": (task(successes=lambda: np.array([[0, 0, 0]])), "witness is not in its success set"),
    "illegal success": (task(witness=lambda: np.array([0, 2, 0]), successes=lambda: None), "after its end token"),
    "success forgotten": (
        task(reward=lambda t: reward(t) | (t == 1).all(axis=1).astype(np.int8)),
        "'bbb' succeeds and is not in its success set",
    ),
    "float reward": (task(reward=lambda t: reward(t) * 1.0), "float64 .* give int8"),
    "reward of 2": (task(reward=lambda t: reward(t) * np.int8(2)), "give int8"),
    "wrong shape": (task(reward=lambda t: reward(t)[:, None]), "give one a sequence"),
    "nan": (task(reward=lambda t: np.where(reward(t), 1, np.nan), threshold=1), "with NaN"),
    "moody": (task(reward=Moody()), "differently the second time|fails"),
    "by position": (
        task(reward=lambda t: reward(t) | (np.arange(len(t)) == 7).astype(np.int8), successes=lambda: None),
        "depends on the sequences beside it",
    ),
    "vandal": (task(reward=vandal), "changes the sequences"),
    "vandal in parts": (task(reward=lambda t: iter([(0, len(t), vandal(t))])), "changes the sequences"),
    "raises": (task(reward=fragile), 'raises KeyError.*on_error="failure"'),
    "short parts": (task(reward=lambda t: iter([(0, 1, [1])]), successes=lambda: None), "sequences unanswered"),
    "no headroom": (with_problem(base=lambda: Repeating(ABA, V)), "base policy always succeeds, in 1000 of 1000"),
    "constant": (
        task(reward=lambda t: np.ones(len(t), np.int8), successes=lambda: None),
        "the same for everything tried: 1 known successes, 6 sequences that differ",
    ),
    "shared policy": (with_problem(base=lambda: ONE_POLICY), "one object twice"),
    "mask of floats": (with_problem(allowed=mask(2, dtype=float)), "its mask is float64"),
    "mask too tight": (with_problem(allowed=mask(1)), "forbids position 1 of the success 'aba'"),
    "route by closure": (with_problem(allowed=lambda prefix, hidden=reward: mask(2)(prefix)), "leads to its reward"),
    "route by partial": (with_problem(printer=partial(print, reward)), "problem.printer.args.*leads to its reward"),
    "route by owner": (
        task(reward=OWNER.reward, problem=dataclasses.replace(PROBLEM, printer=OWNER.printer)),
        "problem.printer.__self__ leads to its reward",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_tasks_are_named(kind):
    broken, message = BROKEN[kind]
    with pytest.raises(ContractBroken, match=message):
        check_task(broken)


class Biased(Uniform):
    """Says uniform, draws otherwise."""

    def sample(self, n, rng):
        tokens = super().sample(n, rng)
        tokens[: n // 5] = END
        return tokens


class Unnormalised(Uniform):
    def step(self, last, position, state):
        log_probs, state = super().step(last, position, state)
        return log_probs + 0.01, state


class Global(Uniform):
    def sample(self, n, rng):
        np.random.random()
        return super().sample(n, rng)


class Secret(Uniform):
    def __init__(self, *args):
        super().__init__(*args)
        self.rng = np.random.default_rng(0)

    def sample(self, n, rng):
        return super().sample(n, self.rng)


class Unpadded(Uniform):
    def sample(self, n, rng):
        return rng.integers(self.vocabulary, size=(n, self.horizon))


class Narrow(Uniform):
    def log_prob(self, tokens):
        return super().log_prob(tokens).astype(np.float32)


class Shifted(Uniform):
    def log_prob(self, tokens):
        return super().log_prob(tokens) - 0.01


class InOrder(Uniform):
    def log_prob(self, tokens):
        return super().log_prob(tokens) + 0.1 * np.arange(len(tokens))


class Impossible(Uniform):
    def log_prob(self, tokens):
        return np.where((tokens == ABA).all(axis=1), -np.inf, super().log_prob(tokens))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Biased, "its probability is"),
        (Unnormalised, "does not sum to 1"),
        (Global, "global generator"),
        (Secret, "other samples from an equal rng"),
        (Unpadded, "after its end token"),
        (Narrow, "answers float32"),
        (Shifted, "is not the sum of next_log_probs"),
        (InOrder, "depends on the order"),
        (Impossible, "drew 'aba', whose log_prob is not finite"),
    ],
)
def test_broken_policies_are_named(kind, message):
    check_policy(Uniform(V, T, END), PROBLEM)
    with pytest.raises(ContractBroken, match=message):
        check_policy(kind(V, T, END), PROBLEM)


def test_spaces_too_large_to_enumerate():
    problem = Problem("test/Long-v0", tuple("abcdefghij"), 12, 9, partial(Uniform, 10, 12, 0), end=0)
    check_policy(Uniform(10, 12, 0), problem)
    with pytest.raises(ContractBroken, match="its probability is"):
        check_policy(type("Late", (Uniform,), {"sample": late})(10, 12, 0), problem)


def late(self, n, rng):
    """Never ends with the first token."""
    tokens = Uniform.sample(self, n, rng)
    tokens[tokens[:, 0] == 0] = np.arange(12) % 9 + 1
    return tokens


MODULES = [
    module.name
    for module in pkgutil.walk_packages(banel_envs.__path__, "banel_envs.")
    if "build" not in module.name and "__main__" not in module.name
]


@pytest.mark.parametrize("name", MODULES)
def test_the_snippets_in_docstrings_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
