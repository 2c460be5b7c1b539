"""What the harness and check_agent say of an agent whose policies are changed, broken or no probability."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from banel_agents.testing import check_agent
from banel_envs.errors import BadPolicy, BadValue, BanelError, PolicyChanged
from banel_envs.policies import Uniform
from banel_envs.policies.composed.filtered import Filtered
from banel_envs.testing import ContractBroken, check_policy
from banel_leaderboard import run
from banel_leaderboard.proving.load import load_runs
from banel_leaderboard.running.isolation_server import AgentFailed
from banel_leaderboard.running.lookup import own_code
from tests.shared import small
from tests.shared.small import Small, T, V

HERE = "tests.running.test_yields:"


def spoil(policy, value=np.nan):
    with torch.no_grad():
        policy.network.head.bias[1] = value


class Asks(Small):
    """Yields the base policy, asks 30, changes something, yields, asks the rest."""

    def learn(self, problem, oracle, rng):
        policy = problem.base_policy()
        yield policy
        oracle(policy.sample(30, rng))
        yield from self.go_on(policy)
        oracle(problem.base_policy().sample(oracle.left, rng))

    def go_on(self, policy):
        raise NotImplementedError


class Thaws(Asks):
    """Changes the policy that it yielded, and yields no other."""

    name = "thaws"

    def go_on(self, policy):
        policy.network.head.weight.data += 0.1
        return iter(())


class Filters(Asks):
    """Ends with a filtered policy that lets everything pass."""

    name = "filters"

    def go_on(self, policy):
        yield Filtered(policy, [], [], 2_000, 2_000)


class Reuses(Asks):
    """Yields one object again, changed: what stands at the places before is no longer what was yielded."""

    name = "reuses"

    def go_on(self, policy):
        policy.network.head.weight.data += 0.1
        yield policy


class Ruins(Asks):
    name = "ruins"

    def go_on(self, policy):
        policy = policy.clone()
        spoil(policy)
        yield policy


class Overflows(Asks):
    name = "overflows"

    def go_on(self, policy):
        policy = policy.clone()
        spoil(policy, np.inf)
        yield policy


class SamplesNan(Asks):
    name = "samples-nan"

    def go_on(self, policy):
        policy = policy.clone()
        spoil(policy)
        policy.sample(10, np.random.default_rng(0))
        yield policy


class Lie(Uniform):
    def log_prob(self, tokens):
        return np.zeros(len(tokens))


class Lies(Asks):
    name = "lies"

    def go_on(self, policy):
        yield Lie(V, T, policy.end)


class Hot(Uniform):
    """Draws what a network draws, and says uniform."""

    def __init__(self, policy):
        super().__init__(V, T, policy.end)
        self.inner = policy.tempered(0.2)

    def sample(self, n, rng):
        return self.inner.sample(n, rng)


class Draws(Asks):
    name = "draws"

    def go_on(self, policy):
        yield Hot(policy)


LISTED, UNLISTED = "tests.shared.small:network", "tests.shared.small:unlisted_network"
WHERE = r"NRE 30, measured at NRE 32, is no probability"
BROKEN = {
    "Thaws": (PolicyChanged, r"^thaws: its policy of NRE 0 is another one at NRE 0: .*yield policy.clone\(\)"),
    "Reuses": (PolicyChanged, r"^reuses: its policy of NRE 0 is another one at NRE 0: .*yield policy.clone\(\)"),
    "Ruins": (BadPolicy, rf"^ruins: its policy of {WHERE}: its weight head.bias\[1\] is nan"),
    "Overflows": (BadPolicy, rf"^overflows: its policy of {WHERE}: its weight head.bias\[1\] is inf"),
    "SamplesNan": (BadPolicy, r"^samples-nan at NRE 30: .* NaN.*; its weight head.bias\[1\] is nan"),
    "Lies": (BadPolicy, rf"^lies: its policy of {WHERE}: its log_prob is not the sum of its next_log_probs"),
}


@pytest.mark.parametrize("task", [LISTED, UNLISTED])
@pytest.mark.parametrize("kind", BROKEN)
def test_the_harness_names_the_agent_the_question_and_the_fault(kind, task, tmp_path):
    if kind == "Lies" and task == UNLISTED:
        return  # its rate rests on what it draws; see below
    error, says = BROKEN[kind]
    with pytest.raises(error, match=says) as caught:
        run(task, HERE + kind, out=tmp_path)
    assert isinstance(caught.value, BanelError) and "pydantic" not in str(caught.value)
    assert not list(Path(tmp_path).rglob("record.json"))


def test_draws_that_are_not_what_they_say(tmp_path):
    """Where successes are listed the rate rests on what a policy says alone; elsewhere on what it draws."""
    assert run(LISTED, HERE + "Draws", out=tmp_path).points[-1].success.method == "exact"
    with pytest.raises(
        BadPolicy, match=r"^draws: its policy of NRE 30, measured at NRE 32, .* off what its next_log_probs say"
    ):
        run(UNLISTED, HERE + "Draws", out=tmp_path)


@pytest.mark.parametrize("kind", ["SamplesNan", "Ruins"])
def test_an_agent_in_a_process_of_its_own_is_named_too(kind, tmp_path):
    with pytest.raises(
        (BadPolicy, AgentFailed), match=r"(samples-nan at|ruins: its policy of) NRE 30.*head.bias\[1\] is nan"
    ):
        run(LISTED, HERE + kind, out=tmp_path, isolate=True)


class Late(Asks):
    """Yields one object twice, changed between two places of the grid (every 4 questions); and asks one at a time."""

    name = "late"
    frozen = False

    def learn(self, problem, oracle, rng):
        policy = problem.base_policy()
        while oracle.left:
            yield policy.clone() if self.frozen else policy
            tokens = problem.base_policy().sample(1, rng)
            oracle(tokens)
            if oracle.count % 4 == 1:  # the places before are behind, the next one is to come
                yield copy.deepcopy(policy)
                policy.network.head.weight.data[1] += 0.1


class Early(Late):
    """The same, yielding copies alone."""

    frozen = True


def test_one_object_that_is_two_policies_is_measured_twice(tmp_path):
    late, early = (run(LISTED, HERE + kind, out=tmp_path / kind) for kind in ("Late", "Early"))
    assert late.points == early.points
    assert len({p.success.log10 for p in late.points}) > 10


def test_check_agent_holds_an_agent_to_the_same():
    for kind, says in (
        ("Thaws", r"policy 0: it was changed after it was yielded; yield policy.clone\(\)"),
        ("Ruins", r"ruins: its policy of NRE 30 is no probability.*head.bias\[1\] is nan"),
        ("SamplesNan", r"samples-nan at NRE 30: .*head.bias\[1\] is nan"),
        ("Lies", r"lies: its policy of NRE 30 is no probability: its log_prob is not the sum"),
    ):
        with pytest.raises(ContractBroken, match=says):
            check_agent(globals()[kind], small.network(), budget=60)
    with pytest.raises(
        ContractBroken, match=r"draws: its last policy is no probability: .* off what its next_log_probs say"
    ):
        check_agent(Draws, small.unlisted_network(), budget=60)


class Yields(Small):
    """Yields whatever it is given."""

    def __init__(self, thing=None):
        super().__init__()
        self.thing = thing

    def learn(self, problem, oracle, rng):
        yield self.thing


class Learns(Small):
    def learn(self, problem, oracle, rng):
        return None


def without(*names):
    """An agent that lacks these."""
    full = {"name": "bare", "Config": small.Config, "config": small.Config(), "learn": Small.learn}
    return type("Bare", (), {name: part for name, part in full.items() if name not in names})


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (without("config"), "the agent Bare has no config; banel_agents.base.Agent says"),
        (without("name", "learn"), "the agent Bare has no name, no learn;"),
        (Learns, "what small.learn answers has no __iter__"),
        (
            lambda: Yields("a word"),
            "its policy of NRE 0, a str, has no sample, no log_prob, no next_log_probs; .*Policy says",
        ),
        (Yields, "its policy of NRE 0, a NoneType, has no sample"),
    ],
)
def test_an_agent_that_lacks_something_is_told_what(make, says):
    with pytest.raises(ContractBroken, match=says):
        check_agent(make, small.network(), budget=20)


class NoSteps:
    def sample(self, n, rng):
        return np.zeros((n, T), np.int64)

    def log_prob(self, tokens):
        return [0.0] * len(tokens)


class Lists(Uniform):
    def log_prob(self, tokens):
        return super().log_prob(tokens).tolist()


class Tuples(Uniform):
    def sample(self, n, rng):
        return tuple(super().sample(n, rng))


class Words(Uniform):
    def next_log_probs(self, prefix):
        return "uniform"


class NotNumbers(Uniform):
    def log_prob(self, tokens):
        return super().log_prob(tokens) * np.nan


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (NoSteps(), "the policy NoSteps has no next_log_probs; banel_envs.policies.Policy says"),
        (Lists(V, T, small.END), "Lists.log_prob answers a list, not a NumPy array"),
        (Tuples(V, T, small.END), "Tuples.sample answers a tuple, not a NumPy array"),
        (Words(V, T, small.END), "next_log_probs answers a str, not a NumPy array"),
        (NotNumbers(V, T, small.END), "NotNumbers.log_prob answers NaN"),
        (None, "the policy NoneType has no sample"),
    ],
)
def test_a_policy_that_lacks_something_is_told_what(policy, says):
    with pytest.raises(ContractBroken, match=says):
        check_policy(policy, small.network_problem())


def test_a_broken_network_is_no_policy():
    policy = small.network_problem().base_policy()
    spoil(policy)
    with pytest.raises(ContractBroken, match=r"TorchPolicy: .*head.bias\[1\] is nan"):
        check_policy(policy, small.network_problem())


@pytest.mark.parametrize("setting", ["inf", "nan", "1e30"])
def test_a_step_that_is_too_long_is_never_pydantic_s_text(setting, tmp_path):
    """Case 6: whichever the agent does with it, a typed error or a run whose record holds numbers."""
    try:
        record = run("banel/EhrlichEasy-v0", "count", out=tmp_path, budget=60, settings={"lr": float(setting)})
    except (BadPolicy, BadValue) as error:
        assert "count" in str(error)
    except BanelError as error:  # torch refuses NaN as a learning rate
        assert "learning rate" in str(error) and "validation error" not in str(error)
    else:
        assert setting == "1e30" and all(np.isfinite(p.success.log10) for p in record.points)


@pytest.mark.parametrize(("task", "method"), [("network", "filtered"), ("hopeless", "exact")])
def test_what_a_filtered_policy_leaves_unasked_is_never_recorded(tmp_path: Path, task: str, method: str) -> None:
    """Its probabilities are estimates. Where it has no success its rate is 0, exactly, but what is unasked is not exact."""
    record = run(f"tests.shared.small:{task}", f"{HERE}Filters", out=tmp_path)
    assert record.points[-1].success.method == method and record.unasked is None
    known = own_code([f"tests.shared.small:{task}"], [f"{HERE}Filters"])
    assert not load_runs(tmp_path, known).refused
