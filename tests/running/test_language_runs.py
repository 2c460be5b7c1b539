"""Agents on tiny language models, through the harness: each run ends at its budget, is proved again, and keeps a small policy."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

pytest.importorskip("peft")
import torch
from safetensors import safe_open

from banel_agents import AGENTS, make_agent
from banel_envs.meter.ledger import Ledger
from banel_envs.policies.language.hf_policy import HFPolicy
from banel_leaderboard import RunRecord, load_policy, run
from banel_leaderboard.command.cli import main
from banel_leaderboard.proving.recompute import check_rates
from tests.shared.language_tasks import BUDGET, T, model, task
from tests.shared.small import only_run

FAMILIES = ("qwen2", "llama", "gpt2")
NAMES = (
    *("base", "ladder", "without_replacement", "banel", "negative_guidance", "count"),
    *("rnd", "nsr", "npo", "grpo", "spo", "tempered_sft"),
)
# What learns from successes is run where it is told them, too.
RUNS = [(name, "failures") for name in NAMES] + [(name, "full") for name in ("grpo", "spo", "tempered_sft")]
STANDS_STILL = {"base", "ladder", "without_replacement", "tempered_sft"}  # without a success it tempers the base policy
ADAPTERS = {"ladder": 6, "negative_guidance": 2}  # in the stored policy; 1 in that of any other agent


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def settings(name):
    """Two rounds, and few steps in each."""
    wanted = {"batch": 20, "pool": 40, "candidates": 40, "minibatch": 20, "phi_epochs": 1.0, "epochs": 2}
    known = {field.name for field in fields(make_agent(name).Config)}
    return {key: value for key, value in wanted.items() if key in known and (key != "epochs" or name == "tempered_sft")}


@pytest.mark.parametrize(("agent", "feedback"), RUNS)
def test_a_run_is_proved_and_its_policy_is_adapters(agent, feedback, tmp_path, capsys):
    family = FAMILIES[NAMES.index(agent) % len(FAMILIES)]
    name, made = f"tests.shared.language_tasks:{family}", task(family)
    record = run(name, agent, 0, out=tmp_path, settings=settings(agent), feedback=feedback)
    folder = only_run(tmp_path)
    ledger = Ledger.read(folder / "ledger.jsonl")
    assert record.ledger.count == ledger.count == BUDGET
    assert record.points[0].success.log10 == pytest.approx(-1.4, abs=0.2) and record.points[0].success.method == "exact"
    # The stored policy: no tensor of the model, and the rate that the record says.
    with safe_open(folder / "final.safetensors", "numpy") as stored:
        floats = [t for t in map(stored.get_tensor, stored.keys()) if t.dtype == np.float32]
    adapter = sum(weight.numel() for weight in made.problem.base_policy().parameters())
    assert sum(t.size for t in floats) == ADAPTERS.get(agent, 1) * adapter
    assert adapter < 0.2 * sum(weight.numel() for weight in model(family).model.parameters())
    check_rates(RunRecord.load(folder / "record.json"), ledger, made, folder)
    policy, base = load_policy(folder), made.problem.base_policy()
    rows = base.sample(50, np.random.default_rng(1))
    moved = np.abs(policy.log_prob(rows) - base.log_prob(rows)).max()
    still = agent in STANDS_STILL or AGENTS[agent].dead_on_failures
    if isinstance(policy, HFPolicy) and agent != "tempered_sft":
        assert (moved == 0) == (feedback == "failures" and still)
    if (agent, feedback) == ("tempered_sft", "full"):
        assert record.points[-1].success.log10 > record.points[0].success.log10 + 0.5  # it learns what it is told
    assert main(["replay", str(tmp_path), "--task", name, "--jobs", "1"]) == 0
    assert "1 of 1 proved" in capsys.readouterr().out


def test_the_tasks_are_what_they_say():
    from banel_envs.testing import check_task

    for family in FAMILIES:
        check_task(task(family))
        assert task(family).problem.T == T
