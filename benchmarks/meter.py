"""The figures of the meter: `python -m benchmarks.meter` prints them all, or name some of PARTS.

fuzz       random call patterns over the in-process routes, an independent witness counting in the reward
processes  patterns over fork, spawn and AsyncVectorEnv
threads    8 foreign threads calling one oracle
damage     every single-bit flip, line deletion, duplication and swap, and truncation of a ledger
cost       metering and recording on top of the reward, and verifying a finished ledger
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from banel_envs import Ledger, Oracle, Problem, Task
from banel_envs.errors import LedgerCorrupt
from banel_envs.policies import Uniform
from tests.shared.fuzz_meter import BAD, END, T, fuzz, legal, truth
from tests.shared.fuzz_processes import fuzz_processes, hammer

BATCH, LENGTH, CALLS = 64, 25, 400  # the size at which the issue states its bars
EVALUATIONS = 7_500


def run_fuzz(scale: float) -> None:
    """The in-process fuzzer."""
    patterns = round(100_000 * scale)
    tally = fuzz(patterns, progress=partial(tqdm, desc="fuzz", mininterval=5))
    print(f"fuzz: {patterns:,} patterns, {tally['evaluated']:,} evaluated, {tally['charged']:,} charged")
    print("  " + ", ".join(f"{name} {tally[name]}" for name in BAD))
    others = sorted(name for name in tally if name not in BAD)
    print("  " + ", ".join(f"{name} {tally[name]:,}" for name in others))


def run_processes(scale: float) -> None:
    """The fuzzer over process boundaries."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # AsyncVectorEnv reports each refused worker
        tally = fuzz_processes(max(4, round(200 * scale)), progress=partial(tqdm, desc="processes", mininterval=5))
    print("processes: " + ", ".join(f"{name} {count}" for name, count in tally.items()))


def run_threads(scale: float) -> None:
    """Foreign threads."""
    tally = hammer(round(100_000 * scale))
    print("threads: " + ", ".join(f"{name} {count:,}" for name, count in tally.items()))


def variants(content: bytes) -> dict[str, Iterator[bytes]]:
    """Every damaged form of a ledger, by kind."""
    lines = content.splitlines(keepends=True)
    count = range(len(lines))

    def flip(bit: int) -> bytes:
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        return bytes(damaged)

    def swap(j: int, k: int) -> bytes:
        moved = lines.copy()
        moved[j], moved[k] = lines[k], lines[j]
        return b"".join(moved)

    return {
        "bit flips": map(flip, range(8 * len(content))),
        "lines deleted": (b"".join(lines[:k] + lines[k + 1 :]) for k in count),
        "lines doubled": (b"".join(lines[: k + 1] + lines[k:]) for k in count),
        "lines swapped": (swap(j, k) for k in count for j in range(k)),
        "truncations": (content[:size] for size in range(len(content))),
    }


def run_damage(scale: float) -> None:
    """Damage a ledger in every way; what is found, against the head and count that a record keeps."""
    problem = Problem("bench/Meter-v0", tuple("abc$"), T, 1_000, partial(Uniform, 4, T, END), end=END)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "l.jsonl"
        oracle, rng = Oracle(Task(problem, truth), ledger=path), random.Random(3)
        for _ in range(16):
            oracle(legal(rng.randint(1, 9), rng))
        record = (oracle.ledger.head, oracle.ledger.count)
        oracle.close()
        content = path.read_bytes()
        print(f"damage: a ledger of {len(content):,} bytes, {len(content.splitlines())} lines")
        for kind, damaged in variants(content).items():
            found = [is_found(piece, record, path) for piece in tqdm(damaged, desc=kind, leave=False, mininterval=5)]
            print(f"  {kind}: {sum(found):,} of {len(found):,} found")


def is_found(content: bytes, record: tuple[str, int], path: Path) -> bool:
    path.write_bytes(content)
    try:
        ledger = Ledger.read(path)
    except LedgerCorrupt:
        return True
    return (ledger.head, ledger.count) != record


def run_cost(scale: float) -> None:
    """Time on top of the reward, the best of several rounds, and the time to verify."""
    letters = tuple("abcdefghijklmnopqrst")
    problem = Problem("bench/Cost-v0", letters, LENGTH, 10**9, partial(Uniform, len(letters), LENGTH, None))
    task = Task(problem, lambda tokens: np.zeros(len(tokens), np.int8))
    tokens = np.random.default_rng(0).integers(20, size=(BATCH, LENGTH))
    bar = 50 + BATCH * LENGTH
    with tempfile.TemporaryDirectory() as folder:
        for name, path in (("in memory", None), ("in a file", Path(folder) / "l.jsonl")):
            oracle = Oracle(task, ledger=path)
            call = best_microseconds(partial(oracle, tokens))
            one = best_microseconds(partial(oracle, tokens[:1]))
            alone = best_microseconds(partial(task.reward, tokens))
            print(
                f"cost {name}: {call - alone:.0f} microseconds a call of {BATCH} x {LENGTH} on top of the reward "
                f"(bar {bar}), {one - alone:.0f} of 1 x {LENGTH}"
            )
        for batch in (1, BATCH):
            seconds = verify_seconds(task, batch)
            print(f"verify {EVALUATIONS:,} evaluations in batches of {batch}: {seconds:.2f} s (bar 1)")


def best_microseconds(call: Callable[[], object]) -> float:
    """Microseconds of one call, the best mean of 5 rounds."""
    rounds = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(CALLS):
            call()
        rounds.append((time.perf_counter() - start) / CALLS * 1e6)
    return min(rounds)


def verify_seconds(task: Task, batch: int) -> float:
    """Seconds that Ledger.read takes for EVALUATIONS sequences asked in batches."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        oracle = Oracle(task, budget=EVALUATIONS, ledger=Path(folder) / "l.jsonl")
        while oracle.left:
            oracle(rng.integers(20, size=(min(batch, oracle.left), LENGTH)))
        oracle.close()
        start = time.perf_counter()
        Ledger.read(Path(folder) / "l.jsonl")
        return time.perf_counter() - start


PARTS = {
    "fuzz": run_fuzz,
    "processes": run_processes,
    "threads": run_threads,
    "damage": run_damage,
    "cost": run_cost,
}


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)}; all by default")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full size (not of damage, cost)")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; the parts are {', '.join(PARTS)}")
    for part in options.parts or PARTS:
        PARTS[part](options.scale)


if __name__ == "__main__":
    main()
