"""A run in a forked process is the run of a process of its own, and shares nothing with the others."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from banel_leaderboard.records.record import RunRecord
from banel_leaderboard.records.spec import Spec
from banel_leaderboard.running.resolve import resolve
from banel_leaderboard.sweeping import fork_client
from banel_leaderboard.sweeping.workers import Workers
from tests.shared import forked_tasks

pytestmark = pytest.mark.skipif(not fork_client.possible("cpu"), reason="runs are forked on Linux only")

TASK = "banel/Gaussian1D-v0"
OWN = "tests.shared.forked_tasks"


def spec(task=TASK, agent="base", seed=0, **more):
    return Spec(task=task, agent=agent, seed=seed, **more)


def folder(one, out):
    return resolve(one, out).folder


@pytest.fixture
def workers(tmp_path):
    with closing(Workers(tmp_path)) as made:
        yield made


@pytest.mark.parametrize("agent", ["base", "banel", "rnd"])
def test_a_forked_run_is_the_run_of_a_process_of_its_own(agent, tmp_path):
    found = []
    for warm in (True, False):
        out = tmp_path / str(warm)
        with closing(Workers(out, warm=warm)) as workers:
            workers.run(spec(agent="count", budget=20))  # what ran before does not matter
            one = spec(agent=agent, seed=3, budget=60)
            assert workers.run(one).status == "done"
            assert workers.warm is warm
        place = folder(one, out)
        record = RunRecord.load(place / "record.json")
        assert record.execution.threads == 1 and 0 < record.execution.peak_memory_mb < 2_000
        found.append(((place / "ledger.jsonl").read_bytes(), record.canonical()))
    assert found[0] == found[1]


def test_runs_share_no_state(workers, tmp_path):
    """Two runs of one's own task: each sees a new module, one thread, no open files of others, and the folder it came from."""
    seen = []
    for seed in (0, 1):
        one = spec(f"{OWN}:noting", seed=seed, budget=4)
        outcome = workers.run(one)
        assert outcome.status == "done", outcome
        seen.append(json.loads(Path(tmp_path, forked_tasks.NOTES.format(seed)).read_text()))
    assert [note["times"] for note in seen] == [1, 1]
    # A process of its own watches its parent in a second thread; a forked one needs none.
    assert [note["threads"] for note in seen] == [1 if workers.warm else 2] * 2
    assert [note["folder"] for note in seen] == [str(Path.cwd())] * 2
    assert len({note["numpy"] for note in seen}) == 2, "NumPy's own generator begins alike in every run"
    assert len({note["python"] for note in seen}) == 2, "Python's own generator begins alike in every run"
    for note in seen:
        assert not any("seed-" in path and f"seed-{note['seed']}" not in path for path in note["files"])
        assert not any(path.startswith("socket:") for path in note["files"])


@pytest.mark.parametrize(("task", "message"), [("aborting", "exit status -6"), ("leaving", "exit status 3")])
def test_a_run_that_takes_its_process_with_it_takes_no_other(task, message, workers):
    outcome = workers.run(spec(f"{OWN}:{task}"))
    assert (outcome.status, outcome.message) == ("failed", message)
    assert workers.run(spec()).status == "done" and workers.warm


def test_an_error_is_named(workers):
    outcome = workers.run(spec(f"{OWN}:wrong"))
    assert outcome.status == "failed" and "0 or 1" in outcome.message, outcome


def test_a_run_that_takes_too_long_is_killed_and_goes_on_later(tmp_path):
    one = spec(f"{OWN}:slow", budget=4)
    with closing(Workers(tmp_path)) as workers:
        workers.run(spec())  # the parent takes seconds to start
        workers.timeout = 3.0
        outcome = workers.run(one)
    assert outcome.status == "failed" and "stopped after 3 s" in outcome.message
    Path(tmp_path, "quick").touch()
    with closing(Workers(tmp_path)) as workers:
        assert workers.run(one).status == "done"
    assert RunRecord.load(folder(one, tmp_path) / "record.json").execution.resumed == 1


def test_when_the_parent_is_killed_its_runs_end_and_the_next_ones_start_cold(tmp_path):
    with closing(Workers(tmp_path)) as workers:
        assert workers.run(spec()).status == "done"
        slow, outcomes = spec(f"{OWN}:slow", budget=4), []
        running = threading.Thread(target=lambda: outcomes.append(workers.run(slow)))
        running.start()
        ledger = folder(slow, tmp_path) / "ledger.jsonl"
        wait_for(ledger.exists)
        Path(tmp_path, "quick").touch()  # for the process that makes the run again
        os.kill(workers.server().pid, signal.SIGKILL)
        running.join(60)
        assert [outcome.status for outcome in outcomes] == ["done"] and not workers.warm


def test_closing_kills_what_runs(tmp_path):
    workers, outcomes = Workers(tmp_path), []
    slow = spec(f"{OWN}:slow", budget=4)
    running = threading.Thread(target=lambda: outcomes.append(workers.run(slow)))
    running.start()
    wait_for((folder(slow, tmp_path) / "ledger.jsonl").exists)
    workers.stop()
    running.join(30)
    workers.close()
    assert [outcome.status for outcome in outcomes] == ["failed"]
    assert workers.run(spec()).message == "stopped"


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_no_run_on_a_gpu_is_forked(device):
    assert not fork_client.possible(device)


def test_without_fork_a_process_is_started(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "fork")
    with closing(Workers(tmp_path)) as workers:
        assert workers.run(spec(budget=20)).status == "done"
        assert workers._server is None


def wait_for(true, seconds=60):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)
