"""The same number of configurations for every agent, on instances and seeds that the board does not use.

    for name in addition_attack countdown ehrlich list_program; do
        python -m banel_envs.build $name --instance 1 --out instances
    done
    python -m benchmarks.findings.tuning --instances instances --out tuning.jsonl [--agents NAME ...] [--seeds 100-101]

The tasks are AdditionAttack, Countdown, Ehrlich and ListProgram of instance 1: another target network, another number to
hit, other motifs, other examples. An agent that learns from failures is tuned under `failures`, any other under `full`.
The score of a configuration is the mean over tasks of log10((1 + distinct) / (1 + distinct of `without_replacement`)), where
distinct is the number of distinct successes that were asked. With the first seed all configurations of an agent run; with each
further seed its defaults and the best of the others (successive halving, Jamieson and Talwalkar 2016). That one is chosen if
the mean of its scores is better than that of the defaults by more than MARGIN. Every run is a line of the file, and is not made
again. `--page docs/tuning.md` writes the table there.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from banel_agents import make_agent
from banel_envs import TASKS, Oracle
from banel_envs.assets import VARIABLE
from banel_leaderboard.command.settings import parse_seeds
from banel_leaderboard.sweeping.measured_costs import measured
from benchmarks.findings.configurations import LEARN_FROM_FAILURES, OTHERS
from benchmarks.findings.kept import Kept, Line, each, one_thread

TASK_IDS = ("banel/AdditionAttack-v0", "banel/Countdown-v0", "banel/Ehrlich-v0", "banel/ListProgram-v0")
MARGIN = 0.2  # decades; a score moves by about twice as much from a seed to another
REFERENCE = "without_replacement"


def key(agent: str, settings: Line, task: str, seed: int) -> Line:
    """A run. The settings are those given, since the table is about the defaults of its time."""
    feedback = "failures" if agent in LEARN_FROM_FAILURES else "full"
    return {"agent": agent, "settings": settings, "feedback": feedback, "task": task, "seed": seed}


def first_keys(agents: list[str], seed: int) -> Iterator[Line]:
    """Every run of the first seed."""
    yield from reference_keys(seed)
    for agent in agents:
        yield from (key(agent, settings, task, seed) for settings in [{}, *OTHERS[agent]] for task in TASK_IDS)


def further_keys(kept: Kept, agents: list[str], seed: int, first: int) -> Iterator[Line]:
    """Every run of a further seed, when the runs of the first seed are there."""
    yield from reference_keys(seed)
    for agent in agents:
        for settings in ({}, best_other(kept, agent, first)):
            yield from (key(agent, settings, task, seed) for task in TASK_IDS)


def reference_keys(seed: int) -> Iterator[Line]:
    """The runs that the others are compared with."""
    for task in TASK_IDS:
        yield from (key(REFERENCE, {}, task, seed) | {"feedback": feedback} for feedback in ("failures", "full"))


def run(key: Line) -> Line:
    """NRE to the first success asked, and distinct successes asked."""
    task = TASKS[key["task"]]
    oracle = Oracle(task, feedback=key["feedback"])
    agent = make_agent(key["agent"], key["settings"])
    for _ in agent.learn(task.problem, oracle, np.random.default_rng(key["seed"])):
        pass
    tokens = np.concatenate([oracle.ledger.tokens(ask) for ask in oracle.ledger.asks])
    hits = np.asarray(task.reward(tokens)) == 1
    first = int(np.flatnonzero(hits)[0]) + 1 if hits.any() else None
    return {"first": first, "distinct": len(np.unique(tokens[hits], axis=0)), "digest": task.digest}


def score(kept: Kept, agent: str, settings: Line, seed: int) -> float | None:
    """The score of a configuration with a seed; None where a run is missing."""
    values = []
    for task in TASK_IDS:
        own = key(agent, settings, task, seed)
        reference = own | {"agent": REFERENCE, "settings": {}}
        if own not in kept or reference not in kept:
            return None
        values.append(math.log10((1 + kept[own]["distinct"]) / (1 + kept[reference]["distinct"])))
    return float(np.mean(values))


def best_other(kept: Kept, agent: str, seed: int) -> Line:
    """The best configuration beside the defaults; the defaults where none has run on all tasks."""
    found = [(score(kept, agent, settings, seed), settings) for settings in OTHERS[agent]]
    return max(((s, settings) for s, settings in found if s is not None), key=lambda pair: pair[0], default=(0.0, {}))[
        1
    ]


def chosen(kept: Kept, agent: str, seeds: list[int]) -> Line:
    """The settings chosen: those of the best other configuration, or none."""
    other = best_other(kept, agent, seeds[0])
    gains = [_difference(score(kept, agent, other, seed), score(kept, agent, {}, seed)) for seed in seeds]
    known = [gain for gain in gains if gain is not None]
    return other if known and float(np.mean(known)) > MARGIN else {}


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def moves(kept: Kept, agents: list[str], seeds: list[int]) -> str:
    """How far the score of a configuration moves from the first seed to the second."""
    pairs = [(a, s) for a in agents for s in [{}, *OTHERS[a]]]
    found = [_difference(score(kept, a, s, seeds[1]), score(kept, a, s, seeds[0])) for a, s in pairs]
    known = [value for value in found if value is not None]
    if not known:
        return "no configuration has run on all tasks with both seeds"
    size = math.sqrt(float(np.mean(np.square(known))))
    return f"From seed {seeds[0]} to {seeds[1]} the scores of {len(known)} configurations move by {size:.2f}, root mean square."


def report(kept: Kept, agents: list[str], seeds: list[int]) -> Iterator[str]:
    """A line of Markdown for each configuration; the chosen one is bold."""
    yield "| agent | told | settings | " + " | ".join(f"seed {seed}" for seed in seeds) + " |"
    yield "|---|---|---|" + "---:|" * len(seeds)
    for agent in agents:
        best = chosen(kept, agent, seeds)
        told = "failures" if agent in LEARN_FROM_FAILURES else "full"
        for settings in [{}, *OTHERS[agent]]:
            shown = ", ".join(f"{k} = {v}" for k, v in settings.items()) or "the defaults of then"
            bold = "**" if settings == best else ""
            values = [score(kept, agent, settings, seed) for seed in seeds]
            cells = " | ".join("" if value is None else f"{value:+.2f}" for value in values)
            yield f"| `{agent}` | {told} | {bold}{shown}{bold} | {cells} |"


def main() -> None:
    """Make what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=Path, help="where the instances were built; without it nothing is run")
    parser.add_argument("--out", type=Path, required=True, help="a file of JSON lines that keeps the runs")
    parser.add_argument("--agents", nargs="+", choices=list(OTHERS), default=list(OTHERS), metavar="NAME")
    parser.add_argument("--seeds", default="100-101", help="such as 100-109 (default 100-101)")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--page", type=Path, help="a Markdown page whose table is written anew")
    options = parser.parse_args()
    seeds, kept = list(parse_seeds(options.seeds)), Kept(options.out)
    one_thread()
    if options.instances is not None:
        os.environ[VARIABLE] = str(options.instances.absolute())
        if shipped := [id for id in TASK_IDS if measured(TASKS[id]) is not None]:
            sys.exit(f"{', '.join(shipped)} is the board's own instance; build instance 1 into {options.instances}")
        for seed in seeds:
            first = seed == seeds[0]
            plan = first_keys(options.agents, seed) if first else further_keys(kept, options.agents, seed, seeds[0])
            for _ in each(list(plan), run, kept, options.jobs):
                pass
    lines = "\n".join(report(kept, options.agents, seeds))
    print(lines)
    if len(seeds) > 1:
        print(moves(kept, options.agents, seeds))
    if options.page:
        text = options.page.read_text()
        options.page.write_text(text[: text.index("| agent |")] + lines + "\n")


if __name__ == "__main__":
    main()
