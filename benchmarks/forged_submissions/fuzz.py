"""Mutated submissions: `python -m benchmarks.forged_submissions.fuzz [--most 10000] [--seconds 60] [--seed 0] [--jobs N]`.

Makes a submission of one run whose rates are recomputed, then changes it again and again at random: bits, bytes, slices,
numbers, words and keys of its four files, their names and sizes. Each is checked as by `banel check`. A mutation that passes
must leave every proved number what it was: what the ledger decides, and the final rates where they are still recomputed.
Reported are the points before the budget, the cost, what the agent says of itself, and what submission.json says. Exits 1
after a crash (any error that the package does not raise on purpose) or a changed number, and prints the mutation.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import random
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from banel_envs.errors import BanelError
from banel_leaderboard.proving.load import Loaded
from banel_leaderboard.proving.rates import TOLERANCE, TOLERANCE_EFFECTIVE, TOLERANCE_MASS
from banel_leaderboard.proving.standing import Standing
from banel_leaderboard.submission.check import check_submission
from banel_leaderboard.submission.metadata import NAME
from banel_leaderboard.sweeping.suites import Suite
from benchmarks.forged_submissions.handed_in import TASK, make_submission

ONE = Suite("one run", (TASK,), ("base",), (0,), ("full",))
REPORTED = ("execution", "work", "reported", "points", "unasked", "policy_sha256")
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
WORD = re.compile(rb'"[^"\\]*"')
WORDS = (
    b"null",
    b"true",
    b"1e999",
    b"NaN",
    b'"x"',
    b"[]",
    b"{}",
    b"-0.0",
    b"1e-300",
    b"18446744073709551616",
    b'"\\ud800"',
)
Random = random.Random
Mutation = Callable[[bytes, Random], bytes]


def bit(content: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]


def cut(content: bytes, rng: Random) -> bytes:
    a, b = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return content[:a] + content[b:] if rng.random() < 0.5 else content[:a]


def repeat(content: bytes, rng: Random) -> bytes:
    a, b = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return content[:b] + content[a:b] + content[b:]


def insert(content: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.randbytes(rng.randint(1, 20)) + content[at:]


def number(content: bytes, rng: Random) -> bytes:
    """Another number for one of them."""
    found = list(NUMBER.finditer(content))
    if not found:
        return bit(content, rng)
    match = rng.choice(found)
    old = float(match[0])
    new = rng.choice([old + 1, -old, old * (1 + 10.0 ** rng.uniform(-6, 1)), 0.0, old * 10, 10.0**18])
    text = str(int(new)) if match[0].lstrip(b"-").isdigit() else repr(new)
    return content[: match.start()] + text.encode() + content[match.end() :]


def word(content: bytes, rng: Random) -> bytes:
    """Something else in the place of a number or a text, or two texts exchanged."""
    found = [*NUMBER.finditer(content), *WORD.finditer(content)]
    if not found:
        return insert(content, rng)
    match = rng.choice(found)
    new = rng.choice([*WORDS, rng.choice(found)[0]])
    return content[: match.start()] + new + content[match.end() :]


TEXT: tuple[Mutation, ...] = (number, number, number, word, word, bit, cut, repeat, insert)
BYTES: tuple[Mutation, ...] = (bit, cut, repeat, insert)


def mutate(folder: Path, rng: Random) -> str:
    """Change a submission in one place, in two of ten cases in several; what was done."""
    done = []
    for _ in range(1 if rng.random() < 0.8 else rng.randint(2, 5)):
        path = rng.choices(sorted(p for p in folder.rglob("*") if p.is_file()), k=1)[0]
        if rng.random() < 0.03:
            place = path.with_name(rng.choice(["x", NAME, "records.jsonl", "ledgers-001.xz", path.name.upper()]))
            path.rename(place)
            done.append(f"{path.name} renamed to {place.name}")
            continue
        content = path.read_bytes()
        change = rng.choice(TEXT if path.suffix in (".json", ".jsonl") else BYTES)
        if content:
            path.write_bytes(change(content, rng))
        done.append(f"{change.__name__} in {path.name}")
    return ", ".join(done)


def proved(loaded: Loaded) -> list[Any]:
    """What is proved of each run: all that its ledger decides, and its final rates where they are recomputed."""
    found = []
    for run in loaded.runs:
        record = run.record.model_dump(exclude=set(REPORTED))
        shares = [(p.nre, p.invalid, p.repeated) for p in run.record.points]
        last = run.record.points[-1]
        rates = None
        if run.proved.rates >= Standing.RECOMPUTED:
            rates = [*(r.model_dump() for r in (last.success, last.fresh)), run.record.unasked]
        found.append((record, shares, len(run.asked.found), run.version, rates))
    return found


def same(honest: list[Any], found: list[Any]) -> bool:
    """Whether every proved number is what it was, within the tolerance of recomputing."""
    if len(honest) != len(found):
        return False
    for (*exact, rates), (*exact_now, now) in zip(honest, found, strict=True):
        if exact != exact_now or (now is not None and not _close(rates, now)):
            return False
    return True


def _close(then: list[Any], now: list[Any]) -> bool:
    for a, b in zip(then[:2], now[:2], strict=True):
        if any(a[k] != b[k] for k in ("method", "samples", "zero")):
            return False
        if any(_far(a[k], b[k], TOLERANCE) for k in ("log10", "low", "high")):
            return False
        if _far(a["effective"], b["effective"], TOLERANCE_EFFECTIVE * (a["effective"] or 0)):
            return False
    return now[2] is None or abs(10 ** then[2] - 10 ** now[2]) <= TOLERANCE_MASS


def _far(a: float | None, b: float | None, tolerance: float) -> bool:
    return (a is None) != (b is None) or (a is not None and b is not None and abs(a - b) > tolerance)


def main() -> int:
    """Mutate until the time or the number is reached."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forged_submissions.fuzz", description=__doc__)
    parser.add_argument("--most", type=int, default=10_000, help="mutations (default 10,000)")
    parser.add_argument("--seconds", type=float, default=60.0, help="after which no other is begun (default 60)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: one a core)")
    options = parser.parse_args()
    start = time.perf_counter()
    part = partial(in_memory, math.ceil(options.most / options.jobs), options.seconds)
    seeds = [f"{options.seed}.{k}" for k in range(options.jobs)]
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as processes:
        outcomes = sum(processes.map(part, seeds), Counter[str]())
    found = ", ".join(f"{n:,} {what}" for what, n in outcomes.most_common())
    print(f"{found} of {outcomes.total():,} in {time.perf_counter() - start:.0f} s by {options.jobs} processes")
    return int(not outcomes or any(what.isupper() for what in outcomes))


def in_memory(most: int, seconds: float, seed: str) -> Counter[str]:
    """`fuzz` in a folder of its own, with a cache of its own."""
    memory = Path("/dev/shm")  # on a disk, making and removing folders takes longer than checking
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as scratch:
        os.environ["BANEL_CACHE"] = str(Path(scratch) / "cache")
        tempfile.tempdir = scratch
        return fuzz(Path(scratch), most, seconds, seed)


def fuzz(scratch: Path, most: int, seconds: float, seed: str) -> Counter[str]:
    """How many mutations had which outcome; those in capitals are faults."""
    honest = make_submission(scratch, ONE)
    report, loaded = check_submission(honest)
    expected = proved(loaded)
    if not report.passed or not expected or expected[0][-1] is None:
        print("the honest submission is not recomputed:", *report.lines(), sep="\n")
        return Counter({"NOT RECOMPUTED": 1})
    rng, outcomes, start = Random(seed), Counter[str](), time.perf_counter()
    folder = scratch / "mutated" / honest.name
    while outcomes.total() < most and time.perf_counter() - start < seconds:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(honest, folder)
        done = mutate(folder, rng)
        try:
            report, loaded = check_submission(folder)
            outcome = "refused" if not report.passed else "unproved" if loaded.runs == () else "passed"
            if report.passed and not same(expected, proved(loaded)):
                outcome = "CHANGED NUMBER ACCEPTED"
        except BanelError:
            outcome = "refused"
        except Exception:
            outcome = "CRASHED"
            traceback.print_exc()
        outcomes[outcome] += 1
        if outcome.isupper():
            print(f"{outcome}: mutation {outcomes.total()} of seed {seed}: {done}")
            shutil.copytree(folder, Path.cwd() / f"mutation-{seed}-{outcomes.total()}", dirs_exist_ok=True)
    return outcomes


if __name__ == "__main__":
    sys.exit(main())
