"""What CONTRIBUTING.md says of adding a task and an agent, followed to the letter in a copy of this checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[2]
STEP = re.compile(r"^ *<!-- (file|line): (\S+) -->\n *```python\n(.*?)^ *```$", re.M | re.S)
STEPS = [(kind, place, dedent(text)) for kind, place, text in STEP.findall((ROOT / "CONTRIBUTING.md").read_text())]
ROOMS = "tests/project/test_rooms.py"
UNTRACKED = (
    ".*_cache",
    ".git",
    ".venv",
    ".hypothesis",
    "__pycache__",
    "_build",
    "generated",
    "out",
    "dist",
    "*.egg-info",
)


def copy_of_the_checkout(to):
    """The tracked files; all but what tools leave, where this is no checkout, such as the copy that CI makes."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        shutil.copytree(ROOT, to, ignore=shutil.ignore_patterns(*UNTRACKED))
        return
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, to / name)


def follow(to):
    """Write each file that the guide shows, and put each line into the registry of its module."""
    for kind, place, text in STEPS:
        path = to / place
        if kind == "file":
            assert not path.exists(), f"{place} is there already; let the guide add another one"
            path.write_text(text)
        else:
            head, end, tail = path.read_text().partition("\n}\n")  # the registry is the first dictionary
            assert end and len(text.splitlines()) == 1
            path.write_text(f"{head}\n    {text.rstrip()}{end}{tail}")


def in_the_copy(copy, *arguments):
    """Run Python on the packages of the copy, without a kernel, as nothing was built there."""
    environment = {name: value for name, value in os.environ.items() if name != "BANEL_KERNEL"}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (copy, copy / "agents", copy / "leaderboard")))
    return subprocess.run(
        [sys.executable, *arguments], cwd=copy, env=environment, capture_output=True, text=True, timeout=600
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    to = tmp_path_factory.mktemp("recipe") / "checkout"
    copy_of_the_checkout(to)
    follow(to)
    return to


def test_the_guide_shows_one_file_and_one_line_of_each():
    assert [(kind, place.split("/")[-2]) for kind, place, _ in STEPS] == [
        ("file", "tasks"), ("line", "tasks"), ("file", "controls"), ("line", "banel_agents"),
    ]  # fmt: skip


def test_what_was_added_is_checked_and_keeps_the_contract(copy):
    tests = ["tests/tasks/test_contract.py", "tests/agents", "tests/running/test_runs.py", "tests/build", ROOMS]
    chosen = "Palindrome or cooling or with_weights or test_rooms"
    done = in_the_copy(copy, "-m", "pytest", "-n", "0", "-rp", "-p", "no:cacheprovider", *tests, "-k", chosen)
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-1_000:]
    passed = re.findall(r"^PASSED (\S+)", done.stdout, re.M)
    assert any("test_contract.py::test_the_contract[banel/Palindrome-v0]" in name for name in passed)
    assert any("test_agents.py::test_the_contract[cooling]" in name for name in passed)
    assert sum("[cooling" in name for name in passed) >= 8
    where = in_the_copy(
        copy, "-c", "import banel_envs, banel_agents; print(banel_envs.__file__, banel_agents.__file__)"
    )
    assert all(Path(file).is_relative_to(copy) for file in where.stdout.split())


def test_what_was_added_has_the_style_that_lint_asks_for(copy):
    pytest.importorskip("ruff")
    files = [place for _, place, _ in STEPS]
    for command in (["check"], ["format", "--check"]):
        done = in_the_copy(copy, "-m", "ruff", *command, *files)
        assert done.returncode == 0, done.stdout + done.stderr
    assert in_the_copy(copy, ".ci/checks.py").returncode == 0


def test_a_run_of_the_agent_on_the_task_is_listed_made_and_proved(copy, tmp_path):
    banel = ("-m", "banel_leaderboard")
    listed = in_the_copy(copy, *banel, "list").stdout
    assert "banel/Palindrome-v0" in listed and "cooling" in listed
    arguments = ("--task", "banel/Palindrome-v0", "--agent", "cooling", "--jobs", "1", "--out", str(tmp_path / "out"))
    for command in ((*banel, "run", *arguments), (*banel, "replay", str(tmp_path / "out"))):
        done = in_the_copy(copy, *command)
        assert done.returncode == 0, done.stdout + done.stderr
