"""Sweeps on a Ray cluster of several nodes on this machine: the runs of the local engine, also when a node is killed."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from banel_envs import Task
from banel_envs.errors import BadValue, MissingExtra
from banel_envs.meter import ledger_format
from banel_envs.meter.ledger import Ledger
from banel_envs.problem import Tokens
from banel_leaderboard.command.cli import main
from banel_leaderboard.records.record import RunRecord
from banel_leaderboard.records.spec import Spec
from banel_leaderboard.sweeping import ray_engine as engine
from banel_leaderboard.sweeping.suites import SUITES, Suite
from banel_leaderboard.sweeping.sweep import Lane, sweep
from banel_leaderboard.sweeping.workers import Outcome, Workers
from tests.shared import small

TINY, HOPELESS = "tests.shared.small:task", "tests.shared.small:hopeless"
NOTED, SMALL = "tests.sweeping.test_ray:noted", "tests.shared.small:Small"
NOTES = "BANEL_TEST_NOTES"  # the folder where the reward of `noted` is its own witness


class Note(NamedTuple):
    """A batch that the reward was asked, noted before it answers."""

    raylet: int
    worker: int  # Ray's
    run: int
    batch: str


def noted() -> Task:
    """`task` whose reward notes each batch and takes half a second to answer."""
    return replace(small.task(), seeded=lambda seed: replace(small.task(), reward=partial(slow_reward, seed)))


def slow_reward(seed: int, tokens: Tokens) -> Any:
    worker = parent_of(os.getppid())  # a run is forked from a parent that the worker has started
    raylet = parent_of(worker)
    line = f"{raylet} {worker} {os.getpid()} {ledger_format.pack_tokens(tokens, 4)}\n"
    fd = os.open(Path(os.environ[NOTES], f"notes-{seed}"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(fd, line.encode())
    os.close(fd)
    time.sleep(0.5)
    return small.task().reward(tokens)


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def notes(path: Path) -> list[Note]:
    fields = [line.split() for line in path.read_text().splitlines()]
    return [Note(int(raylet), int(worker), int(run), batch) for raylet, worker, run, batch in fields]


def in_flight(out: Path, killed: Sequence[int]) -> tuple[int, int, int]:
    """Raylet, worker and run where a batch was asked this instant, not yet the last one, and the node is not killed."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        for path in out.glob("notes-*"):
            *_, last = notes(path) or [None]
            if last and last.raylet not in killed and len(notes(path)) < 4 and time.time() - path.stat().st_mtime < 0.3:
                return last[:3]
        time.sleep(0.01)
    raise TimeoutError(f"no run of {out} was asking")


def add_nodes(cluster: Any, n: int) -> list[Any]:
    return [cluster.add_node(num_cpus=1) for _ in range(n)]


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'banel-envs\[cluster\]'"):
        sweep([], tmp_path, engine=engine.ray_engine)


def test_a_folder_that_the_node_does_not_see(tmp_path: Path) -> None:
    lane = (Spec(task=TINY, agent="base"), Spec(task=TINY, agent="base", seed=1))
    outcomes = list(engine.run_remote(lane, Workers(tmp_path, None), tmp_path / "mark", tmp_path))
    assert [(o.spec, o.status) for o in outcomes] == [(spec, "failed") for spec in lane]
    assert "name a folder that all nodes share" in outcomes[0].message
    assert not list(tmp_path.iterdir())


def test_a_worker_waits_for_the_ledger_of_a_lost_one(tmp_path: Path) -> None:
    spec = Spec(task=TINY, agent="base")
    assert [o.status for o in sweep([(spec,)], tmp_path)] == ["done"]
    (ledger,) = tmp_path.rglob("ledger.jsonl")
    held = f"import fcntl, time; f = open({str(ledger)!r}); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); time.sleep(5)"
    with subprocess.Popen([sys.executable, "-c", held], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline()
        assert [o.status for o in sweep([(spec,)], tmp_path)] == ["failed"]
        patient = Workers(tmp_path, None, patience=60.0)
        assert patient.finished(spec) is not None


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere", "127.0.0.1:port", "127.0.0.1:99999"]
)
def test_an_address_without_a_cluster(address: str, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with pytest.raises(BadValue, match=rf"no Ray cluster at '{address}'.*ray start --head"):
        sweep([(Spec(task=TINY, agent="base"),)], tmp_path, engine=partial(engine.ray_engine, address=address))


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A Ray cluster whose head runs nothing; nodes are added by the test."""
    pytest.importorskip("ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield started
    started.shutdown()


def ledgers(out: Path) -> dict[str, bytes]:
    return {path.parent.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("ledger.jsonl")}


def records(out: Path) -> dict[str, str]:
    return {
        path.parent.relative_to(out).as_posix(): RunRecord.load(path).canonical() for path in out.rglob("record.json")
    }


def statuses(outcomes: Sequence[Outcome]) -> Counter[tuple[str, int, str, str]]:
    return Counter((o.spec.task, o.spec.seed, o.spec.feedback, o.status) for o in outcomes)


@pytest.mark.slow
def test_two_nodes_make_the_runs_of_two_jobs(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add_nodes(cluster, 2)
    (tmp_path / "own.py").write_text("from tests.shared.small import Small\n\n\nclass Own(Small):\n    name = 'own'\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))  # as the command does
    lanes: list[Lane] = [
        (Spec(task=TINY, agent="own:Own", seed=0, feedback="full"), Spec(task=TINY, agent="own:Own")),
        (Spec(task="tests.shared.small:network", agent="tests.shared.small:Small", seed=1),),
        (Spec(task=HOPELESS, agent="base", seed=0, feedback="full"), Spec(task=HOPELESS, agent="base")),
        (Spec(task="tests.shared.harness_tasks:closed", agent="tests.shared.harness_tasks:Steps"),),
    ]
    there = partial(engine.ray_engine, address=cluster.address)
    here = sweep(lanes, Path("local"), jobs=2)
    ray = sweep(lanes, Path("ray"), engine=there)
    assert statuses(here) == statuses(ray) and {o.status for o in ray} == {"done", "served", "failed"}
    assert "failed: tests.shared.harness_tasks:Steps on tests.shared.harness_tasks:closed" in capsys.readouterr().err
    assert ledgers(tmp_path / "local") == ledgers(tmp_path / "ray") and len(ledgers(tmp_path / "ray")) == 5
    assert records(tmp_path / "local") == records(tmp_path / "ray") and len(records(tmp_path / "ray")) == 4
    assert not list((tmp_path / "ray").glob(".ray-*"))
    again = sweep(lanes[:3], Path("ray"), engine=there)
    assert Counter(o.status for o in again) == {"kept": 4, "served": 1}


@pytest.mark.slow
def test_the_command_on_a_cluster_of_this_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setitem(SUITES, "tiny", Suite("two lanes", (TINY,), ("base",), (0, 1), ("failures",)))
    bench = ["bench", "--suite", "tiny", "--jobs", "2", "--out"]
    assert main([*bench, str(tmp_path / "ray"), "--engine", "ray", "--retries", "0"]) == 0
    assert "2 done in" in capsys.readouterr().out
    assert main([*bench, str(tmp_path / "local")]) == 0
    assert records(tmp_path / "ray") == records(tmp_path / "local") and len(records(tmp_path / "ray")) == 2
    assert main([*bench, str(tmp_path / "ray")]) == 0
    assert "2 kept in" in capsys.readouterr().out


@pytest.mark.slow
def test_a_sweep_that_is_stopped_leaves_no_process_and_goes_on(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (node,) = add_nodes(cluster, 1)
    monkeypatch.setenv(NOTES, str(tmp_path))
    lanes = [
        (Spec(task="tests.sweeping.test_ray:noted", agent="tests.shared.small:Small", seed=seed, feedback="full"),)
        for seed in range(2)
    ]
    running = engine.ray_engine(lanes, Workers(tmp_path, None), address=cluster.address)
    assert next(running).status == "done"
    _, _, run = in_flight(tmp_path, [])
    running.close()  # what an interrupt of the command does
    until = time.monotonic() + 10
    while Path(f"/proc/{run}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not Path(f"/proc/{run}").exists() and not list(tmp_path.glob(".ray-*")) and node.any_processes_alive()
    assert Counter(o.status for o in sweep(lanes, tmp_path)) == {"kept": 1, "done": 1}
    assert sorted(RunRecord.load(path).execution.resumed for path in tmp_path.rglob("record.json")) == [0, 1]


@pytest.mark.slow
def test_killed_nodes_lose_nothing_and_ask_nothing_twice(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lanes = [
        (Spec(task="tests.sweeping.test_ray:noted", agent="tests.shared.small:Small", seed=seed, feedback="full"),)
        for seed in range(6)
    ]
    monkeypatch.setenv(NOTES, str(tmp_path / "local"))
    assert {o.status for o in sweep(lanes, tmp_path / "local", jobs=2)} == {"done"}
    monkeypatch.setenv(NOTES, str(tmp_path / "ray"))
    nodes = {node.all_processes["raylet"][0].process.pid: node for node in add_nodes(cluster, 4)}
    killed: list[int] = []

    def kill_two() -> None:
        """Where a question is in flight: a whole node with what runs on it, then a raylet alone."""
        for whole in (True, False):
            raylet, *rest = in_flight(tmp_path / "ray", killed)
            for pid in (raylet, *rest) if whole else (raylet,):
                os.kill(pid, signal.SIGKILL)
            cluster.remove_node(nodes[raylet], allow_graceful=False)
            killed.append(raylet)

    killer = threading.Thread(target=kill_two, daemon=True)
    killer.start()
    outcomes = sweep(lanes, tmp_path / "ray", engine=partial(engine.ray_engine, address=cluster.address))
    assert Counter(o.status for o in outcomes) == {"done": len(lanes)}, outcomes
    killer.join(1.0)
    assert len(killed) == 2
    assert ledgers(tmp_path / "local") == ledgers(tmp_path / "ray") and len(ledgers(tmp_path / "ray")) == len(lanes)
    assert records(tmp_path / "local") == records(tmp_path / "ray") and len(records(tmp_path / "ray")) == len(lanes)
    resumed = 0
    for path in (tmp_path / "ray").rglob("record.json"):
        record = RunRecord.load(path)
        asked = [ask.packed for ask in Ledger.read(path.with_name("ledger.jsonl")).asks]
        evaluated = [note.batch for note in notes(tmp_path / "ray" / f"notes-{record.seed}")]
        assert [batch for batch, _ in itertools.groupby(evaluated)] == asked  # in order; twice only in succession
        assert len(evaluated) - len(asked) <= record.execution.resumed
        resumed += record.execution.resumed
    assert resumed == 2
