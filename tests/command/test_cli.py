"""The `banel` command: what it does, and the one line it says to each bad input."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from banel_agents import AGENTS
from banel_envs import TASKS
from banel_leaderboard.command.cli import main, parser
from banel_leaderboard.command.settings import parse_seeds, read_settings
from banel_leaderboard.sweeping.suites import SUITES
from tests.shared.harness_tasks import HERE

TASK, STEPS = HERE + "build", HERE + "Steps"
OWN = ("--task", TASK, "--agent", STEPS)
RUN = ("run", *OWN)
MINE = """
from dataclasses import dataclass

import numpy as np
from banel_envs import Problem, Task
from banel_envs.policies import Uniform


def build():
    problem = Problem("me/Sum-v0", tuple("0123"), horizon=3, budget=30, base=lambda: Uniform(4, 3, None))
    return Task(problem, reward=lambda tokens: tokens.sum(axis=1) >= 8, digest="d")


@dataclass(frozen=True)
class Config:
    batch: int = 5


class MyAgent:
    name = "mine"
    Config = Config

    def __init__(self, config=None):
        self.config = config or Config()

    def learn(self, problem, oracle, rng):
        yield problem.base_policy()
        while oracle.left:
            oracle(problem.base_policy().sample(min(self.config.batch, oracle.left), rng))


class FailsOnOne(MyAgent):
    name = "fails_on_one"

    def learn(self, problem, oracle, rng):
        yield problem.base_policy()
        if rng.bit_generator.seed_seq.entropy == 1:
            raise RuntimeError("not this seed")
        yield from super().learn(problem, oracle, rng)


class NeverAsks(MyAgent):
    name = "never_asks"

    def learn(self, problem, oracle, rng):
        policy = problem.base_policy()
        yield policy
        if oracle.left == 30:
            oracle(policy.sample(5, rng))
        while True:
            yield policy
"""


def banel(capsys, *arguments):
    """Exit code, stdout, stderr of the command in this process."""
    path = list(sys.path)
    try:
        code = main(list(map(str, arguments)))
    except SystemExit as error:
        code = error.code
    finally:
        sys.path[:] = path
    return code, *capsys.readouterr()


def command(folder, *arguments):
    """The same in a process of its own, in a working folder."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [Path(sys.executable).with_name("banel"), *map(str, arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def refused(result, says):
    code, _, errors = result
    assert code == 2, errors
    assert errors.endswith("\n") and errors.count("\n") == 1, f"not one line: {errors!r}"
    assert re.search(says, errors), errors


def tree(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A folder with one finished run, made by the command; nobody writes into it."""
    out = tmp_path_factory.mktemp("done")
    assert main([*RUN, "--seeds", "3", "--out", str(out)]) == 0
    return out


def run_folder(out):
    return next(out.rglob("record.json")).parent


# --- bad input


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--task", "banel/None-v0"), "no task 'banel/None-v0'; the tasks are banel/AdditionAttack-v0"),
        (
            ("--task", "AdditonAttackHard"),
            r"did you mean banel/AdditionAttackHard-v0\? The tasks are banel/AdditionAttack-v0",
        ),
        (("--task", "no_such_module:build"), "module:function"),
        (("--task", HERE + "raises"), "no reward machine"),
        (("--agent", "nobody"), "no agent 'nobody'; the agents are base"),
        (("--agent", "BaNLE"), r"no agent 'BaNLE'; did you mean banel\? The agents are base"),
        (("--agent", "no_such_module:Agent"), "no module 'no_such_module' in the working folder.*; write module:Class"),
        (("--agent", "no_such_module.py:Agent"), "no module 'no_such_module' .* without folder or .py"),
        (("--agent", "./my/agent:Agent"), "no module './my/agent' .* without folder or .py"),
        (("--agent", ":Agent"), "no module '' .* write module:Class"),
        (
            ("--agent", HERE + "Step"),
            r"has no 'Step'; did you mean Steps\? Its agents are Steps, .*; write module:Class",
        ),
        (("--agent", HERE + "Nobody"), "Nobody"),
        (("--feedback", "loud"), "invalid choice: 'loud'.*failures.*full"),
        (("--budget", "0"), "budget is 0; .* at least 1"),
        (("--budget", "-5"), "budget is -5; .* at least 1"),
        (("--budget", "many"), "--budget: invalid int value: 'many'"),
        (("--budget", "1.5"), "--budget: invalid int value: '1.5'"),
        (("--seeds", "x"), "write them like 0-4"),
        (("--seeds", ""), "write them like 0-4"),
        (("--seeds", "3-1"), "write them like 0-4"),
        (("--seeds", "0,4-2"), "write them like 0-4"),
        (("--seeds", "0-99999999999"), "at most 10,000 a range"),
        (("--seeds", "0-99999999999999999999999"), "at most 10,000 a range"),
        (("--seeds", "1,1"), "write different whole numbers"),
        (("--seeds", "1.5"), "write them like 0-4"),
        (("--seeds=-1",), "write them like 0-4"),
        (("--set", "batches=3"), r"no setting 'batches'; did you mean batch\? Its settings are batch"),
        (("--set", "batch=x"), r"batch is 'x'; it must be a whole number \(int\)"),
        (("--set", "batch=1.5"), "must be a whole number"),
        (("--set", "batch=" + "9" * 5_000), "must be a whole number"),
        (("--set", "batch=" + "[" * 100_000), "nested more than 64 levels deep"),
        (("--agent", "count", "--set", "batch=0"), "count: batch is 0; .* from 1 to 100,000"),
        (("--agent", "count", "--set", "lr=Infinity"), "Infinity is not a number of JSON"),
        (("--agent", "count", "--set", "lr=1e999"), "the number '1e999' is too large"),
        (("--agent", "count", "--set", "lr=NaN"), "NaN is not a number of JSON"),
        (("--agent", "banel", "--set", "phi_epochs=0"), "banel: phi_epochs is 0; .* above 0 and at most 1,000"),
        (("--set", "batch"), "write NAME=VALUE"),
        (("--config", "missing.json"), "give a JSON or TOML file"),
        (("--device", "abacus"), "it is cpu or cuda"),
        (("--jobs", "0"), "--jobs is 0; it must be at least 1"),
        (("--timeout", "0"), "seconds above 0"),
        (("--timeout", "nan"), "seconds above 0"),
        (("--timeout", "inf"), "seconds above 0"),
        (("--inherit", "nowhere"), "nowhere"),
        (("--oracle", "mail"), "file:DIR"),
        (("--colour", "red"), "unrecognized arguments: --colour red"),
    ],
)
def test_bad_options_of_run(tmp_path, capsys, arguments, says):
    refused(banel(capsys, *RUN, "--out", tmp_path / "out", *arguments), says)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "COMMAND"),
        (("dance",), "invalid choice: 'dance'.*run.*bench"),
        (("run",), "--task, --agent, --out"),
        (("bench", "--suite", "smoke"), "--out"),
        (("bench", "--suite", "none", "--out", "nowhere"), "no suite 'none'; the suites are smoke"),
        (
            ("bench", "--suite", "somke", "--out", "nowhere"),
            r"no suite 'somke'; did you mean smoke\? The suites are smoke",
        ),
        (("list", "--colour"), "unrecognized arguments"),
        (("board", "nowhere", "--out", "page.html"), "nowhere is not a folder"),
        (("board", ".", "--out", "page.pdf"), r"ends in \.html, \.md, \.png"),
        (("show", "nowhere"), "nowhere is not the folder of a finished run"),
        (("replay", "nowhere"), "no finished run"),
    ],
)
def test_bad_commands(tmp_path, capsys, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    refused(banel(capsys, *arguments), says)
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("arguments", [("board", "{}", "--out", "{}/page.html"), ("show", "{}"), ("replay", "{}")])
def test_a_folder_without_runs(tmp_path, capsys, arguments):
    refused(banel(capsys, *(a.format(tmp_path) for a in arguments)), "record.json")
    assert tree(tmp_path) == {}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("c.json", "{", "give a JSON or TOML file"),
        ("c.toml", "batch = = 3", "give a JSON or TOML file"),
        ("c.json", "[3]", "holds a list; give a table"),
        ("c.json", b"\xff\xfe\x00", "give a JSON or TOML file"),
        ("c.json", '{"batches": 3}', "no setting 'batches'"),
        ("c.json", '{"batch": NaN}', "NaN is not a number of JSON"),
        ("c.json", '{"batch": null}', "batch is None; it must be a whole number"),
        ("c.json", "[" * 100_000, "give a JSON or TOML file"),
        ("c.toml", "batch = inf", "Infinity is not a number of JSON"),
        ("c.toml", "batch = 2020-01-01", "give a JSON or TOML file"),
    ],
)
def test_bad_config_files(tmp_path, capsys, name, content, says):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(banel(capsys, *RUN, "--out", tmp_path / "out", "--config", file), says)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("below", ["", "deeper"])
def test_out_that_is_a_file(tmp_path, capsys, below):
    (tmp_path / "file").write_text("mine")
    refused(banel(capsys, *RUN, "--out", tmp_path / "file" / below), "is a file; name a folder for the runs")
    assert tree(tmp_path) == {Path("file"): b"mine"}


@pytest.mark.parametrize("change", [("--budget", "30"), ("--set", "batch=5")])
def test_a_folder_that_holds_another_run(done, capsys, change):
    before = tree(done)
    refused(banel(capsys, *RUN, "--seeds", "3", "--out", done, *change), "ledger.jsonl")
    assert tree(done) == before


def test_show_wants_at_least_one_sample(done, capsys):
    for n in ("0", "1000000000000"):
        refused(banel(capsys, "show", run_folder(done), "-n", n), "at least 1 and at most 100,000")


def _without(done, tmp_path, *names):
    """A copy of the finished run, some of its files left out."""
    shutil.copytree(run_folder(done), tmp_path / "run")
    for name in names:
        (tmp_path / "run" / name).unlink()
    return tmp_path / "run"


def test_show_says_why_there_is_no_policy(done, tmp_path, capsys):
    """Not finished, no stored form, left out, no run at all: each has its own way out."""
    refused(
        banel(capsys, "show", _without(done, tmp_path / "a", "record.json")), "is not finished; run the same command"
    )
    refused(
        banel(capsys, "show", _without(done, tmp_path / "b", "record.json", "final.safetensors")), "is not finished"
    )
    refused(banel(capsys, "show", _without(done, tmp_path / "c", "final.safetensors")), "the file was left out")
    folder = _without(done, tmp_path / "d", "final.safetensors")
    fields = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps(fields | {"policy_sha256": None}))
    refused(banel(capsys, "show", folder), "is finished, and its policy has no stored form")
    refused(banel(capsys, "show", tmp_path), "not the folder of a run; name one that holds record.json")


def test_an_agents_module_says_what_is_wrong_with_it(tmp_path):
    (tmp_path / "needs.py").write_text("import no_such_package")
    (tmp_path / "broken.py").write_text("def f(:")
    for module, says in (
        ("needs", "its module needs needs 'no_such_package', which is not installed"),
        ("broken", "importing 'broken' raised SyntaxError"),
    ):
        result = command(tmp_path, "run", "--task", "banel/EhrlichEasy-v0", "--agent", f"{module}:A", "--out", "o")
        refused((result.returncode, result.stdout, result.stderr), says)


def test_an_agent_that_never_asks_fails_and_does_not_hang(tmp_path):
    (tmp_path / "my_module.py").write_text(MINE)
    result = command(tmp_path, "run", "--task", "my_module:build", "--agent", "my_module:NeverAsks", "--out", "o")
    assert result.returncode == 1 and "1 failed" in result.stdout
    assert "never_asks yielded 10,001 policies without a question, at NRE 5 of 30" in result.stderr
    assert "Traceback" not in result.stderr


# --- help


def subcommands():
    return next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)).choices


def examples(text):
    """The commands at the end of a help text."""
    lines = text[text.rindex("example") :].splitlines()[1:]
    assert lines and all(line.startswith("  banel ") for line in lines)
    return [shlex.split(line)[1:] for line in lines]


@pytest.mark.parametrize("name", list(subcommands()))
def test_every_commands_help_ends_with_an_example_of_it_that_parses(name, capsys):
    code, out, _ = banel(capsys, name, "--help")
    assert code == 0
    for arguments in examples(out):
        assert arguments[0] == name
        assert parser().parse_args(arguments).command is subcommands()[name].get_default("command")


def test_the_examples_name_what_there_is(capsys):
    _, out, _ = banel(capsys, "--help")
    every = [*examples(out), *(a for p in subcommands().values() for a in examples(p.format_help()))]
    options = [parser().parse_args(arguments) for arguments in every]
    assert {o.suite for o in options if getattr(o, "suite", None)} <= set(SUITES)
    assert {o.task for o in options if isinstance(getattr(o, "task", None), str)} <= set(TASKS)
    named = {
        name
        for o in options
        if getattr(o, "agent", None)
        for name in ([o.agent] if isinstance(o.agent, str) else o.agent)
    }
    assert {name for name in named if ":" not in name} <= set(AGENTS)


def test_the_package_runs_as_a_module(tmp_path):
    (tmp_path / "argparse.py").write_text("raise RuntimeError('the working folder came first')")
    for arguments in (("--help",), ("board", "nowhere", "--out", "page.html")):
        result = subprocess.run(
            [sys.executable, "-m", "banel_leaderboard", *arguments], cwd=tmp_path, capture_output=True, text=True
        )
        with_script = command(tmp_path, *arguments)
        assert (result.returncode, result.stdout, result.stderr) == (
            with_script.returncode,
            with_script.stdout,
            with_script.stderr,
        )


def test_bad_input_in_a_real_process(tmp_path):
    for arguments, says in (
        (("run", "--task", "banel/None-v0", "--agent", "base", "--out", "o"), "no task 'banel/None-v0'"),
        (("run", "--task", "banel/AdditionAttack-v0", "--agent", "base", "--budget", "0", "--out", "o"), "budget is 0"),
        (("board", "nowhere", "--out", "page.html"), "nowhere is not a folder"),
    ):
        result = command(tmp_path, *arguments)
        refused((result.returncode, result.stdout, result.stderr), says)
    assert tree(tmp_path) == {}


# --- what it does


def test_list_names_every_task_agent_and_suite(capsys):
    code, out, _ = banel(capsys, "list")
    assert code == 0
    assert all(name in out for name in (*TASKS, *AGENTS, *SUITES))
    assert "(2 tasks x 5 agents x 2 seeds, failures)" in out
    assert re.search(r"banel/AdditionAttack-v0 +paper .* 7,500 +\d\.\d  -\d\.\d{4} \(exact\)", out)


def test_run_makes_a_run_and_a_second_time_keeps_it(done, capsys):
    before = tree(done)
    code, out, _ = banel(capsys, *RUN, "--seeds", "3", "--out", done)
    assert code == 0 and "1 kept" in out and "done" not in out.splitlines()[-1].replace(str(done), "")
    assert re.search(r"own/Tiny-v0 +steps +failures +seed 3: log10 success -1\.505 -> -0\.040", out)
    assert tree(done) == before


def test_a_twin_is_said_to_be_told_nothing(tmp_path, capsys):
    code, out, err = banel(capsys, *RUN, "--seeds", "3", "--twin", "--out", tmp_path)
    assert not err
    assert code == 0 and re.search(r"own/Tiny-v0 +steps +twin +seed 3: .*, told nothing, ", out)
    assert "first success" not in out


@pytest.mark.parametrize(("suffix", "holds"), [(".html", "<html"), (".md", "own/Tiny-v0"), (".png", "PNG")])
def test_board_writes_what_the_suffix_says(done, tmp_path, capsys, suffix, holds):
    code, out, _ = banel(capsys, "board", done, "--out", tmp_path / f"board{suffix}")
    assert code == 0 and f"board{suffix}" in out
    assert holds in (tmp_path / f"board{suffix}").read_bytes().decode(errors="ignore")


def test_board_says_how_many_runs_it_refused_and_fails_where_none_is_left(done, tmp_path, capsys):
    out = Path(shutil.copytree(done, tmp_path / "runs"))
    record = out / "other" / "record.json"
    shutil.copytree(run_folder(out), record.parent)
    record.write_text("{")
    code, said, _ = banel(capsys, "board", out, "--out", tmp_path / "board.md")
    assert code == 0 and said.endswith("board.md; runs: 1 shown, 1 refused\n")
    shutil.rmtree(next(path for path in out.rglob("ledger.jsonl") if path.parent != record.parent).parent)
    code, said, _ = banel(capsys, "board", out, "--out", tmp_path / "board.md")
    assert code == 1 and said.endswith("board.md; runs: 0 shown, 1 refused\n")


def test_show_samples_the_final_policy_of_a_task_of_ones_own(done, capsys):
    code, out, _ = banel(capsys, "show", run_folder(done), "-n", "6", "--task", TASK)
    lines = [line.split() for line in out.splitlines()]
    assert code == 0 and len(lines) == 6
    assert {text for _, text in lines} & {"ddd", "ddc"} and all(float(log_prob) <= 0 for log_prob, _ in lines)


def test_replay_proves_a_run_and_names_a_changed_record(done, tmp_path, capsys):
    code, out, _ = banel(capsys, "replay", done, *OWN)
    assert code == 0 and "1 of 1 proved" in out
    for path, content in tree(done).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    record = run_folder(tmp_path) / "record.json"
    fields = json.loads(record.read_text())
    record.write_text(json.dumps(fields | {"successes_asked": fields["successes_asked"] + 1}))
    code, out, errors = banel(capsys, "replay", tmp_path, *OWN)
    assert code == 1 and "0 of 1 proved" in out and "1 disproved" in out
    assert re.search(r"^disproved .*successes_asked is", errors)


def test_replay_of_an_inherited_run_needs_no_old_run(done, tmp_path, capsys):
    old = tmp_path / "old" / "ledger.jsonl"
    old.parent.mkdir()
    old.write_bytes((run_folder(done) / "ledger.jsonl").read_bytes())
    code, _, errors = banel(capsys, *RUN, "--inherit", old.parent, "--out", tmp_path / "new")
    assert code == 0, errors
    fields = json.loads((run_folder(tmp_path / "new") / "record.json").read_text())
    assert fields["off_board"] and fields["inherits"]
    old.unlink()
    code, out, errors = banel(capsys, "replay", tmp_path / "new", *OWN)
    assert code == 0 and "1 of 1 proved" in out, errors


def test_a_failing_run_is_reported_and_the_rest_kept(tmp_path):
    (tmp_path / "my_module.py").write_text(MINE)
    arguments = ("run", "--task", "my_module:build", "--agent", "my_module:FailsOnOne", "--seeds", "0-2", "--out", "o")
    result = command(tmp_path, *arguments)
    assert result.returncode == 1
    assert "failed: my_module:FailsOnOne on my_module:build, failures, seed 1: " in result.stderr
    assert "RuntimeError: not this seed" in result.stderr and "Traceback" not in result.stderr
    assert "2 done, 1 failed in o" in result.stdout
    assert sorted(p.parent.name for p in (tmp_path / "o").rglob("record.json")) == ["seed-0", "seed-2"]


def test_a_task_and_an_agent_of_ones_own(tmp_path):
    (tmp_path / "my_module.py").write_text(MINE)
    run = ("run", "--task", "my_module:build", "--agent", "my_module:MyAgent", "--out", "o", "--set", "batch=7")
    result = command(tmp_path, *run)
    assert result.returncode == 0 and "1 done in o" in result.stdout, result.stderr
    folder = tmp_path / "o" / "me" / "Sum-v0" / "mine" / "failures" / "seed-0"
    assert json.loads((folder / "record.json").read_text())["config"] == {"batch": 7}
    shown = command(tmp_path, "show", folder, "-n", "4", "--task", "my_module:build")
    assert shown.returncode == 0 and len(shown.stdout.splitlines()) == 4, shown.stderr
    assert "1 kept in o" in command(tmp_path, *run).stdout


def test_seeds_and_settings_as_they_are_written(tmp_path):
    assert (
        parse_seeds("0-4") == [0, 1, 2, 3, 4] and parse_seeds("3") == [3] and parse_seeds("0,2,5-7") == [0, 2, 5, 6, 7]
    )
    (tmp_path / "c.toml").write_text("f = 2.5\nform = 'regions'\n")
    assert read_settings(tmp_path / "c.toml", ["f=16", "name=word"]) == {"f": 16, "form": "regions", "name": "word"}
