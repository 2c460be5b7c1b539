"""Runs killed with SIGKILL at random moments and taken up again: `python -m benchmarks.kills --runs 200`.

Each run is killed once, twice or three times and then left to finish. It must end as the uninterrupted run of the same
seed: same ledger head, same record but for times. Its reward writes down every batch before it answers, so what was
evaluated is known from outside: every question once, in order, and at most the one in flight at a kill a second time.
Runs are processes forked from one that has torch loaded, so that kills fall into the run and not into its imports.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from banel_envs import Ledger, Task
from banel_envs.problem import Tokens
from banel_leaderboard.folder import LEDGER, RECORD, STATUS
from banel_leaderboard.harness import execute
from banel_leaderboard.record import RunRecord
from banel_leaderboard.spec import Spec
from tests.small import network, network_problem, three_letters

TASK, LOG = "benchmarks.kills:build", "KILLS_LOG"
SECONDS = 0.01  # a reward takes, so that some kills fall between question and answer
AGENTS: dict[str, dict[str, Any]] = {
    "banel": {"batch": 20, "pool": 1_000, "phi_epochs": 10.0, "minibatch": 20},
    "ppo": {},  # acts in the vector environment
}
SEEDS = 4  # uninterrupted runs an agent, which the killed ones are held against
EARLY = 0.1  # share of kills at any moment from the process's start; the others come once the run has begun


def build() -> Task:
    """A task whose reward writes every batch to the file named by the environment, before it answers."""
    log = os.open(os.environ[LOG], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def reward(tokens: Tokens) -> NDArray[np.int8]:
        os.write(log, line(tokens))
        time.sleep(SECONDS)
        return three_letters(tokens)

    return dataclasses.replace(network(), problem=network_problem("bench/Kills-v0", budget=300), reward=reward)


def line(tokens: Tokens) -> bytes:
    """A batch as the log holds it: its rows, one digit a token."""
    return " ".join("".join(map(str, row)) for row in tokens.tolist()).encode() + b"\n"


@dataclass
class Run:
    """One run, and how it is started."""

    agent: str
    seed: int
    out: Path

    @property
    def folder(self) -> Path:
        """The run's own."""
        return self.out / "bench/Kills-v0" / self.agent / "full" / f"seed-{self.seed}"

    @property
    def log(self) -> Path:
        """Every batch that the reward was asked."""
        return self.out / "asked.txt"

    def start(self) -> Any:
        """A process that runs it, or goes on with it."""
        self.out.mkdir(exist_ok=True)
        spec = Spec(TASK, self.agent, self.seed, "full", settings=AGENTS[self.agent])
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.small", *(f"banel_agents.{name}" for name in AGENTS)])
        process = context.Process(target=attempt, args=(dataclasses.asdict(spec), str(self.out), str(self.log)))
        process.start()
        return process

    def begun(self) -> int:
        """Changes whenever a process has taken the run up."""
        path = self.folder / STATUS
        return path.stat().st_ino if path.exists() else 0


def attempt(spec: dict[str, Any], out: str, log: str) -> None:
    """What the worker of `banel run` does, in a process of its own."""
    os.environ[LOG] = log
    torch.set_num_threads(1)
    execute(Spec(**spec), Path(out))


def finish(run: Run) -> float:
    """Run to the end; seconds."""
    begin = time.monotonic()
    process = run.start()
    process.join()
    if process.exitcode != 0:
        raise RuntimeError(
            f"{run.agent}, seed {run.seed}: exit status {process.exitcode}; see {run.folder / 'log.txt'}"
        )
    return time.monotonic() - begin


def kill(run: Run, seconds: float, rng: random.Random) -> str | None:
    """Start the run and kill it within `seconds`: "early", "late", or None where it finished before."""
    kind = "early" if rng.random() < EARLY else "late"
    before = run.begun()
    process = run.start()
    while kind == "late" and run.begun() == before and process.is_alive():
        time.sleep(0.001)
    process.join(rng.uniform(0, seconds))
    process.kill()
    process.join()
    return kind if process.exitcode == -9 else None


def trial(whole: Run, seconds: float, out: Path, rng: random.Random) -> Counter[str]:
    """One run killed and taken up again, held against the uninterrupted one: what was found, as counts."""
    run = Run(whole.agent, whole.seed, out)
    kinds = [kill(run, seconds, rng) for _ in range(rng.choice((1, 1, 1, 2, 2, 3)))]
    finish(run)
    tally = Counter(f"{kind} kills" for kind in kinds if kind is not None)
    kills = tally.total()
    record, reference = (RunRecord.load(r.folder / RECORD) for r in (run, whole))
    ledger = Ledger.read(run.folder / LEDGER)
    again = repeats(run.log.read_bytes().splitlines(keepends=True), [line(ledger.tokens(ask)) for ask in ledger.asks])
    tally["runs"] = 1
    tally["killed runs"] = kills > 0
    tally["other heads"] = ledger.head != reference.ledger.head or record.ledger != reference.ledger
    tally["other records"] = record.canonical() != reference.canonical()
    tally["batches asked again"] = again
    tally["runs with more asked again than kills"] = again > kills
    tally["wrong counts of resumes"] = not tally["late kills"] <= record.execution.resumed <= kills
    return tally


def repeats(asked: list[bytes], questions: list[bytes]) -> int:
    """How often the reward was asked a question of the ledger a second time; an error if it was asked anything else."""
    at, again = -1, 0
    for batch in asked:
        if at + 1 < len(questions) and batch == questions[at + 1]:
            at += 1
        elif at >= 0 and batch == questions[at]:
            again += 1
        else:
            raise RuntimeError(
                f"after question {at} the reward was asked {batch!r}, which the ledger does not hold there"
            )
    if at != len(questions) - 1:
        raise RuntimeError(f"the ledger holds {len(questions)} questions, the reward was asked {at + 1}")
    return again


BAD = ("other heads", "other records", "runs with more asked again than kills", "wrong counts of resumes")


def trials(runs: int, seeds: int, seed: int, scratch: Path, progress: Any = iter) -> Counter[str]:
    """All trials, agents and seeds taking turns; kills of an agent fall within the time that its whole run takes."""
    rng = random.Random(seed)
    wholes = [Run(agent, k, scratch / f"whole-{agent}-{k}") for k in range(seeds) for agent in AGENTS]
    finish(Run("banel", 0, scratch / "warm"))  # the first one waits for the imports
    times = [finish(run) for run in wholes]
    tally: Counter[str] = Counter()
    numbers: Iterable[int] = progress(range(runs))
    for number in numbers:
        k = number % len(wholes)
        tally += trial(wholes[k], times[k], scratch / f"run-{number}", rng)
        tally[wholes[k].agent] += 1
    tally["milliseconds a whole run"] = round(1_000 * sum(times) / len(times))
    return tally


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the moments at which runs are killed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        tally = trials(options.runs, SEEDS, options.seed, Path(scratch), lambda n: tqdm(n, unit="run", mininterval=5))
    for name in ("runs", *AGENTS, "killed runs", "late kills", "early kills", "batches asked again", *BAD):
        print(f"{name}: {tally[name]}")
    print(f"milliseconds a whole run: {tally['milliseconds a whole run']}")


if __name__ == "__main__":
    main()
