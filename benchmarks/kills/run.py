"""A run that is started, killed and resumed, and what is counted of it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

from banel_envs.meter import ledger_format
from banel_envs.meter.ledger_format import Events
from banel_leaderboard.records.record import RunRecord
from banel_leaderboard.records.spec import Spec
from banel_leaderboard.running.resolve import resolve
from banel_leaderboard.sweeping.fork_client import ForkServer
from banel_leaderboard.sweeping.workers import ONE_THREAD, Process, Started
from benchmarks.kills.task import ROW_TIME, ROWS_AT_ONCE, TEAR, WITNESS, T, V


@dataclasses.dataclass
class Run:
    """One run: how often it was taken up, and what was counted of it."""

    spec: Spec
    out: Path
    row_time: float
    isolate: bool = False
    rows_at_once: int | None = None
    server: ForkServer | None = None  # forks the processes; None starts each anew
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
        order["folder"] = str(Path(__file__).parents[2])
        own = {WITNESS: str(self.witness), ROW_TIME: str(self.row_time), TEAR: tear}
        own[ROWS_AT_ONCE] = str(self.rows_at_once or "")
        environment = os.environ | ONE_THREAD | own
        earlier = stamp(self.folder / "run.json")
        with (self.out / "errors").open("wb") as errors:
            process: Process = (self.server.start if self.server else Started)(order, environment, errors)
        try:
            while stamp(self.folder / "run.json") == earlier:
                with contextlib.suppress(TimeoutError):
                    return process.wait(0.002)  # it ended before it began to learn
            start = time.monotonic()
            with contextlib.suppress(TimeoutError):
                process.wait(after)
            self.seconds = time.monotonic() - start
        finally:
            process.kill()
        return process.wait()

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
