"""run(): what it measures, what it keeps, what it refuses."""

from __future__ import annotations

import ast
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
from banel_envs import Oracle
from banel_envs.errors import AssetError, BadValue, BanelError, LedgerMismatch
from banel_envs.ledger import Ledger
from banel_envs.policies import COST
from banel_envs.testing import sequences
from banel_leaderboard import RunRecord, load_policy, run
from banel_leaderboard.grid import grid
from banel_leaderboard.harness import RunFailed
from banel_leaderboard.record import _log10
from banel_leaderboard.replay import prove
from tests import small

ROOT = Path(__file__).parents[1]
TASK, NETWORK = "tests.small:task", "tests.small:network"
LITTLE = {"batch": 10, "pool": 60, "candidates": 60, "minibatch": 10}  # of whatever an agent sets


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """As every run of the command: other threads would only wait for each other on networks this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def little(agent: str) -> dict[str, Any]:
    """Settings that fit a budget of 60."""
    fields = {f.name for f in dataclasses.fields(make_agent(agent).Config)}
    return {name: value for name, value in LITTLE.items() if name in fields}


def only_run(out: Path) -> Path:
    """The one run folder under `out`."""
    (ledger,) = out.rglob("ledger.jsonl")
    return ledger.parent


def tree(folder: Path) -> dict[str, bytes]:
    """Every file and its bytes."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("agent", ["tests.small:Small", "base", "without_replacement", "banel", "ppo", "rnd"])
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


def test_the_grid_has_16_places_the_last_policy_yielded_at_or_before_each(tmp_path: Path) -> None:
    record = run(TASK, "tests.small:Steps", out=tmp_path)
    assert [p.nre for p in record.points] == list(range(0, 61, 4)) == grid(60)
    eighths = [0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4, 5, 5, 2, 2]
    rates = [0.0 if p.success.log10 is None else 10**p.success.log10 for p in record.points]
    assert rates == pytest.approx([k / 8 for k in eighths])
    assert record.final() == pytest.approx(math.log10(2 / 8))
    assert record.best() == pytest.approx(math.log10(5 / 8))
    assert record.mixture() == pytest.approx(math.log10(38 / 8 / 16))
    assert record.points[0].success.zero and record.points[0].success.log10 is None


def test_the_grid_of_a_small_budget_has_no_place_twice() -> None:
    assert grid(7) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert len(grid(15)) == len(grid(7_501)) == 16 and grid(7_501)[-1] == 7_501


@pytest.mark.parametrize("agent", AGENTS)
def test_what_an_agent_yields_stays_as_it_was(agent: str) -> None:
    task = small.network()
    every = sequences(task.problem)
    learner = make_agent(agent, little(agent))
    policies = learner.learn(task.problem, Oracle(task, feedback="full"), np.random.default_rng(0))
    kept = [(policy, policy.log_prob(every)) for policy in policies]
    for policy, then in kept:
        np.testing.assert_array_equal(policy.log_prob(every), then)


@pytest.mark.parametrize("task", ["tests.small:network", "tests.small:unlisted_network"])
def test_evaluation_moves_no_global_generator_and_counts_no_token(task: str, tmp_path: Path) -> None:
    record = run(task, "tests.small:Watches", out=tmp_path)
    assert record.reported["moved"][-1] == (60, 0.0)
    problem = small.network_problem()
    before = (COST.sampled, COST.scored, COST.trained)
    agent_rng = np.random.default_rng(np.random.SeedSequence(0).spawn(2)[0])
    for _ in small.Small().learn(problem, Oracle(small.network(), feedback="failures"), agent_rng):
        pass
    spent = tuple(now - then for now, then in zip((COST.sampled, COST.scored, COST.trained), before, strict=True))
    assert (record.work.sampled, record.work.scored, record.work.trained) == spent and spent[0] > 0


@pytest.mark.parametrize("task", [TASK, "tests.small:unlisted", "tests.small:paid", "tests.small:graded"])
@pytest.mark.parametrize("agent", ["memorise", "without_replacement", "tests.small:Scripted"])
def test_fresh_success_is_never_above_success(task: str, agent: str, tmp_path: Path) -> None:
    record = run(task, agent, feedback="full", out=tmp_path, settings={"batch": 20})
    for point in record.points:
        assert _log10(point.fresh) <= _log10(point.success)


def test_shares_and_first_success_by_hand(tmp_path: Path) -> None:
    record = run("tests.small:in_pairs", "tests.small:Scripted", out=tmp_path)
    # In fours: rows 1-4 hold one odd pair; 5-12 only odd pairs; 13-16 two successes, one of them again, and row 1 again.
    assert [p.invalid for p in record.points] == [None, 0.25, 1.0, 1.0, *[0.0] * 12]
    assert [p.repeated for p in record.points] == [None, 0.0, 0.0, 0.0, 0.5, *[1.0] * 11]
    assert (record.first_success, record.successes_asked) == (13, 3)
    assert [p.success.log10 for p in record.points] == pytest.approx([math.log10(1 / 32)] * 16)
    assert [p.fresh.zero for p in record.points] == [False] * 4 + [True] * 12  # both successes are asked by NRE 14
    assert record.points[3].fresh.log10 == pytest.approx(math.log10(1 / 32))


def test_a_run_without_success_says_so(tmp_path: Path) -> None:
    record = run(TASK, "tests.small:Steps", out=tmp_path)
    assert record.first_success is None and record.successes_asked == 0


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
        return run("tests.small:paid", f"tests.small:{agent}", out="out", isolate=agent == "Dies")

    before = small.PAID.rows
    with pytest.raises(RunFailed, match="lost count" if agent == "Raises" else "status 7"):
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
    whole = run("tests.small:paid", f"tests.small:{agent}", out="whole")
    assert whole.canonical() == record.canonical() and whole.execution.resumed == 0


def test_an_agent_that_yields_nothing_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="silent yielded no policy; yield the base policy before the first question"):
        run(TASK, "tests.small:Silent", out=tmp_path)
    assert Ledger.read(only_run(tmp_path) / "ledger.jsonl").count == 10


def test_budget_exhausted_is_a_normal_end(tmp_path: Path) -> None:
    record = run(TASK, "tests.small:Overspends", out=tmp_path)
    assert record.ledger.count == 56  # 8 questions of 7; the ninth did not fit
    assert record.points[-1].nre == 60 and record.final() == pytest.approx(math.log10(1 / 32))


def test_a_twin_never_calls_the_reward(tmp_path: Path) -> None:
    before = small.PAID.rows
    record = run("tests.small:paid", "base", twin=True, out=tmp_path, settings={"batch": 10})
    assert small.PAID.rows == before
    assert record.twin and record.successes_asked == 0 and "twin" in only_run(tmp_path).parts
    with pytest.raises(BanelError):  # a run that asks is another run
        prove(Path(str(only_run(tmp_path)).replace("twin", "failures")))


def test_a_paid_reward_is_never_evaluated_off_the_meter(tmp_path: Path) -> None:
    before = small.PAID.rows
    record = run("tests.small:paid", "tests.small:Scripted", out=tmp_path)
    assert small.PAID.rows - before == record.ledger.count == 60
    assert {p.success.method for p in record.points} == {"asked"}
    # Three successes among rows 13-16, none elsewhere; nothing was asked before NRE 0.
    assert [p.success.zero for p in record.points] == [True] * 4 + [False] + [True] * 11
    window = record.points[4].success
    assert window.log10 == pytest.approx(math.log10(3 / 4)) and window.samples == 4
    assert window.low == pytest.approx(math.log10(0.19412), abs=1e-4)  # Clopper-Pearson of 3 in 4
    assert window.high == pytest.approx(math.log10(0.99369), abs=1e-4)
    prove(only_run(tmp_path))
    assert run("tests.small:paid", "tests.small:Scripted", out=tmp_path) == record
    assert small.PAID.rows - before == 60


def test_successes_that_cannot_be_listed_are_sampled(tmp_path: Path) -> None:
    record = run("tests.small:unlisted", "base", out=tmp_path, settings={"batch": 10})
    rate = record.points[0].success
    assert rate.method == "monte_carlo" and rate.samples == 100_000
    assert rate.low is not None and rate.high is not None
    assert rate.low < math.log10(1 / 32) < rate.high < rate.low + 0.1


def test_settings_and_budget_are_marked(tmp_path: Path) -> None:
    plain = run(TASK, "tests.small:Small", out=tmp_path / "a")
    same = run(TASK, "tests.small:Small", out=tmp_path / "b", settings={"batch": 10}, budget=60)
    other = run(TASK, "tests.small:Small", out=tmp_path / "c", settings={"batch": 5}, budget=30)
    assert [(r.tuned, r.off_board) for r in (plain, same, other)] == [(False, False), (False, False), (True, True)]
    assert other.budget == other.ledger.count == 30 and other.config["batch"] == 5


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    record = run(TASK, "tests.small:Small", out=tmp_path)
    before = tree(tmp_path)
    assert run(TASK, "tests.small:Small", out=tmp_path) == record
    assert tree(tmp_path) == before


def test_another_run_in_the_folder_is_refused_and_nothing_written_over(tmp_path: Path) -> None:
    run(TASK, "tests.small:Small", out=tmp_path)
    folder = only_run(tmp_path)
    before = tree(tmp_path)
    with pytest.raises(LedgerMismatch, match="its budget is 60, this run's is 30; choose another folder"):
        run(TASK, "tests.small:Small", out=tmp_path, budget=30)
    with pytest.raises(LedgerMismatch, match="its config is"):
        run(TASK, "tests.small:Small", out=tmp_path, settings={"rate": 0.25})
    assert tree(tmp_path) == before
    (folder / "ledger.jsonl").rename(tmp_path / "aside")
    with pytest.raises(LedgerMismatch, match="a record without its ledger"):
        run(TASK, "tests.small:Small", out=tmp_path)
    other = run(TASK, "tests.small:Small", 1, out=tmp_path / "other")
    assert other.seed == 1
    (only_run(tmp_path / "other") / "ledger.jsonl").rename(folder / "ledger.jsonl")
    with pytest.raises(LedgerMismatch, match="its seed is 1, this run's is 0"):
        run(TASK, "tests.small:Small", out=tmp_path)
    assert (folder / "record.json").read_bytes() == before[str(folder / "record.json")]


def test_a_record_that_is_not_its_ledgers_is_refused(tmp_path: Path) -> None:
    record = run(TASK, "tests.small:Small", out=tmp_path)
    path = only_run(tmp_path) / "record.json"
    path.write_text(path.read_text().replace(record.ledger.head, "0" * 64))
    with pytest.raises(LedgerMismatch, match="head is not the record's"):
        run(TASK, "tests.small:Small", out=tmp_path)


def test_the_final_policy_is_kept(tmp_path: Path) -> None:
    run(TASK, "tests.small:Steps", out=tmp_path)
    policy = load_policy(only_run(tmp_path))
    assert np.exp(policy.log_prob(small.HIT[None])) == pytest.approx([2 / 8])
    grid_files = sorted(path.name for path in (only_run(tmp_path) / "grid").iterdir())
    assert grid_files == [f"{nre:07d}.safetensors" for nre in grid(60)]
    with pytest.raises(AssetError, match="holds no final"):
        load_policy(tmp_path)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"task": "tests.small:missing"}, "give an id, or module:function"),
        ({"task": "tests.small:MISS"}, "give an id, or module:function"),
        ({"task": ":task"}, "give an id, or module:function"),
        ({"task": "tests.small:network_problem"}, "returned a Problem"),
        ({"agent": "tests.small:Counted"}, "that can be made without arguments"),
        ({"agent": "tests.small:Config"}, "has no name, Config, config, learn"),
        ({"agent": ":Small"}, "Empty module name"),
        ({"seed": -1}, "at least 0"),
        ({"seed": 1.0}, "a whole number"),
        ({"seed": True}, "a whole number"),
        ({"feedback": "half"}, "full or failures"),
        ({"budget": 0}, "at least 1"),
        ({"budget": 2.5}, "a whole number"),
        ({"device": "tpu"}, "cpu, cuda or"),
        ({"device": "cuda:99"}, "use cpu"),
        ({"oracle": "lab"}, "write file:DIR"),
        ({"oracle": "file:lab", "wait": -1.0}, "at least 0"),
        ({"wait": 1.0}, "give oracle file:DIR too"),
    ],
)
def test_bad_input_is_named_with_the_way_out(options: dict[str, Any], says: str, tmp_path: Path) -> None:
    arguments = {"task": TASK, "agent": "tests.small:Small", "out": tmp_path / "out", **options}
    with pytest.raises(BanelError, match=says):
        run(**arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("below", ["", "deep/down"])
def test_a_file_is_no_folder_for_runs(below: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BadValue, match="file is a file; name a folder"):
        run(TASK, "tests.small:Small", out=tmp_path / "file" / below)
    assert (tmp_path / "file").read_text() == "mine"


def test_names_cannot_climb_out_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small.Small, "name", "..")
    with pytest.raises(BadValue, match=r"the agent's name is '\.\.'"):
        run(TASK, "tests.small:Small", out=tmp_path)
    climbing = dataclasses.replace(small.network_problem(), id="../Up-v0")
    monkeypatch.setattr(small, "task", lambda: dataclasses.replace(small.network(), problem=climbing))
    with pytest.raises(BadValue, match="namespace/Name-v<k>"):
        run(TASK, "base", out=tmp_path)


def test_importing_stays_light_and_the_public_names_are_there() -> None:
    code = (
        "import sys, banel_envs, banel_leaderboard; heavy = {'torch', 'tqdm', 'pandas', 'stable_baselines3'}; "
        "found = heavy & set(sys.modules); assert not found, found; "
        "import banel_leaderboard.harness, banel_leaderboard.sweep; assert callable(banel_leaderboard.run)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert {"run", "RunRecord", "load_policy"} <= set(banel_leaderboard.__all__)
    with pytest.raises(AttributeError, match="it has RunRecord, load_policy, run"):
        _ = banel_leaderboard.runs


def test_imports_go_one_way() -> None:
    above = {"banel_envs": {"banel_agents", "banel_leaderboard"}, "agents/banel_agents": {"banel_leaderboard"}}
    for room, forbidden in above.items():
        for path in (ROOT / room).rglob("*.py"):
            assert not imported(path) & forbidden, path
    core = {path: imported(path) for path in (ROOT / "banel_envs").glob("*.py")}
    assert len(core) > 10 and not any(
        {"torch", "tqdm"} & names for path, names in core.items() if path.name != "sb3.py"
    )
    assert not (ROOT / "agents" / "__init__.py").exists() and not (ROOT / "leaderboard" / "__init__.py").exists()


def imported(path: Path) -> set[str]:
    """The top-level packages that a module imports anywhere."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in names}
