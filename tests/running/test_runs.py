"""Runs of every kind of agent: fixed by their seed, frozen snapshots, failures taken up again, refusals."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import banel_leaderboard
from banel_agents import AGENTS, make_agent
from banel_envs import Oracle, kernel
from banel_envs.errors import AssetError, BadValue, BanelError
from banel_envs.meter.ledger import Ledger
from banel_envs.policies import COST
from banel_envs.policies.steps import compiled_steps
from banel_envs.testing import sequences
from banel_leaderboard import RunRecord, load_policy, run
from banel_leaderboard.command.cli import main
from banel_leaderboard.proving.rates import Disproved
from banel_leaderboard.proving.replay import prove
from banel_leaderboard.records.field_limits import Reported
from banel_leaderboard.records.verify import RunRefused
from banel_leaderboard.running.evaluator import grid
from banel_leaderboard.running.harness import RunFailed
from banel_leaderboard.running.isolation_server import AgentFailed
from banel_leaderboard.running.lookup import CannotTell, Known, own_code
from tests.shared import small
from tests.shared.small import little, only_run

TASK, NETWORK = "tests.shared.small:task", "tests.shared.small:network"


def known() -> Known:
    """The tasks and agents of these tests, as a command line would name them."""
    agents = ("Small", "Scripted", "Steps", "Raises", "Dies")
    return own_code((TASK, NETWORK, "tests.shared.small:paid"), [f"tests.shared.small:{agent}" for agent in agents])


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """As every run of the command: other threads would only wait for each other on networks this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("agent", ["tests.shared.small:Small", "base", "without_replacement", "banel", "ppo", "rnd"])
def test_the_same_seed_gives_the_same_run_and_another_seed_another(agent: str, tmp_path: Path) -> None:
    settings = little(agent)
    records = [
        run(NETWORK, agent, seed, out=tmp_path / name, settings=settings, feedback="full")
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    a, b, c = (only_run(tmp_path / name) for name in "abc")
    assert (a / "ledger.jsonl").read_bytes() == (b / "ledger.jsonl").read_bytes()
    assert records[0].canonical() == records[1].canonical()
    assert (a / "final.safetensors").read_bytes() == (b / "final.safetensors").read_bytes()
    asked = [[ask.packed for ask in Ledger.read(folder / "ledger.jsonl").asks] for folder in (a, c)]
    assert asked[0] != asked[1]
    assert records[0].ledger.head != records[2].ledger.head


@pytest.mark.parametrize("agent", AGENTS)
def test_what_an_agent_yields_stays_as_it_was(agent: str) -> None:
    task = small.network()
    every = sequences(task.problem)
    learner = make_agent(agent, little(agent))
    oracle, reported = Oracle(task, feedback="full"), Reported()
    kept = []
    for policy in learner.learn(task.problem, oracle, np.random.default_rng(0)):
        kept.append((policy, policy.log_prob(every)))
        reported.note(agent, oracle.count, getattr(learner, "reported", {}))  # a record can hold it
    for policy, then in kept:
        np.testing.assert_array_equal(policy.log_prob(every), then)


@pytest.mark.parametrize("task", ["tests.shared.small:network", "tests.shared.small:unlisted_network"])
def test_evaluation_moves_no_global_generator_and_counts_no_token(task: str, tmp_path: Path) -> None:
    record = run(task, "tests.shared.small:Watches", out=tmp_path)
    assert record.reported["moved"][-1] == (60, 0.0)
    problem = small.network_problem()
    before = (COST.sampled, COST.scored, COST.trained)
    agent_rng = np.random.default_rng(np.random.SeedSequence(0).spawn(2)[0])
    for _ in small.Small().learn(problem, Oracle(small.network(), feedback="failures"), agent_rng):
        pass
    spent = tuple(now - then for now, then in zip((COST.sampled, COST.scored, COST.trained), before, strict=True))
    assert (record.work.sampled, record.work.scored, record.work.trained) == spent and spent[0] > 0


def test_shares_and_first_success_by_hand(tmp_path: Path) -> None:
    record = run("tests.shared.small:in_pairs", "tests.shared.small:Scripted", out=tmp_path)
    # In fours: rows 1-4 hold one odd pair; 5-12 only odd pairs; 13-16 two successes, one of them again, and row 1 again.
    assert [p.invalid for p in record.points] == [None, 0.25, 1.0, 1.0, *[0.0] * 12]
    assert [p.repeated for p in record.points] == [None, 0.0, 0.0, 0.0, 0.5, *[1.0] * 11]
    assert (record.first_success, record.successes_asked) == (13, 3)
    assert [p.success.log10 for p in record.points] == pytest.approx([math.log10(1 / 32)] * 16)
    assert [p.fresh.zero for p in record.points] == [False] * 4 + [True] * 12  # both successes are asked by NRE 14
    assert record.points[3].fresh.log10 == pytest.approx(math.log10(1 / 32))


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in the working folder; while it is there, some agents fail."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "broken"
    path.touch()
    return path


@pytest.mark.parametrize("agent", ["Raises", "Dies"])
def test_an_agent_that_fails_keeps_its_ledger_and_goes_on(agent: str, broken: Path, tmp_path: Path) -> None:
    def attempt() -> RunRecord:
        return run("tests.shared.small:paid", f"tests.shared.small:{agent}", out="out", isolate=agent == "Dies")

    before = small.PAID.rows
    with pytest.raises(RunFailed if agent == "Raises" else AgentFailed, match=r"lost count|exit status 7"):
        attempt()
    folder = only_run(tmp_path / "out")
    status = json.loads((folder / "run.json").read_text())
    assert status["status"] == "failed" and not (folder / "record.json").exists()
    assert "Error" in (folder / "log.txt").read_text() or "AgentFailed" in (folder / "log.txt").read_text()
    assert Ledger.read(folder / "ledger.jsonl").count == small.PAID.rows - before == 20
    broken.unlink()
    record = attempt()
    assert small.PAID.rows - before == 60 == record.ledger.count
    assert record.execution.resumed == 1
    assert json.loads((folder / "run.json").read_text())["status"] == "finished"
    whole = run("tests.shared.small:paid", f"tests.shared.small:{agent}", out="whole")
    assert whole.canonical() == record.canonical() and whole.execution.resumed == 0


def test_a_paid_reward_is_never_evaluated_off_the_meter(tmp_path: Path) -> None:
    before = small.PAID.rows
    record = run("tests.shared.small:paid", "tests.shared.small:Scripted", out=tmp_path)
    assert small.PAID.rows - before == record.ledger.count == 60
    assert {p.success.method for p in record.points} == {"asked"}
    # Three successes among rows 13-16, none elsewhere; nothing was asked before NRE 0.
    assert [p.success.zero for p in record.points] == [True] * 4 + [False] + [True] * 11
    window = record.points[4].success
    assert window.log10 == pytest.approx(math.log10(3 / 4)) and window.samples == 4
    assert window.low == pytest.approx(math.log10(0.19412), abs=1e-4)  # Clopper-Pearson of 3 in 4
    assert window.high == pytest.approx(math.log10(0.99369), abs=1e-4)
    assert "paid for" in str(prove(only_run(tmp_path), known()).answers)
    assert run("tests.shared.small:paid", "tests.shared.small:Scripted", out=tmp_path) == record
    assert small.PAID.rows - before == 60


compiled_here = pytest.mark.skipif(kernel.library() is None, reason="no C compiler built the kernel")


@compiled_here
@pytest.mark.parametrize("kind", ["compiled", "torch"])
def test_a_run_is_proved_with_the_kernel_that_made_it(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []
    steps = compiled_steps.Walk.step
    monkeypatch.setattr(compiled_steps.Walk, "step", lambda *a: used.append(1) or steps(*a))
    with kernel.using(kind):
        record = run(NETWORK, "banel", 0, out=tmp_path, settings=little("banel"))
    assert record.execution.kernel == kind
    assert bool(used) == (kind == "compiled")
    used.clear()
    with kernel.using("torch" if kind == "compiled" else "compiled"):
        again = prove(only_run(tmp_path), known()).record
    assert again.execution.kernel == kind
    assert bool(used) == (kind == "compiled")


def test_a_record_from_before_there_was_a_kernel_took_torch(tmp_path: Path) -> None:
    with kernel.using("torch"):
        record = run(NETWORK, "banel", 0, out=tmp_path, settings=little("banel"))
    del record.execution.versions["kernel"]
    record.write(only_run(tmp_path) / "record.json")
    assert prove(only_run(tmp_path), known()).record.execution.kernel == "torch"


@compiled_here
def test_where_the_kernel_is_missing_what_differs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(NETWORK, "banel", 0, out=tmp_path, settings=little("banel"))
    monkeypatch.setattr(kernel, "library", lambda: None)
    with pytest.raises(CannotTell, match="reinstall banel-envs where a C compiler"):
        prove(only_run(tmp_path), known())


def test_a_run_without_a_transformer_needs_no_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a paid answer stranded: it goes on, and is proved, where there is none."""
    record = run("tests.shared.small:paid", "tests.shared.small:Scripted", out=tmp_path)
    folder = only_run(tmp_path)
    (folder / "record.json").unlink()
    monkeypatch.setattr(kernel, "library", lambda: None)
    assert run("tests.shared.small:paid", "tests.shared.small:Scripted", out=tmp_path).canonical() == record.canonical()
    record.write(folder / "record.json")
    prove(folder, known())


def tampered(record: RunRecord, change: Any) -> RunRecord:
    fields = record.model_dump(mode="json")
    change(fields)
    return RunRecord.model_validate_json(json.dumps(fields))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: r["points"][3]["success"].update(log10=-0.5, low=-0.5, high=-0.5), r"points\[3\]\.success\.log10 is -0\.5,"),
        (lambda r: r["points"][5].update(invalid=0.125), r"points\[5\]\.invalid is 0\.125, recomputed"),
        (lambda r: r["ledger"].update(count=59), "ledger.count is 59 in the record and 60 in its ledger"),
        (lambda r: r["config"].update(batch=7), "config is {'batch': 7.* in the record and {'batch': 10"),
    ],
)  # fmt: skip
def test_a_changed_record_is_not_proved_and_the_place_is_named(change: Any, says: str, tmp_path: Path) -> None:
    record = run(NETWORK, "tests.shared.small:Small", 0, out=tmp_path)
    folder = only_run(tmp_path)
    tampered(record, change).write(folder / "record.json")
    with pytest.raises((Disproved, RunRefused), match=says):
        prove(folder, known())


@compiled_here
@pytest.mark.parametrize("begun", ["compiled", "torch", "torch, with no word of it", "compiled, with a strange word"])
def test_a_run_goes_on_with_the_kernel_it_was_begun_with(begun: str, tmp_path: Path) -> None:
    kind = begun.partition(",")[0]
    other = "torch" if kind == "compiled" else "compiled"
    settings = little("banel")
    with kernel.using(kind):
        whole = run(NETWORK, "banel", 0, out=tmp_path / "whole", settings=settings)
        run(NETWORK, "banel", 0, out=tmp_path / "killed", settings=settings)
    folder = only_run(tmp_path / "killed")
    (folder / "record.json").unlink()
    ledger = (folder / "ledger.jsonl").read_text().splitlines(keepends=True)
    (folder / "ledger.jsonl").write_text("".join(ledger[: len(ledger) // 2]))
    status = json.loads((folder / "run.json").read_text())
    assert status["kernel"] == kind
    if "no word" in begun:
        del status["kernel"]
    if "strange" in begun:
        status["kernel"], other = None, kind  # what this process computes with, then
    (folder / "run.json").write_text(json.dumps(status))
    with kernel.using(other):
        record = run(NETWORK, "banel", 0, out=tmp_path / "killed", settings=settings)
    assert record.canonical() == whole.canonical()
    assert record.execution.kernel == kind
    if "strange" not in begun:
        assert json.loads((folder / "run.json").read_text())["kernel"] == kind


def test_a_bad_word_in_the_environment_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANEL_KERNEL", "fortran")
    with pytest.raises(BadValue, match="BANEL_KERNEL is 'fortran'"):
        run(NETWORK, "banel", 0, out=tmp_path, settings=little("banel"))
    assert not list(tmp_path.rglob("*.jsonl"))
    assert main(["run", "--task", NETWORK, "--agent", "base", "--out", str(tmp_path)]) == 2


def test_the_final_policy_is_kept(tmp_path: Path) -> None:
    run(TASK, "tests.shared.small:Steps", out=tmp_path)
    policy = load_policy(only_run(tmp_path))
    assert np.exp(policy.log_prob(small.HIT[None])) == pytest.approx([2 / 8])
    grid_files = sorted(path.name for path in (only_run(tmp_path) / "grid").iterdir())
    assert grid_files == [f"{nre:07d}.safetensors" for nre in grid(60)]
    with pytest.raises(AssetError, match="holds no final"):
        load_policy(tmp_path)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"task": "tests.shared.small:missing"}, "give an id, or module:function"),
        ({"task": "tests.shared.small:MISS"}, "give an id, or module:function"),
        ({"task": ":task"}, "give an id, or module:function"),
        ({"task": "tests.shared.small:network_problem"}, "returned a Problem"),
        ({"agent": "tests.shared.small:Counted"}, "that can be made without arguments"),
        ({"agent": "tests.shared.small:Config"}, "has no name, Config, config, learn"),
        ({"agent": ":Small"}, "there is no module ''"),
        ({"seed": -1}, "at least 0"),
        ({"seed": 1.0}, "a whole number"),
        ({"seed": True}, "a whole number"),
        ({"feedback": "half"}, "full, failures, typed"),
        ({"budget": 0}, "at least 1"),
        ({"budget": 2.5}, "a whole number"),
        ({"device": "tpu"}, "it is cpu or cuda"),
        ({"device": "cuda:99"}, "use cpu"),
        ({"oracle": "lab"}, "it is file:DIR"),
        ({"oracle": "file:lab", "wait": -1.0}, "at least 0"),
        ({"wait": 1.0}, "give oracle file:DIR too"),
    ],
)
def test_bad_input_is_named_with_the_way_out(options: dict[str, Any], says: str, tmp_path: Path) -> None:
    arguments = {"task": TASK, "agent": "tests.shared.small:Small", "out": tmp_path / "out", **options}
    with pytest.raises(BanelError, match=says):
        run(**arguments)
    assert not (tmp_path / "out").exists()


def test_names_cannot_climb_out_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small.Small, "name", "..")
    with pytest.raises(BadValue, match=r"the agent's name is '\.\.'"):
        run(TASK, "tests.shared.small:Small", out=tmp_path)
    climbing = dataclasses.replace(small.network_problem(), id="../Up-v0")
    monkeypatch.setattr(small, "task", lambda: dataclasses.replace(small.network(), problem=climbing))
    with pytest.raises(BadValue, match="namespace/Name-v<k>"):
        run(TASK, "base", out=tmp_path)


def test_importing_stays_light_and_the_public_names_are_there() -> None:
    code = (
        "import sys, banel_envs, banel_leaderboard; heavy = {'torch', 'tqdm', 'pandas', 'stable_baselines3'}; "
        "found = heavy & set(sys.modules); assert not found, found; "
        "import banel_leaderboard.running.harness, banel_leaderboard.sweeping.sweep; assert callable(banel_leaderboard.run)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert {"run", "RunRecord", "load_policy"} <= set(banel_leaderboard.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'runs'"):
        _ = banel_leaderboard.runs
