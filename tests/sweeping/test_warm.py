"""Runs that are forked from one parent are the runs of processes of their own, and none of them touches another."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from banel_leaderboard.records.record import RunRecord
from banel_leaderboard.records.spec import Spec
from banel_leaderboard.running import machine
from banel_leaderboard.sweeping import fork_client
from banel_leaderboard.sweeping.fork_client import Cold, ForkServer, Run
from banel_leaderboard.sweeping.workers import ONE_THREAD, Workers
from tests.shared.warm_agents import NOTES

TINY, NETWORK, AGENT = "tests.shared.small:task", "tests.shared.small:network", "tests.shared.warm_agents:"
TIMES = {"wall_s", "cpu_s", "evaluation_s", "peak_memory_mb"}
pytestmark = pytest.mark.skipif(not fork_client.possible("cpu"), reason="runs are forked on Linux only")


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    monkeypatch.setenv(NOTES, str(tmp_path))
    made = Workers(tmp_path / "warm")
    yield made
    made.close()


def spec(agent: str, task: str = TINY, **parts: Any) -> Spec:
    return Spec(task=task, agent=AGENT + agent if agent[0].isupper() else agent, **parts)


def seen(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(tmp_path.glob("looks-*"))]


def gone(pid: int) -> bool:
    """Whether the process has ended, within ten seconds."""
    until = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        time.sleep(0.02)
    return not Path(f"/proc/{pid}").exists()


def begun(tmp_path: Path, runs: int = 1) -> list[int]:
    """The processes of slow runs that have begun, when there are so many."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if len(found := list(tmp_path.glob("slow-*"))) == runs:
            return [int(path.name.partition("-")[2]) for path in found]
        time.sleep(0.02)
    raise TimeoutError(f"{runs} slow runs did not begin")


def left_by(out: Path) -> list[tuple[str, bytes, str, dict[str, Any]]]:
    """What runs leave that does not depend on time."""
    found = []
    for path in sorted(out.rglob("record.json")):
        record = RunRecord.load(path)
        execution = record.execution.model_dump(exclude=TIMES)
        ledger = path.with_name("ledger.jsonl").read_bytes()
        found.append((str(path.parent.relative_to(out)), ledger, record.canonical(), execution))
    return found


SPECS = [
    spec("Looks", feedback="full"),
    spec("banel", NETWORK, settings={"batch": 16, "pool": 100, "phi_epochs": 1.0, "minibatch": 16}, seed=3),
    spec("count", NETWORK, settings={"batch": 20}, feedback="full"),
    spec("rnd", NETWORK, settings={"batch": 20}, feedback="full"),
    spec("ppo", NETWORK, feedback="full"),
    spec("base", "banel/Proof-v0", budget=200),
    spec("memorise", "banel/Needle-v0", budget=200, feedback="full", seed=1),
]


@pytest.mark.parametrize("isolate", [False, True])
def test_a_warm_run_is_the_run_of_a_process_of_its_own(workers: Workers, tmp_path: Path, isolate: bool) -> None:
    specs = SPECS if not isolate else SPECS[1:2]
    workers.isolate = isolate
    cold = Workers(tmp_path / "cold", isolate=isolate, warm=False)
    with ThreadPoolExecutor(2) as threads:
        for made in (workers, cold):
            assert {o.status for o in threads.map(made.run, specs)} == {"done"}
    assert workers.warm and workers._server is not None and cold._server is None
    assert left_by(tmp_path / "warm") == left_by(tmp_path / "cold") and len(left_by(tmp_path / "cold")) == len(specs)


def test_a_warm_run_begins_as_a_new_process_does(
    workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadPoolExecutor(3) as threads:  # three at once: none holds a file of another
        assert [o.status for o in threads.map(workers.run, [spec("Looks", seed=k) for k in range(3)])] == ["done"] * 3
    monkeypatch.setenv("BANEL_TEST_TAG", "later")
    assert workers.run(spec("Looks", seed=3)).status == "done"
    assert Workers(tmp_path / "cold", warm=False).run(spec("Looks")).status == "done"
    warm, later, cold = seen(tmp_path)[:3], *seen(tmp_path)[3:]
    assert all("fork_server" in one["parent_is"] for one in (*warm, later)) and cold["parent"] == os.getpid()
    for one in (*warm, later):
        assert len(one["threads"]) == one["torch_threads"] == 1, one["threads"]
        for same in ("torch_threads", "folder", "opened", "sigint", "sigchld", "runs", "changed"):
            assert one[same] == cold[same], same
    assert not {"socket", "pipe", "anon_inode"} & set(cold["opened"])
    assert later["environment"]["BANEL_TEST_TAG"] == "later" and "BANEL_TEST_TAG" not in warm[0]["environment"]
    assert later["environment"] == cold["environment"]  # with nothing of what another run has set
    for random in ("numpy", "torch", "python"):  # a new process seeds them from the system, so no two are alike
        assert len({one[random] for one in (*warm, later, cold)}) == 5


@pytest.mark.parametrize(
    ("agent", "message"), [("Crashes", "exit status -11"), ("Speaks", "lost count"), ("Leaves", "")]
)
def test_a_run_that_breaks_its_process_hurts_no_other(workers: Workers, agent: str, message: str) -> None:
    specs = [spec("Looks", seed=k) for k in range(2)]
    with ThreadPoolExecutor(3) as threads:
        broken, *others = threads.map(workers.run, [spec(agent), *specs])
    assert [o.status for o in others] == ["done", "done"]
    assert message in broken.message and workers.finished(broken.spec) is None
    assert workers.run(spec("base", seed=9)).status == "done" and workers.warm


def test_runs_outlive_the_parent_they_are_forked_from(workers: Workers, tmp_path: Path) -> None:
    assert workers.run(spec("Orphans")).status == "done"  # made anew, in a process of its own
    assert not workers.warm and workers.run(spec("base")).status == "done"
    whole = Workers(tmp_path / "whole", warm=False)
    assert whole.run(spec("Orphans")).status == "done"
    (run, ledger, record, _), *_ = (r for r in left_by(tmp_path / "warm") if "orphans" in r[0])
    assert [(run, ledger, record)] == [one[:3] for one in left_by(tmp_path / "whole")]


def test_a_timeout_kills_the_run_and_it_goes_on_later(
    workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers.server()
    assert workers.run(spec("base")).status == "done"  # the parent is ready
    workers.timeout = 3.0
    outcome = workers.run(spec("Slow"))
    assert outcome.status == "failed" and "stopped after 3 s" in outcome.message
    assert gone(begun(tmp_path)[0])
    workers.timeout = None
    monkeypatch.setenv("BANEL_TEST_SLEEP", "0")
    assert workers.run(spec("Slow")).status == "done"
    record = workers.finished(spec("Slow"))
    assert record is not None and record.execution.resumed == 1


@pytest.mark.parametrize("which", ["parent", "stop", "close"])
def test_no_run_outlives_what_it_belongs_to(workers: Workers, tmp_path: Path, which: str) -> None:
    with ThreadPoolExecutor(2) as threads:
        running = [threads.submit(workers.run, spec("Slow", seed=k)) for k in range(2)]
        pids = begun(tmp_path, 2)
        if which == "parent":
            workers._stopped = True  # so that they are not made anew
            os.kill(workers.server().pid, signal.SIGKILL)
        else:
            getattr(workers, which)()
        assert all(map(gone, pids))
        assert {run.result().status for run in running} == {"failed"}
    ledgers = list((tmp_path / "warm").rglob("ledger.jsonl"))
    assert len(ledgers) == 2 and all(path.read_bytes().endswith(b"\n") for path in ledgers)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_command_leaves_no_process_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
) -> None:
    monkeypatch.setenv(NOTES, str(tmp_path))
    command = [sys.executable, "-m", "banel_leaderboard", "run", "--task", TINY, "--agent", f"{AGENT}Slow"]
    command += ["--seeds", "0-1", "--jobs", "2", "--out", str(tmp_path / "out")]
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True) as process:
        pids = begun(tmp_path, 2)
        parent = int(Path(f"/proc/{pids[0]}/stat").read_text().rpartition(")")[2].split()[1])
        if how is signal.SIGINT:
            os.killpg(process.pid, how)  # as a terminal does
        else:
            process.kill()
        _, errors = process.communicate(timeout=30)
    assert process.returncode == (130 if how is signal.SIGINT else -9), errors
    assert all(map(gone, [*pids, parent]))
    monkeypatch.setenv("BANEL_TEST_SLEEP", "0")
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0 and "2 done" in again.stdout, again.stderr


def test_where_nothing_can_be_forked_a_process_is_started(
    workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not fork_client.possible("cuda") and not fork_client.possible("cuda:1")
    monkeypatch.delattr(os, "fork")
    assert not fork_client.possible("cpu")
    assert workers.run(spec("Looks")).status == "done"
    assert workers._server is None and seen(tmp_path)[0]["parent"] == os.getpid()


def test_a_parent_with_threads_does_not_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    import selectors

    from banel_leaderboard.sweeping import fork_server
    from banel_leaderboard.sweeping.fork_server import Arrived, Server

    monkeypatch.setattr(machine, "native_threads", lambda: 2)
    monkeypatch.setattr(
        fork_server, "warm", lambda *_: None
    )  # it would hide the objects of this process from the collector
    monkeypatch.setattr(os, "fork", None)
    mine, theirs = socket.socketpair()
    server, (reading, errors) = Server(theirs), os.pipe()
    with selectors.DefaultSelector() as ready:
        assert server._fork(Arrived({"spec": {"task": TINY, "agent": "base"}}, theirs, errors), ready) != 0
    os.close(reading)
    with pytest.raises(Cold):
        Run(mine).wait()


def test_a_parent_that_cannot_start_is_done_without(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_client, "SERVER", "no.such.module")
    assert workers.run(spec("base")).status == "done" and not workers.warm


def test_the_peak_memory_is_that_of_the_run(tmp_path: Path) -> None:
    code = """
import os, sys
from banel_leaderboard.running.machine import begin_peak, peak_memory_mb
held = bytearray(300 << 20); held[::4096] = b"x" * len(held[::4096]); del held
parent = peak_memory_mb()
if os.fork() == 0:
    begin_peak()
    print(parent, peak_memory_mb(), flush=True)
    held = bytearray(100 << 20); held[::4096] = b"x" * len(held[::4096])
    print(peak_memory_mb(), flush=True)
    os._exit(0)
os.wait()
"""
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    parent, begun_with, at_last = map(float, said.split())
    assert parent > 300 and begun_with < 200 and 90 < at_last - begun_with < 130


def test_an_order_that_stops_half_way_starts_nothing() -> None:
    server = ForkServer(os.environ | ONE_THREAD)
    try:
        with tempfile.TemporaryFile() as errors:
            mine, theirs = socket.socketpair()
            with theirs:
                socket.send_fds(server._control, [b"r"], [theirs.fileno(), errors.fileno()])
            mine.sendall(fork_client.LENGTH.pack(1_000) + b'{"spec"')
            mine.close()
            order = {"spec": {"task": TINY, "agent": "base"}, "out": "/dev/null/no", "isolate": False, "folder": "/"}
            assert server.start(order, dict(os.environ), errors).wait(60) == 2
            errors.seek(0)
            assert b"/dev/null" in errors.read()
    finally:
        server.close()
