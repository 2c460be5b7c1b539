"""Settings: what is outside a field's limits is named, what is inside is taken and ends; for every agent and every field."""

from __future__ import annotations

import dataclasses
import doctest
import itertools
import json
import math
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Annotated

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banel_agents import AGENTS, limits, make_agent
from banel_agents.base import ask
from banel_agents.limits import OneOf, Range, Rule, check_settings, rules
from banel_agents.shared import silence
from banel_agents.shared.silence import AgentSilent, asking
from banel_agents.testing import check_agent
from banel_envs import Ledger, Oracle, Problem, Task
from banel_envs.errors import BadValue
from banel_envs.meter import empty_questions
from banel_envs.policies import Uniform
from banel_envs.testing import ContractBroken
from banel_leaderboard import run
from tests.shared import small
from tests.shared.beginnings import task

FIELDS = [(agent, f.name) for agent in AGENTS for f in dataclasses.fields(make_agent(agent).Config)]
every_field = pytest.mark.parametrize(("agent", "name"), FIELDS)
WRONG = (
    None,
    "",
    "x",
    [],
    {},
    [1],
    b"1",
    1j,
    Decimal(1),
    math.nan,
    math.inf,
    -math.inf,
    10**400,
    -(10**400),
    10**5_000,
)


def rule_of(agent: str, name: str) -> Rule:
    return rules(make_agent(agent).Config)[name]


def outside(rule: Rule) -> st.SearchStrategy:
    """Values of the field's own type beyond its limits, and values of other types."""
    wrong = st.sampled_from(WRONG)
    match rule.limit:
        case OneOf():
            return wrong | st.text().filter(lambda word: word not in rule.limit.words) | st.booleans() | st.integers()
        case Range(low, high, above):
            beyond = st.floats(min_value=high, exclude_min=True) | st.floats(max_value=low, exclude_max=not above)
            whole = st.integers(min_value=math.floor(high) + 1) | st.integers(max_value=math.ceil(low) - (not above))
            fractions = st.floats(low, high) if rule.type is int else st.nothing()
            return wrong | beyond | whole | fractions | st.booleans() | st.text()
    assert rule.type is bool
    return wrong | st.integers() | st.floats() | st.text()


def inside(rule: Rule) -> st.SearchStrategy:
    match rule.limit:
        case OneOf():
            return st.sampled_from(rule.limit.words)
        case Range(low, high, above):
            floats = st.floats(low, high, exclude_min=above)
            return st.integers(low, high) if rule.type is int else floats
    return st.booleans()


def test_every_field_of_every_agent_has_a_limit():
    assert {agent for agent, _ in FIELDS} == set(AGENTS)
    for agent, name in FIELDS:
        rule = rule_of(agent, name)
        assert rule.limit is not None or rule.type is bool, f"{agent}.{name}"
        if isinstance(rule.limit, Range):
            assert math.isfinite(rule.limit.low) and math.isfinite(rule.limit.high)


@every_field
def test_outside_is_refused_by_name(agent, name):
    """By name and by class; the message has the field, the value as far as it fits, and what it may be."""
    config, rule = make_agent(agent).Config, rule_of(agent, name)

    @settings(max_examples=30, deadline=None)
    @given(outside(rule))
    def check(value):
        for who, make in (
            (agent, lambda: make_agent(agent, {name: value})),
            (config.__name__, lambda: config(**{name: value})),
        ):
            with pytest.raises(BadValue) as refused:
                make()
            message = str(refused.value)
            assert message.startswith(f"{who}: {name} is ") and message.endswith(f"; it must be {rule}")
            assert len(message) < 400

    check()


@every_field
def test_inside_is_taken_as_it_is(agent, name):
    made, rule = make_agent(agent), rule_of(agent, name)

    @settings(max_examples=30, deadline=None)
    @given(inside(rule))
    def check(value):
        for config in (make_agent(agent, {name: value}).config, made.Config(**{name: value})):
            taken = getattr(config, name)
            assert taken == value and type(taken) is rule.type
            assert config == dataclasses.replace(made.config, **{name: value})

    check()


@every_field
def test_the_ends_belong_to_the_range_that_the_message_states(agent, name):
    rule = rule_of(agent, name)
    if not isinstance(rule.limit, Range):
        return
    step = 1 if rule.type is int else 1e-9
    make_agent(agent, {name: rule.limit.high})
    for value in (rule.limit.high + step, rule.limit.low - step, *([rule.limit.low] if rule.limit.above else [])):
        with pytest.raises(BadValue, match=f"{name} is "):
            make_agent(agent, {name: value})
    if not rule.limit.above:
        make_agent(agent, {name: rule.limit.low})


@every_field
def test_numpys_numbers_are_the_same_settings(agent, name):
    """A record and a ledger hold a config as JSON: 5, np.int64(5) and, where a float is meant, 5 and 5.0 are one run."""
    default = make_agent(agent).config
    value = getattr(default, name)
    for numpys in {int: (np.int64, np.uint32), float: (np.float64,)}.get(type(value), ()):
        config = type(default)(**{name: numpys(value)})
        assert json.dumps(dataclasses.asdict(config)) == json.dumps(dataclasses.asdict(default))
    if type(value) is float:
        whole = math.floor(rule_of(agent, name).limit.low) + 1
        one = [type(default)(**{name: kind(whole)}) for kind in (int, float, np.int64, np.float32, Fraction)]
        assert {json.dumps(dataclasses.asdict(config)) for config in one} == {json.dumps(dataclasses.asdict(one[1]))}


# What is inside ends


LITTLE = {"batch": 5, "pool": 20, "minibatch": 20, "predictor_steps": 1, "steps": 2}


def ends(agent: str, name: str) -> list:
    rule = rule_of(agent, name)
    match rule.limit:
        case OneOf():
            return list(rule.limit.words)
        case Range(low, high, above):
            return [low + (high - low) * 1e-9 if above else low, high]
    return [False, True]


@every_field
def test_a_run_at_either_end_spends_its_budget(agent, name):
    """Nothing hangs and nothing raises: a batch beyond the budget, a minibatch of 1, a pass that is no whole step."""
    names = {f.name for f in dataclasses.fields(make_agent(agent).Config)}
    for feedback, value in zip(itertools.cycle(("failures", "full")), ends(agent, name)):
        oracle = Oracle(task(), budget=1 if "epochs" in name or "steps" in name else 7, feedback=feedback)
        wanted = {k: v for k, v in LITTLE.items() if k in names} | {name: value}
        if value == 100_000 and "minibatch" in names:
            wanted["minibatch"] = value  # else it takes 5,000 steps
        *_, last = make_agent(agent, wanted).learn(oracle.problem, oracle, np.random.default_rng(0))
        assert oracle.left == 0 or (agent == "screened_bandit" and name == "grammar")  # its one other arm ran dry
        assert not np.isnan(last.log_prob(task().successes())).any(), wanted


class NoSamples(Uniform):
    """A model of somebody's own that gives nothing."""

    def sample(self, n, rng):
        return super().sample(n, rng)[:0]


@pytest.mark.parametrize("agent", ["base", "memorise", "without_replacement"])
def test_a_base_policy_that_gives_no_samples_does_not_hang_an_agent(agent):
    problem = Problem("test/None-v0", ("a", "b"), 3, 10, base=lambda: NoSamples(2, 3, None))
    oracle = Oracle(Task(problem, lambda tokens: np.zeros(len(tokens), np.int8)))
    learn = make_agent(agent).learn(problem, oracle, np.random.default_rng(0))
    if agent == "without_replacement":  # the space counts as exhausted
        assert len(list(learn)) == 1
        return
    with pytest.raises(BadValue, match="gave no sequence where 500 were to be sampled"):
        list(learn)


# Agents that yield and do not ask


class Yields:
    """Asks three sequences at its first, eleventh, 21st ... round of `rounds`, and yields in every one."""

    name = "yields"

    def __init__(self, rounds, every):
        self.rounds, self.every = rounds, every

    def learn(self, problem, oracle, rng):
        policy = problem.base_policy()
        for k in range(self.rounds):
            yield policy
            if self.every and k % self.every == 0 and oracle.left:
                oracle(policy.sample(min(3, oracle.left), rng))


def came(rounds, every, budget=100):
    oracle = Oracle(task(), budget=budget)
    return sum(
        1
        for _ in asking(Yields(rounds, every).learn(oracle.problem, oracle, np.random.default_rng(0)), oracle, "yields")
    )


def test_an_agent_may_yield_often_between_questions(monkeypatch):
    monkeypatch.setattr(silence, "MOST_SILENT", 10)
    assert came(10, 0) == 10 and came(300, 10) == 300


@pytest.mark.parametrize(
    ("every", "budget", "says"), [(0, 100, "at NRE 0 of 100"), (11, 100, "at NRE 3 of 100"), (1, 9, "at NRE 9 of 9")]
)
def test_an_agent_that_only_yields_ends_with_a_typed_error(monkeypatch, every, budget, says):
    monkeypatch.setattr(silence, "MOST_SILENT", 10)
    with pytest.raises(AgentSilent, match=f"yields yielded 11 policies without a question, {says}.*return from learn"):
        came(10**9, every, budget)


@pytest.mark.parametrize("isolate", [False, True])
def test_the_harness_counts_in_its_process_and_out_of_it(tmp_path, monkeypatch, isolate):
    monkeypatch.setattr(silence, "MOST_SILENT", 20)
    with pytest.raises(AgentSilent, match="quiet yielded 21 policies without a question, at NRE 7 of 60"):
        run("tests.shared.small:task", "tests.shared.small:Quiet", out=tmp_path, isolate=isolate)
    (ledger,) = tmp_path.rglob("ledger.jsonl")
    assert Ledger.read(ledger).count == 7  # kept, as of any failed run


# Configs of other people


@dataclass(frozen=True)
class Plain:
    """No limits, no check."""

    size: int = 3
    rate: float = 1
    names: tuple = ("a",)
    free: int | None = None
    open: float = math.inf


@dataclass(frozen=True)
class Limited:
    size: Annotated[int, "a note of somebody else's", Range(1, 5)] = 3
    rate: float = 0.5
    kind: Annotated[str, OneOf("x", "y")] = "x"

    def __post_init__(self):
        check_settings(self)


@dataclass(frozen=True)
class Unresolved:
    size: NoSuchName = 3  # noqa: F821


class Stranger:
    name = "stranger"
    Config = Plain

    def __init__(self, config=None):
        self.config = config or self.Config()

    def learn(self, problem, oracle, rng):
        yield problem.base_policy()


class StrangerLimited(Stranger):
    Config = Limited


class StrangerUnresolved(Stranger):
    Config = Unresolved


class NoDataclass(Stranger):
    class Config:
        size = 3


HERE = f"{__name__}:"


def test_a_config_without_limits_works_as_before():
    assert make_agent(HERE + "Stranger").config == Plain() == Plain(size=3, open=math.inf)
    assert make_agent(HERE + "Stranger", {"size": -7, "rate": 2, "free": 3}).config == Plain(-7, 2.0, free=3)
    assert make_agent(HERE + "StrangerUnresolved", {"size": 4}).config.size == 4
    for name, value in (("size", "x"), ("size", True), ("names", "a"), ("rate", math.inf), ("rate", 10**400)):
        with pytest.raises(BadValue, match=f"{name} is .*; it must be "):
            make_agent(HERE + "Stranger", {name: value})
    with pytest.raises(BadValue, match="Config is no dataclass"):
        make_agent(HERE + "NoDataclass", {"size": 4})


def test_a_config_of_ones_own_may_state_limits():
    assert make_agent(HERE + "StrangerLimited", {"size": 5, "kind": "y"}).config == Limited(5, 0.5, "y")
    for name, value, says in (("size", 6, "from 1 to 5"), ("rate", math.nan, "finite"), ("kind", "z", "one of x, y")):
        with pytest.raises(BadValue, match=f"Limited: {name} is .*{says}"):
            Limited(**{name: value})
        with pytest.raises(BadValue, match=f"StrangerLimited: {name} is .*{says}"):
            make_agent(HERE + "StrangerLimited", {name: value})


def test_a_value_that_cannot_be_written_out_is_still_refused():
    class Rude:
        def __repr__(self):
            raise RuntimeError("never")

    for value, says in (
        (Rude(), "type Rude that cannot"),
        (10**5_000, "type int that cannot"),
        ("x" * 10**6, r"\.\.\.;"),
    ):
        with pytest.raises(BadValue, match=f"base: batch is .*{says}"):
            make_agent("base", {"batch": value})


def test_the_snippet_in_the_docstring_runs():
    assert doctest.testmod(limits).failed == 0


def test_check_agent_ends_with_an_agent_that_asks_nothing(monkeypatch):
    monkeypatch.setattr(empty_questions, "MOST_EMPTY", 20)

    class Empty(small.Small):
        def learn(self, problem, oracle, rng):
            yield problem.base_policy()
            while oracle.left:
                ask(oracle, problem.base_policy().sample(0, rng))

    with pytest.raises(ContractBroken, match=r"21 questions in a row had no sequence in them, at NRE 0 of 200"):
        check_agent(Empty, small.task())


def test_check_agent_ends_with_an_agent_that_only_yields(monkeypatch):
    monkeypatch.setattr(silence, "MOST_SILENT", 20)

    class Yields(small.Small):
        def learn(self, problem, oracle, rng):
            while True:
                yield problem.base_policy()

    with pytest.raises(ContractBroken, match="policies without a question"):
        check_agent(Yields, small.task())
