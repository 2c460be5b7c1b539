"""Runs killed at random moments: `python -m benchmarks.kills --runs 200` prints what came of them, exit 1 if any is wrong.

Every run is a worker process as the sweep starts it, of a tiny task of its own. One uninterrupted run of each agent and
seed is the reference. Then each run is killed with SIGKILL one to three times: at a moment uniform over what is left
of the reference's time since learning began, or by itself amid the write of a line of its ledger, any share of the
line being on the disk. It is resumed by the same command and at last finished. The reward is its own witness: it
appends each batch to a file before it answers, and what stands there is held against the ledger after every kill. With
--isolate the agent is in a process of its own; with --rows-at-once K the reward is called on at most K rows; with --cold
each run is a process that was started for it, as on a GPU or another system than Linux, and not forked from a warm one.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from banel_envs import Problem, Task
from banel_envs.meter import ledger_format
from banel_envs.meter.ledger_format import Events
from banel_envs.policies.networks.transformer import Transformer, TransformerConfig
from banel_envs.policies.torch_policy import TorchPolicy
from banel_envs.problem import Tokens
from banel_leaderboard.records.record import RunRecord
from banel_leaderboard.records.spec import Spec
from banel_leaderboard.running.resolve import resolve
from banel_leaderboard.sweeping import fork_client
from banel_leaderboard.sweeping.fork_client import ForkServer
from banel_leaderboard.sweeping.workers import ONE_THREAD, Process, Started

Item = TypeVar("Item")
V, T, END, BUDGET = 4, 6, 3, 240
START = (2, 0, 1)  # what a success begins with
SECONDS_A_ROW = 0.012  # that the reward sleeps
REFERENCE_FOR = 10  # runs held against one reference
AMID_A_WRITE = 0.25  # share of the kills
WITNESS, ROW_TIME, TEAR = "BANEL_KILLS_WITNESS", "BANEL_KILLS_ROW_TIME", "BANEL_KILLS_TEAR"
ROWS_AT_ONCE = "BANEL_KILLS_ROWS_AT_ONCE"
SPECS: Mapping[str, Mapping[str, Any]] = {
    "banel": {"settings": {"batch": 24, "pool": 300, "minibatch": 32, "phi_epochs": 1.0}},
    "ppo": {"feedback": "full"},
}
WRONG = (
    "failed",
    "heads different",
    "ledgers different",
    "records different",
    "resumed wrong",
    "rows evaluated beyond what was in flight",
    "kills that lost more than the rows at once",
    "rows answered without evaluation",
)


def build() -> Task:
    """The task of these runs, in the worker's process."""
    if os.environ.get(TEAR):
        line, share = os.environ.pop(TEAR).split(":")
        die_amid_write(int(line), float(share))
    everything = np.array(list(itertools.product(range(V), repeat=T)))
    ended = everything == END
    whole = everything[(ended[:, :-1] <= ended[:, 1:]).all(axis=1)]
    successes = whole[(whole[:, : len(START)] == START).all(axis=1)]
    problem = Problem("bench/Kills-v0", ("a", "b", "c", "."), T, BUDGET, base_policy, END)
    most = int(os.environ.get(ROWS_AT_ONCE) or 0) or None
    return Task(problem, reward, lambda: successes, lambda: successes[0], rows_at_once=most)


def base_policy() -> TorchPolicy:
    """A small transformer of seeded weights."""
    network = Transformer(TransformerConfig(V, T, width=16, layers=1, heads=2))
    network.initialise(np.random.default_rng(3))
    with torch.no_grad():
        network.head.weight.mul_(2.0)
    return TorchPolicy(network.eval(), END)


def reward(tokens: Tokens) -> NDArray[np.bool_]:
    """Note the rows where a kill cannot undo it, take some time, answer."""
    fd = os.open(os.environ[WITNESS], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(fd, tokens.astype(np.uint8).tobytes())
    os.close(fd)
    time.sleep(len(tokens) * float(os.environ[ROW_TIME]))
    answer: NDArray[np.bool_] = (tokens[:, : len(START)] == START).all(axis=1)
    return answer


def die_amid_write(line: int, share: float) -> None:
    """Kill this process in its `line`-th question or answer, when `share` of the line is written."""
    write, left = os.pwrite, line

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        nonlocal left
        if data.startswith((b'{"ask"', b'{"answer"')):
            left -= 1
            if left == 0:
                write(fd, data[: int(share * (len(data) + 1))], offset)
                os.kill(os.getpid(), signal.SIGKILL)
        return write(fd, data, offset)

    os.pwrite = pwrite  # type: ignore[assignment]


@dataclasses.dataclass
class Run:
    """One run: how often it was taken up, and what was counted of it."""

    spec: Spec
    out: Path
    row_time: float
    isolate: bool = False
    rows_at_once: int | None = None
    server: ForkServer | None = None  # the warm parent that forks it; None to start a process for each start
    taken_up: int = 0
    seconds: float = 0.0  # of the last start, since learning began
    tally: Counter[str] = dataclasses.field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.out.mkdir(parents=True)
        self.folder = resolve(self.spec, self.out).folder
        self.witness = self.out / "witness"

    @property
    def content(self) -> bytes:
        """The ledger as it stands."""
        path = self.folder / "ledger.jsonl"
        return path.read_bytes() if path.exists() else b""

    @property
    def rows(self) -> list[bytes]:
        """The rows that the reward has evaluated."""
        noted = self.witness.read_bytes() if self.witness.exists() else b""
        return [noted[k : k + T] for k in range(0, len(noted), T)]

    @property
    def record(self) -> RunRecord | None:
        """What was measured, once finished."""
        path = self.folder / "record.json"
        return RunRecord.load(path) if path.exists() else None

    def start(self, after: float | None = None, tear: str = "") -> None:
        """Start or resume it; with `after` kill it that many seconds into learning, with `tear` amid a write."""
        before, seen = ledger_format.parse(self.content, "ledger"), len(self.rows)
        self.taken_up += (self.folder / "ledger.jsonl").exists() and self.record is None
        code = self._work(after, tear)
        content = self.content
        left = ledger_format.parse(content, "ledger")
        if code == -signal.SIGKILL:
            self._note_kill(content, left, bool(tear))
        elif code:
            self.tally["failed"] += 1
            print(f"{self.folder}: exit {code}: {(self.out / 'errors').read_text()[-2_000:]}", file=sys.stderr)
        elif after is not None or tear:
            self.tally["ended before their kill"] += 1
        full, answered = between(before, left)
        rows = Counter(self.rows[seen:])
        self.tally["rows evaluated beyond what was in flight"] += (rows - full).total()
        self.tally["rows answered without evaluation"] += (answered - rows).total()
        lost = (rows - answered).total()
        self.tally["rows evaluated and lost"] += lost
        if self.rows_at_once is not None:
            self.tally["kills that lost more than the rows at once"] += lost > self.rows_at_once

    def _work(self, after: float | None, tear: str) -> int:
        """The exit status of one process."""
        order = {"spec": dataclasses.asdict(self.spec), "out": str(self.out), "isolate": self.isolate}
        order["folder"] = str(Path(__file__).parents[1])
        own = {WITNESS: str(self.witness), ROW_TIME: str(self.row_time), TEAR: tear}
        own[ROWS_AT_ONCE] = str(self.rows_at_once or "")
        earlier = stamp(self.folder / "run.json")
        environment = os.environ | ONE_THREAD | own
        process: Process
        with (self.out / "errors").open("wb") as errors:
            if self.server is None:
                process = Started(order, environment, errors)
            else:
                process = self.server.start(order, environment, errors)
        code = None
        while code is None and stamp(self.folder / "run.json") == earlier:
            code = status(process, 0.002)
        start = time.monotonic()
        code = status(process, after) if code is None else code
        self.seconds = time.monotonic() - start
        if code is None:
            process.kill()
            code = process.wait()
        return code

    def _note_kill(self, content: bytes, left: Events, torn: bool) -> None:
        self.tally["kills"] += 1
        self.tally["kills amid a write"] += torn
        self.tally["kills before the first line"] += not content
        self.tally["kills after the record"] += self.record is not None
        self.tally["torn lines"] += bool(content) and not content.endswith(b"\n")
        if left.asks and left.asks[-1].open:
            self.tally["kills that left an open question"] += 1
            self.tally["rows in flight"] += int((left.asks[-1].rewards < 0).sum())

    def compare(self, reference: Run) -> None:
        """Count what differs from the run that was never killed."""
        record, other = self.record, reference.record
        ledger = ledger_format.parse(self.content, "ledger")
        evaluated, asked = len(self.rows), sum(ask.n for ask in ledger.asks)
        self.tally["runs"] += 1
        self.tally["rows asked"] += asked
        self.tally["rows evaluated"] += evaluated
        self.tally["ledgers different"] += self.content != reference.content
        if record is None or other is None:
            self.tally["records different"] += 1
            return
        self.tally["heads different"] += not record.ledger.head == ledger.head == other.ledger.head
        self.tally["records different"] += record.canonical() != other.canonical()
        self.tally["times resumed"] += record.execution.resumed
        self.tally["resumed wrong"] += record.execution.resumed != self.taken_up


def status(process: Process, timeout: float | None) -> int | None:
    """The exit status of a process; None if it has not ended within so many seconds."""
    try:
        return process.wait(timeout)
    except TimeoutError:
        return None


def stamp(path: Path) -> int:
    """When the file was written; 0 if it is not there."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def between(before: Events, after: Events) -> tuple[Counter[bytes], Counter[bytes]]:
    """The rows that the reward may have been asked, and those that it answered, from one ledger to a later one."""
    full: Counter[bytes] = Counter()
    answered: Counter[bytes] = Counter()
    for k, ask in enumerate(after.asks):
        new = before.asks[k].rewards < 0 if k < len(before.asks) else np.ones(ask.n, bool)
        tokens = ledger_format.unpack_tokens(ask.packed, ask.n, T, V).astype(np.uint8)
        full.update(row.tobytes() for row in tokens[new])
        answered.update(row.tobytes() for row in tokens[new & (ask.rewards >= 0)])
    return full, answered


def reference_of(key: tuple[str, int], out: Path, **how: Any) -> Run:
    """A run of this agent and seed that is never killed."""
    agent, seed = key
    run = Run(
        Spec(task="benchmarks.kills:build", agent=agent, seed=seed, **SPECS[agent]), out / f"{agent}-{seed}", **how
    )
    run.start()
    if run.record is None or len(run.rows) != BUDGET:
        raise RuntimeError(f"the uninterrupted run of {agent} did not finish, or did not evaluate {BUDGET} rows")
    return run


def killed(reference: Run, out: Path, rng: random.Random, most: int) -> Counter[str]:
    """Kill a run 1 to `most` times, finish it, and count what is wrong with it."""
    run = Run(reference.spec, out, reference.row_time, reference.isolate, reference.rows_at_once, reference.server)
    lines = len(reference.content.splitlines())
    for _ in range(rng.randint(1, most)):
        held = run.content.count(b"\n")
        if rng.random() < AMID_A_WRITE and held < lines:
            line = rng.randint(1, lines - max(held, 1))
            run.start(tear=f"{line}:{rng.random()}")
        else:
            slept = len(run.rows) * run.row_time  # what is answered is not waited for again
            run.start(after=rng.uniform(0, max(reference.seconds - slept, 0.1)))
    run.start()
    run.compare(reference)
    return run.tally


def kills(
    runs: int,
    agents: Sequence[str] = tuple(SPECS),
    seed: int = 0,
    *,
    jobs: int = 1,
    most: int = 3,
    row_time: float = SECONDS_A_ROW,
    isolate: bool = False,
    rows_at_once: int | None = None,
    warm: bool = True,
) -> Counter[str]:
    """Kill, resume and compare `runs` runs, the agents in turn.

    Args:
        runs: how many are killed; the uninterrupted ones come on top.
        agents: names among SPECS.
        seed: of the first agents and of the kills.
        jobs: processes at once.
        most: kills a run.
        row_time: seconds that the reward sleeps for each row.
        isolate: run the agents in processes of their own.
        rows_at_once: of the task; None asks the reward for a whole question.
        warm: fork the runs from a warm parent, where that is possible.

    Returns:
        What was counted; all of WRONG should be 0.
    """
    plan = [(agents[k % len(agents)], seed + k // (len(agents) * REFERENCE_FOR)) for k in range(runs)]
    keys = list(dict.fromkeys(plan))
    tally: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        folder, threads = (
            stack.enter_context(tempfile.TemporaryDirectory()),
            stack.enter_context(ThreadPoolExecutor(jobs)),
        )
        forked = warm and fork_client.possible("cpu")
        server = stack.enter_context(contextlib.closing(ForkServer(os.environ | ONE_THREAD))) if forked else None
        how = {"row_time": row_time, "isolate": isolate, "rows_at_once": rows_at_once, "server": server}
        reference = partial(reference_of, out=Path(folder), **how)
        references = dict(zip(keys, progress(threads.map(reference, keys), len(keys), "uninterrupted"), strict=True))

        def one(k: int) -> Counter[str]:
            return killed(references[plan[k]], Path(folder) / f"run-{k}", random.Random(f"{seed}-{k}"), most)

        for counted in progress(threads.map(one, range(runs)), runs, "killed"):
            tally.update(counted)
    return tally


def progress(items: Iterable[Item], total: int, name: str) -> Iterator[Item]:
    yield from tqdm(items, total=total, desc=name, mininterval=5, disable=None)


def report(tally: Counter[str]) -> str:
    """The figures in a few lines."""

    def line(*names: str) -> str:
        return ", ".join(f"{name} {tally[name]:,}" for name in names)

    return "\n".join(
        (
            line("runs", "kills", "kills amid a write", "ended before their kill", "times resumed"),
            line("kills before the first line", "kills after the record"),
            line("kills that left an open question", "torn lines"),
            line("rows asked", "rows evaluated", "rows in flight", "rows evaluated and lost"),
            line(*WRONG[:5]),
            line(*WRONG[5:]),
        )
    )


def main() -> int:
    """Parse, run and print; 1 if any run is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="runs to kill (default 200)")
    parser.add_argument(
        "--agents", nargs="+", choices=SPECS, default=list(SPECS), help="agents in turn; all by default"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the first runs and of the kills (default 0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once (default 1)")
    parser.add_argument("--isolate", action="store_true", help="agents in processes of their own")
    parser.add_argument(
        "--rows-at-once", type=int, help="rows that the reward is called on (default: the whole question)"
    )
    parser.add_argument("--cold", action="store_true", help="start a process for each run, in place of forking it")
    options = parser.parse_args()
    how = {"isolate": options.isolate, "rows_at_once": options.rows_at_once, "warm": not options.cold}
    tally = kills(options.runs, options.agents, options.seed, jobs=options.jobs, **how)
    print(report(tally))
    return int(any(tally[name] for name in WRONG))


if __name__ == "__main__":
    sys.exit(main())
