"""Can failures teach before any success? `python -m benchmarks.findings.typed --out FILE`.

One agent, `typed_banel`, on the tasks that tell why a sequence failed, with the same seeds, told:

    typed      the type of each failure, successes withheld
    failures   which sequences failed, successes withheld; the agent is then BaNEL
    blind      nothing: the oracle-free twin
    unsound    as typed, on the proof tasks, by types that do not see whether a rule leaves what does not hold

The lines `imitate` and `gradient` are the agent's other two forms under `typed`. Rates are log10, exact. *Before* is the rate of
the last policy before the first success was asked (of the last of all where none was): whatever it has gained is owed to
failures. Gains are paired by seed with the twin. Medians over seeds with 95% bootstrap intervals; the NRE to the first success
by Kaplan and Meier. `--tasks`, `--told` and `--seeds` name a part. FILE keeps a line a run, and what is there already is not run
again.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from banel_agents import make_agent
from banel_envs import TASKS, Oracle, Task, success_rate
from banel_envs.meter.oracle import Feedback
from banel_envs.tasks import proof
from banel_leaderboard.command.settings import parse_seeds
from banel_leaderboard.statistics.medians import median, median_interval
from banel_leaderboard.statistics.survival import kaplan_meier, median_time_interval
from benchmarks.findings.kept import Kept, Line, key_of, one_thread

AGENT = "typed_banel"
TYPED = tuple(f"banel/{name}-v0" for name in ("ListProgram", "Countdown", "Proof", "ProofHard"))
REGIMES: dict[str, dict[str, Any]] = {
    "typed": {},
    "failures": {},
    "blind": {},
    "unsound": {},
    "imitate": {"form": "imitate"},
    "gradient": {"form": "gradient"},
}
"""What is told, or the form in which the types are used, with the agent's settings."""
COMPARED = ("typed", "failures", "blind")
FLOOR = -300.0  # log10 of a rate that is zero to float64


def lines_of(tasks: Sequence[str], told: Sequence[str]) -> list[tuple[str, str]]:
    """The lines of the table: a task, and what its agent is told. `unsound` is for proofs only."""
    return [(task, one) for task in tasks for one in told if one != "unsound" or TASKS[task].family == "proof"]


def key(task: str, told: str, seed: int) -> Line:
    """The key of a run."""
    return key_of(AGENT, REGIMES[told], task, seed, told=told)


def made(kept: Kept, task: str, told: str, seed: int) -> Line:
    """What a run found. It is made if it is missing."""
    wanted, withheld = key(task, told, seed), key(task, "failures", seed)
    if wanted not in kept:
        # A run that met no success while successes were withheld was told what its twin is told.
        same = told == "blind" and withheld in kept and kept[withheld]["first"] is None
        kept.add(wanted, kept[withheld] if same else measure(wanted))
    return kept[wanted]


def measure(key: Line) -> Line:
    """One run: the NRE of the first success, the rates before it and at the end, distinct successes, and the mean last stage."""
    id, told, seed = key["task"], key["told"], key["seed"]
    task = telling(TASKS[id], told)
    feedback: Feedback = "failures" if told in ("failures", "blind") else "typed"
    oracle = Oracle(task, feedback=feedback)
    agent = make_agent(AGENT, key["settings"])
    learnt = agent.learn(task.problem, oracle, np.random.default_rng(seed))
    policies = [(oracle.count, policy) for policy in learnt]
    tokens = np.concatenate([oracle.ledger.tokens(ask) for ask in oracle.ledger.asks])
    hits = np.asarray(TASKS[id].reward(tokens)) == 1  # a twin's ledger says "failure" to all
    first = int(np.flatnonzero(hits)[0]) + 1 if hits.any() else None
    before = [policy for nre, policy in policies if first is None or nre < first]
    return {
        "first": first,
        "before": log10(TASKS[id], before[-1]),
        "final": log10(TASKS[id], policies[-1][1]),
        "distinct": len(np.unique(tokens[hits], axis=0)),
        "nre": len(tokens),
        "stage": getattr(agent, "reported", {}).get("stage"),
    }


def telling(task: Task, told: str) -> Task:
    """The task as it answers."""
    if told == "blind":
        return task.blind()
    if told != "unsound":
        return task
    weaker = partial(proof.failure_type, str(task.problem.prompt), task.problem, sound=False)
    return dataclasses.replace(task, failure_type=weaker)


def log10(task: Task, policy: Any) -> float:
    """The log10 of the exact success rate; FLOOR for zero."""
    rate = success_rate(task, policy).log10
    return FLOOR if rate is None else rate


def line(id: str, told: str, runs: list[Line], twins: list[Line]) -> str:
    """One line of the table."""
    met = np.array([run["first"] is not None for run in runs])
    times = np.array([run["first"] or run["nre"] for run in runs], np.float64)
    first, ends = float(kaplan_meier(times, met).median()), median_time_interval(times, met, 0)
    gains = [np.array([a[what] - b[what] for a, b in zip(runs, twins, strict=True)]) for what in ("before", "final")]
    rates = [np.array([run[what] for run in runs]) for what in ("before", "final", "distinct")]
    return (
        f"{id:<24}{told:<10}{met.sum():>3} of {len(runs):<4}{nre(first):>8} [{nre(ends[0])}, {nre(ends[1])}]".ljust(66)
        + "".join(f"{spread(values):>26}" for values in (rates[0], gains[0], rates[1], gains[1]))
        + f"{float(median(rates[2])):>9.1f}"
    )


def nre(value: float) -> str:
    """An NRE as text."""
    return f"{value:,.0f}" if np.isfinite(value) else "> budget"


def spread(values: Any) -> str:
    """A median and its interval."""
    low, high = median_interval(np.asarray(values, np.float64), 0)
    return f"{float(median(np.asarray(values, np.float64))):.2f} [{low:.2f}, {high:.2f}]"


def main() -> None:
    """Make the runs that are missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a file of JSON lines that keeps the runs")
    parser.add_argument("--tasks", nargs="+", default=list(TYPED), choices=TYPED, metavar="ID")
    parser.add_argument(
        "--told", nargs="+", default=list(REGIMES), choices=REGIMES, help="lines; blind is made beside each"
    )
    parser.add_argument("--seeds", default="100-109", help="such as 100-109, the default")
    options = parser.parse_args()
    one_thread()
    kept, seeds, wanted = Kept(options.out), parse_seeds(options.seeds), lines_of(options.tasks, options.told)
    # The comparison itself comes first, and the twins of all lines are in it.
    rest = [pair for pair in wanted if pair[1] not in COMPARED]
    early = lines_of(options.tasks, [told for told in COMPARED if told in options.told or told == "blind"])
    for part in (early, rest):
        for seed in seeds:
            for task, told in part:
                made(kept, task, told, seed)
    for task in options.tasks:
        print(f"{task}: the base policy succeeds at {log10(TASKS[task], TASKS[task].problem.base_policy()):.2f}")
    heads = ("before first", "gain on twin", "final", "gain on twin")
    print(
        f"{'task':<24}{'told':<10}{'met':<10}{'NRE to first':<22}{''.join(f'{head:>26}' for head in heads)}{'distinct':>9}"
    )
    for task, told in wanted:
        runs, twins = ([made(kept, task, which, seed) for seed in seeds] for which in (told, "blind"))
        print(line(task, told, runs, twins))


if __name__ == "__main__":
    main()
