"""`banel bench --plan` and `--shard`: what is left, what it costs, and shards that together are the suite."""

from __future__ import annotations

import itertools
import runpy
import shlex
from collections import Counter
from pathlib import Path

import pytest

from banel_agents import AGENTS
from banel_envs.errors import BadValue
from banel_leaderboard.command.cli import main
from banel_leaderboard.records.spec import Spec
from banel_leaderboard.running.harness import execute
from banel_leaderboard.sweeping import plan as planning
from banel_leaderboard.sweeping import suites
from banel_leaderboard.sweeping.plan import MOST_ELEMENTS, Plan, describe_plan, make_plan, shard_of
from banel_leaderboard.sweeping.suites import SUITES, Suite
from banel_leaderboard.sweeping.sweep import Lane, lanes_of, sweep
from tests.shared.runs import make_run
from tests.shared.small import tree

TINY, HOPELESS, NETWORK = "tests.shared.small:task", "tests.shared.small:hopeless", "tests.shared.small:network"
TASK = "banel/AdditionAttack-v0"


@pytest.fixture(autouse=True)
def nothing_committed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(planning, "COMMITTED", tmp_path / "submissions")


def lane(task: str, agent: str, seed: int = 0) -> Lane:
    return Spec(task=task, agent=agent, seed=seed, feedback="full"), Spec(task=task, agent=agent, seed=seed)


@pytest.mark.parametrize("name", SUITES)
@pytest.mark.parametrize("n", [1, 2, 7])
def test_shards_partition_the_suite(name: str, n: int) -> None:
    lanes = lanes_of(SUITES[name])
    shards = [shard_of(lanes, f"{i}/{n}") for i in range(n)]
    assert [x for row in itertools.zip_longest(*shards) for x in row if x is not None] == lanes


@pytest.mark.parametrize("shard", ["", "1", "1/", "/2", "2/2", "-1/2", "0/0", "a/b", "1/2/3", "1.0/2", "²/3"])
def test_a_shard_that_is_none(shard: str) -> None:
    with pytest.raises(BadValue, match="write i/n with i from 0 to n - 1"):
        shard_of([], shard)


def test_shards_on_one_folder_make_the_sweep(tmp_path: Path) -> None:
    lanes = [lane(HOPELESS, "base"), (Spec(task=TINY, agent="tests.shared.small:Small"),)]
    whole = sweep(lanes, tmp_path / "whole")
    parts = [sweep(shard_of(lanes, f"{i}/2"), tmp_path / "parts") for i in range(2)]
    assert Counter(o.status for o in whole) == Counter(o.status for o in itertools.chain(*parts))
    assert {"done", "served"} == {o.status for o in whole}
    ledgers = [
        {path.removeprefix(f"{out}/"): content for path, content in tree(out).items() if path.endswith("ledger.jsonl")}
        for out in (tmp_path / "whole", tmp_path / "parts")
    ]
    assert ledgers[0] == ledgers[1] and len(ledgers[0]) == 2


def test_what_is_finished_or_served_is_not_left(tmp_path: Path) -> None:
    lanes = [lane(TINY, "memorise"), lane(TINY, "memorise", 1), lane(HOPELESS, "base")]
    execute(lanes[0][1], tmp_path)  # two successes in 64, asked 60 times: met
    execute(lanes[2][0], tmp_path)  # met none, so it serves its lane
    before = tree(tmp_path)
    plan = make_plan(lanes, tmp_path)
    assert plan.left == ((lanes[0][0],), lanes[1], ())
    assert tree(tmp_path) == before
    assert 0 < plan.minutes[TINY, "memorise"] < 1


def test_minutes_are_the_median_of_this_task_and_agent_else_the_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, seconds in enumerate((60.0, 90.0, 240.0)):
        extra = make_run(tmp_path / "submissions", "base", seed, wall_s=seconds).execution.evaluation_s
    make_run(tmp_path / "submissions", "base", 9, wall_s=9_000.0, tuned=True)  # counts for nothing
    known = {"test/Hopeless-v0": {"minutes": 5.0}}
    monkeypatch.setattr(planning, "measured", lambda task: known.get(task.problem.id))
    lanes = [lane(TINY, "base"), lane(HOPELESS, "base"), lane(NETWORK, "base")]
    plan = make_plan(lanes, tmp_path / "out")
    assert plan.minutes == {(TINY, "base"): pytest.approx((90 + extra) / 60), (HOPELESS, "base"): 5.0}
    text = describe_plan(plan, 2, ["banel", "bench", "--out", "my runs"])
    assert "6 of 6 runs are left" in text and "2 runs whose task and agent have no measurement" in text


def test_time_and_shards_by_hand() -> None:
    lanes = tuple((Spec(task=TASK, agent=agent, seed=seed),) for seed in range(3) for agent in ("slow", "quick"))
    plan = Plan(lanes, lanes, {(TASK, "slow"): 50.0, (TASK, "quick"): 10.0})
    assert plan.wall(1) == 180 and plan.wall(100) == 50
    assert plan.wall(2) == 110  # 50, 10, 50 on one and 10, 50, 10 on the other, each taking the next when free
    assert plan.slowest(2) == 150  # every slow one falls into the first shard
    assert plan.slowest(3) == 60 and plan.elements() == 3
    text = describe_plan(plan, 1, ["banel", "bench", "--out", "my runs"])
    sbatch = shlex.split(text.splitlines()[-1])
    assert sbatch[:2] == ["sbatch", "--array=0-2"] and "--time=125" in sbatch
    assert sbatch[-1] == "--wrap=banel bench --out 'my runs' --jobs 1 --shard $SLURM_ARRAY_TASK_ID/3"
    assert Plan(lanes, lanes, {}).elements() == 6
    assert Plan(lanes * 1_000, lanes * 1_000, {(TASK, "slow"): 5_000.0}).elements() == MOST_ELEMENTS


def test_plan_and_shard_of_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SUITES, "tiny", Suite("two lanes", (TINY,), ("base",), (0, 1), ("failures",)))
    bench = ["bench", "--suite", "tiny", "--out", str(tmp_path / "out"), "--jobs", "1"]
    assert main([*bench, "--plan"]) == 0
    assert "2 of 2 runs are left" in capsys.readouterr().out and not (tmp_path / "out").exists()
    assert main([*bench, "--shard", "1/2"]) == 0
    assert main([*bench, "--plan"]) == 0
    assert "1 of 2 runs are left" in capsys.readouterr().out
    assert main([*bench, "--shard", "0/2"]) == 0 and main([*bench, "--plan"]) == 0
    out = capsys.readouterr().out
    assert "0 of 2 runs are left" in out and "sbatch" not in out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--shard", "2/2"), "write i/n"),
        (("--plan", "--jobs", "0"), "--jobs is 0"),
        (("--address", "auto"), "it goes with --engine ray"),
        (("--retries", "1"), "it goes with --engine ray"),
        (("--engine", "ray", "--retries", "-1"), "at least 0"),
    ],
)
def test_bad_options_of_bench(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], says: str
) -> None:
    assert main(["bench", "--suite", "smoke", "--out", str(tmp_path / "out"), *options]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_a_suite_does_not_change_when_an_agent_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(AGENTS, "newcomer", AGENTS["base"])
    again = runpy.run_path(str(suites.__file__))["SUITES"]
    assert {name: str(suite) for name, suite in again.items()} == {name: str(suite) for name, suite in SUITES.items()}
    named = {agent for suite in SUITES.values() for part in suite.parts for agent in part.agents}
    assert named <= set(AGENTS) - {"newcomer"}
