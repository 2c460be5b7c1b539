"""Runs killed with SIGKILL at random moments and taken up again; `python -m benchmarks.kills` has the full size."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from banel_envs.ledger import Ledger
from banel_leaderboard import RunRecord
from benchmarks.kills import BAD, LOG, TASK, repeats, trials
from tests.test_harness import only_run

ROOT = Path(__file__).parents[1]


def check(runs: int, seeds: int, scratch: Path) -> None:
    tally = trials(runs, seeds, seed=1, scratch=scratch)
    assert {name: tally[name] for name in BAD} == dict.fromkeys(BAD, 0)
    assert tally["runs"] == runs and tally["late kills"] >= runs / 2  # it did kill


def test_killed_runs_end_as_if_they_had_not_been(tmp_path: Path) -> None:
    check(2, 1, tmp_path)


@pytest.mark.slow
def test_many_killed_runs_end_as_if_they_had_not_been(tmp_path: Path) -> None:
    check(40, 2, tmp_path)


def test_the_witness_sees_what_was_asked_again_and_what_was_not_asked() -> None:
    a, b = b"00000\n", b"11111\n"
    assert repeats([a, b], [a, b]) == 0 and repeats([a, a], [a, a]) == 0
    assert repeats([a, a, b, b], [a, b]) == 2
    with pytest.raises(RuntimeError, match="does not hold there"):
        repeats([a, b, a], [a, b])
    with pytest.raises(RuntimeError, match="holds 2 questions, the reward was asked 1"):
        repeats([a], [a, b])


def test_the_whole_command_killed_leaves_no_run_behind_and_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; from banel_leaderboard.cli import main; sys.exit(main())", "run"]
    command += ["--task", TASK, "--agent", "banel", "--jobs", "1", "--feedback", "full", "--out", str(tmp_path / "out")]
    command += ["--set", "batch=20", "--set", "pool=500", "--isolate"]
    environment = os.environ | {LOG: str(tmp_path / "asked.txt")}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not (tmp_path / "asked.txt").exists() or len((tmp_path / "asked.txt").read_bytes()) < 200:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(
        signal.SIGKILL
    )  # the command alone: its worker, and the agent's process, must end by themselves
    process.wait()
    done = retry(command, environment)
    assert done.returncode == 0, done.stderr
    folder = only_run(tmp_path / "out")
    ledger = Ledger.read(folder / "ledger.jsonl")
    asked = (tmp_path / "asked.txt").read_text().splitlines()
    assert ledger.count == 300 and len(asked) - len(ledger.asks) in (0, 1)
    assert RunRecord.load(folder / "record.json").execution.resumed == 1


def retry(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The same command once more, as soon as the old worker has let go of the ledger."""
    deadline = time.monotonic() + 20
    while True:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if "is being written by another run" not in done.stderr or time.monotonic() > deadline:
            return done
        time.sleep(0.2)
