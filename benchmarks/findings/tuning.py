"""The same number of configurations for every agent, on instances and seeds that the board does not use.

    for name in addition_attack countdown ehrlich list_program; do
        python -m banel_envs.build $name --instance 1 --out instances
    done
    python -m benchmarks.findings.tuning --instances instances --out tuning.jsonl [--agents NAME ...] [--seeds 100-101]

The tasks are AdditionAttack, Countdown, Ehrlich and ListProgram of instance 1: another target network, another number to
hit, other motifs, other examples. An agent that learns from failures is tuned under `failures`, any other under `full`.
Printed is, for each configuration, the mean over tasks and seeds of log10((1 + distinct) / (1 + distinct of
`without_replacement`)), where distinct is the number of distinct successes that were asked. The best is marked; the defaults
of that time stay unless another configuration is better by more than MARGIN. Every run is a line of the file, and is not
made again. `--page docs/tuning.md` writes the table there.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections import defaultdict
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
MARGIN = 0.2  # decades; the mean of eight runs of one configuration moves by about as much from seeds to other seeds
REFERENCE = "without_replacement"
Table = dict[str, dict[str, list[float]]]
"""By agent and settings (JSON): a score for each run."""


def key(agent: str, settings: Line, task: str, seed: int) -> Line:
    """A run. The settings are those given, since the table is about the defaults of its time."""
    feedback = "failures" if agent in LEARN_FROM_FAILURES else "full"
    return {"agent": agent, "settings": settings, "feedback": feedback, "task": task, "seed": seed}


def keys(agents: list[str], seeds: list[int]) -> Iterator[Line]:
    """Every run, the seeds outermost, so that a command that is cut short has tried every configuration about as often."""
    for seed in seeds:
        for task in TASK_IDS:
            yield from (key(REFERENCE, {}, task, seed) | {"feedback": feedback} for feedback in ("failures", "full"))
        for agent in agents:
            yield from (key(agent, settings, task, seed) for settings in [{}, *OTHERS[agent]] for task in TASK_IDS)


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


def scores(kept: Kept, agents: list[str], seeds: list[int]) -> Table:
    """log10((1 + distinct) / (1 + distinct of the reference)) of every run that is there."""
    table: Table = defaultdict(lambda: defaultdict(list))
    for k in keys(agents, seeds):
        reference = k | {"agent": REFERENCE, "settings": {}}
        if k["agent"] != REFERENCE and k in kept and reference in kept:
            ratio = (1 + kept[k]["distinct"]) / (1 + kept[reference]["distinct"])
            table[k["agent"]][json.dumps(k["settings"])].append(math.log10(ratio))
    return table


def moves(kept: Kept, agents: list[str], seeds: list[int]) -> str:
    """How far the score of a configuration moves from the first seed to the second, over those that ran on all tasks."""
    one, two = (scores(kept, agents, [seed]) for seed in seeds[:2])
    whole = [(a, s) for a in two for s in two[a] if len(two[a][s]) == len(one[a][s]) == len(TASK_IDS)]
    if not whole:
        return "no configuration has run on all tasks with both seeds"
    differences = [np.mean(two[a][s]) - np.mean(one[a][s]) for a, s in whole]
    size = math.sqrt(float(np.mean(np.square(differences))))
    return f"from seed {seeds[0]} to {seeds[1]} the scores of {len(whole)} configurations move by {size:.2f}, root mean square"


def choice(means: dict[str, float]) -> str:
    """The settings chosen among these (JSON), each with its score."""
    best = max(means, key=lambda settings: means[settings])
    return best if means[best] > means.get("{}", -math.inf) + MARGIN else "{}"


def report(table: Table) -> Iterator[str]:
    """A line of Markdown for each configuration; the choice is bold."""
    yield "| agent | told | settings | runs | score |"
    yield "|---|---|---|---:|---:|"
    for agent, found in table.items():
        means = {settings: float(np.mean(values)) for settings, values in found.items()}
        chosen = choice(means)
        for settings, value in means.items():
            shown = ", ".join(f"{k} = {v}" for k, v in json.loads(settings).items()) or "the defaults of then"
            bold = "**" if settings == chosen else ""
            told = "failures" if agent in LEARN_FROM_FAILURES else "full"
            yield f"| `{agent}` | {told} | {bold}{shown}{bold} | {len(found[settings])} | {value:+.2f} |"


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
        for _ in each(list(keys(options.agents, seeds)), run, kept, options.jobs):
            pass
    lines = "\n".join(report(scores(kept, options.agents, seeds)))
    print(lines)
    if len(seeds) > 1:
        print(moves(kept, options.agents, seeds))
    if options.page:
        text = options.page.read_text()
        options.page.write_text(text[: text.index("| agent |")] + lines + "\n")


if __name__ == "__main__":
    main()
