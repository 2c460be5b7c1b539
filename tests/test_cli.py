"""The command: what it does, and how it refuses."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from banel_leaderboard import RunRecord, load_policy, run, suites
from banel_leaderboard.cli import main, parse_seeds
from tests.test_harness import only_run, tree

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-c", "import sys; from banel_leaderboard.cli import main; sys.exit(main())"]

MODULE = """
import numpy as np
from banel_envs import Problem, Task
from banel_envs.policies import Uniform
from banel_agents.controls import Base

def build():
    problem = Problem("me/Sum-v0", tuple("0123"), horizon=3, budget=30, base=lambda: Uniform(4, 3, None))
    return Task(problem, reward=lambda tokens: (tokens.sum(axis=1) >= 7).astype(np.int8))

class MyAgent(Base):
    name = "mine"

class SeedOneFails(Base):
    name = "fails"
    def learn(self, problem, oracle, rng):
        for policy in super().learn(problem, oracle, rng):
            yield policy
        if oracle.ledger.header["seed"] == 1:
            raise RuntimeError("not with seed 1")
"""
RUN = ["run", "--task", "tests.small:task", "--agent", "tests.small:Small", "--jobs", "1"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with a module of the user's own, and two finished runs in `out`."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "my_module.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        arguments = ["--task", "my_module:build", "--agent", "my_module:MyAgent", "--set", "batch=7", "--seeds", "0,1"]
        assert main(["run", *arguments, "--jobs", "2", "--out", "out"]) == 0
        yield folder
    sys.modules.pop("my_module")
    sys.path.remove(str(folder))


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Calls the command; it must refuse in one line with exit code 2 and leave the folder as it was."""

    def call(*arguments: str) -> str:
        before = tree(tmp_path)
        try:
            code = main(arguments)
        except SystemExit as end:
            code = int(end.code or 0)
        printed, said = capsys.readouterr()
        assert code == 2 and not printed
        assert said.startswith("banel") and said.endswith("\n") and said.count("\n") == 1
        assert tree(tmp_path) == before
        return said

    return call


BAD = {
    "task": (["--task", "banel/None-v0"], "no task 'banel/None-v0'; the tasks are banel/AdditionAttack-v0"),
    "module": (["--task", "no_such_module:build"], "give an id, or module:function"),
    "agent": (["--agent", "bannel"], "no agent 'bannel'; the agents are base, "),
    "agent's class": (["--agent", "tests.small:Nobody"], "Nobody"),
    "option": (["--budgets", "3"], "unrecognized arguments: --budgets 3"),
    "budget 0": (["--budget", "0"], "budget is 0; it must be a whole number of evaluations, at least 1"),
    "budget -5": (["--budget", "-5"], "budget is -5; it must be"),
    "budget many": (["--budget", "many"], "--budget: it is 'many'; it must be a whole number, at least 1"),
    "budget 2.5": (["--budget", "2.5"], "--budget: it is '2.5'; it must be a whole number"),
    "jobs": (["--jobs", "0"], "--jobs is 0; it must be at least 1"),
    "timeout": (["--timeout", "nan"], "a number of seconds above 0"),
    "timeout for ever": (["--timeout", "inf"], "a number of seconds above 0"),
    "feedback": (["--feedback", "some"], "choose from"),
    "setting": (["--set", "bach=3"], "has no setting 'bach'; its settings are batch, rate, form, loud"),
    "setting's type": (["--set", "batch=x"], "batch is 'x'; it must be of type int"),
    "setting's form": (["--set", "batch"], "write NAME=VALUE"),
    "bool for int": (["--set", "batch=true"], "it must be of type int"),
    "config": (["--config", "missing.json"], "give a JSON or TOML file of settings"),
    "device": (["--device", "gpu"], "it is cpu, cuda or cuda:<k>"),
    "oracle": (["--oracle", "lab"], "write file:DIR"),
    "wait": (["--wait", "3"], "give oracle file:DIR too"),
}


@pytest.mark.parametrize("name", BAD)
def test_run_refuses(name: str, refused: Callable[..., str], tmp_path: Path) -> None:
    arguments, says = BAD[name]
    assert says in refused(*RUN, "--out", str(tmp_path / "out"), *arguments)


@pytest.mark.parametrize("seeds", ["", "x", "1-", "-1", "3-1", "0,4-2", "1,1", "0-3,2", "1.5", "0-99999", "0 1", "1_0"])
def test_malformed_seeds_are_refused(seeds: str, refused: Callable[..., str], tmp_path: Path) -> None:
    assert "0-4 or 0,3,7" in refused(*RUN, "--out", str(tmp_path / "out"), f"--seeds={seeds}")


def test_seeds_as_people_write_them() -> None:
    assert parse_seeds("0-2") == [0, 1, 2] and parse_seeds("7") == [7] and parse_seeds("5,0-1,9") == [5, 0, 1, 9]


@pytest.mark.parametrize(("content", "suffix"), [("{", "json"), ("[1]", "json"), ("batch = ", "toml")])
def test_a_malformed_config_is_refused(content: str, suffix: str, refused: Callable[..., str], tmp_path: Path) -> None:
    config = tmp_path / f"config.{suffix}"
    config.write_text(content)
    assert "of settings" in refused(*RUN, "--out", str(tmp_path / "out"), "--config", str(config))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["run", "--task", "tests.small:task"], "required: --agent, --out"),
        (["bench", "--suite", "huge", "--out", "@/out"], "no suite 'huge'; the suites are smoke, quick, addition"),
        (["board", "@/none", "--out", "@/page.html"], "none is not a folder of runs"),
        (["board", "@", "--out", "@/page.html"], "holds no record.json"),
        (["board", "@", "--out", "@/page.pdf"], "name a file that ends in .html, .md, .png"),
        (["show", "@"], "record.json cannot be read"),
        (["show", "@", "-n", "0"], "-n is 0; it must be at least 1"),
        (["show", "@", "-n", "few"], "it is 'few'; it must be a whole number"),
        (["replay", "@"], "holds no finished run"),
        (["replay", "@/none"], "holds no finished run"),
    ],
)
def test_other_commands_refuse(arguments: list[str], says: str, refused: Callable[..., str], tmp_path: Path) -> None:
    assert says in refused(*(a.replace("@", str(tmp_path)) for a in arguments))


def test_folders_of_something_else_are_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("tests.small:task", "tests.small:Small", out=out)
    assert "its budget is 60, this run's is 6; choose another folder" in refused(
        *RUN, "--out", str(out), "--budget", "6"
    )
    assert "its config is" in refused(*RUN, "--out", str(out), "--set", "rate=0.25")
    ledger = only_run(out) / "ledger.jsonl"
    elsewhere = tmp_path / "other/test/Graded-v0/small/failures/seed-0"
    shutil.copytree(ledger.parent, elsewhere)
    other = [*RUN, "--task", "tests.small:graded", "--out", str(tmp_path / "other")]
    assert "its task is 'test/Tiny-v0', this run's is 'test/Graded-v0'" in refused(*other)
    ledger.write_bytes(ledger.read_bytes().replace(b'"n":10', b'"n":11', 1))
    assert "line 2 is not what was written" in refused(*RUN, "--out", str(out))
    assert "is a file; name a folder" in refused(*RUN, "--out", str(ledger))


def test_the_command_itself_refuses_in_one_line(tmp_path: Path) -> None:
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="banel")
    assert entry.value == "banel_leaderboard.cli:main"
    (tmp_path / "file").write_text("mine")
    for arguments, says in (
        (["run", "--task", "banel/None-v0", "--agent", "base", "--out", "out"], "no task 'banel/None-v0'"),
        (["run", "--task", "banel/AdditionAttack-v0", "--agent", "base", "--out", "file"], "file is a file"),
        (["bench", "--suite", "smoke"], "required: --out"),
    ):
        done = subprocess.run([*COMMAND, *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 2 and not done.stdout
        assert says in done.stderr and done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    assert "banel/AdditionAttackHard-v0" in printed and "without_replacement" in printed and "smoke" in printed


def test_runs_of_the_users_own_task_and_agent(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = workplace / "out/me/Sum-v0/mine/failures"
    assert sorted(path.name for path in folder.iterdir()) == ["seed-0", "seed-1"]
    record = RunRecord.load(folder / "seed-1/record.json")
    assert (
        record.config == {"batch": 7} and record.tuned and record.ledger.count == 30 and record.execution.threads == 1
    )
    before = tree(workplace / "out")
    again = ["run", "--task", "my_module:build", "--agent", "my_module:MyAgent", "--out", "out", "--seeds", "0-1"]
    assert main([*again, "--set", "batch=7"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 kept in out"
    assert tree(workplace / "out") == before


def test_show(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "out/me/Sum-v0/mine/failures/seed-0", "-n", "4"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 4 and all(abs(float(log_prob) - -4.1589) < 1e-3 for log_prob, _ in lines)  # log(1/64)
    assert all(len(text) == 3 and set(text) <= set("0123") for _, text in lines)
    assert load_policy("out/me/Sum-v0/mine/failures/seed-0").log_prob is not None


def test_board(workplace: Path) -> None:
    for name, holds in (("page.html", "me/Sum-v0"), ("table.md", "mine")):
        assert main(["board", "out", "--out", name]) == 0
        assert holds in (workplace / name).read_text()


def test_replay_proves_goes_on_after_a_failure_and_lists_it(
    workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(workplace / "out", tmp_path / "out")
    assert main(["replay", str(tmp_path / "out")]) == 0
    assert "2 of 2 proved" in capsys.readouterr().out
    path = tmp_path / "out/me/Sum-v0/mine/failures/seed-0/record.json"
    record = json.loads(path.read_text())
    record["successes_asked"] += 1
    path.write_text(json.dumps(record))
    assert main(["replay", str(tmp_path / "out")]) == 1
    printed, said = capsys.readouterr()
    assert "1 of 2 proved" in printed and "seed-1" in printed
    assert said.count("not proved") == 1 and "seed-0: NotProved" in said and "the record's successes_asked is" in said


def test_a_failed_run_is_reported_and_the_rest_kept(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "--task", "my_module:build", "--agent", "my_module:SeedOneFails", "--seeds", "0-2"]
    assert main([*arguments, "--jobs", "2", "--out", "some"]) == 1
    printed, said = capsys.readouterr()
    assert "2 done, 1 failed in some" in printed
    (line,) = [line for line in said.splitlines() if line.startswith("failed: ")]
    assert "my_module:SeedOneFails on my_module:build, failures, seed 1" in line and "not with seed 1" in line
    finished = sorted(path.parent.name for path in (workplace / "some").rglob("record.json"))
    assert finished == ["seed-0", "seed-2"]
    assert (workplace / "some/me/Sum-v0/fails/failures/seed-1/ledger.jsonl").exists()


def test_a_run_that_takes_too_long_is_stopped_and_counted_as_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert main([*RUN, "--out", str(tmp_path), "--timeout", "0.05"]) == 1
    assert "stopped after 0.05 s; run again to go on where it was" in capsys.readouterr().err


def test_bench_serves_a_lane_that_met_no_success_with_one_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    suite = suites.Suite("", ("tests.small:hopeless",), ("base",), (0,), ("full", "failures"), ("base",))
    monkeypatch.setitem(suites.SUITES, "tiny", suite)
    assert main(["bench", "--suite", "tiny", "--out", str(tmp_path), "--jobs", "1"]) == 0
    assert "1 done, 2 served" in capsys.readouterr().out
    assert only_run(tmp_path).parts[-2:] == ("full", "seed-0")
