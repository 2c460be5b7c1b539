"""Does an agent beat chance? `python -m benchmarks.tasks.needle [--seeds 30] [--agents NAME ...] [--jobs 1] [--out DIR]`.

Runs agents on Needle-v0, feedback full, every seed with a set of its own, and holds the fresh success of each at the end
of the budget against that of `without_replacement` on the same set. Nobody can do better in the mean (see the task). The
test is one-sided over the seeds: signs of the paired differences flipped at random, p-values corrected for the number
of agents by Holm's method, level 1%. Exits 1 if an agent stands above. Run again with the same --out to go on.

The comparison is fair to within 3 in a million: without_replacement excludes failures, and keeps the three or so
successes it has asked, which are not fresh. Given the answers, fresh success is a sum of independent rare successes,
weighted, so a difference has its long tail above and none below; flipped signs then err on the safe side (a
test in tests/tasks/test_needle.py measures it), and a lucky hit of a policy that collapsed does not count as skill.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from banel_agents import AGENTS
from banel_leaderboard.ranking.negative_control import BAR, LEVEL, Floats, Verdict, judge, least_seeds
from banel_leaderboard.records.spec import Spec
from banel_leaderboard.running.resolve import finished_record
from banel_leaderboard.sweeping.sweep import Lane, sweep

TASK = "banel/Needle-v0"


def final_fresh(agent: str, seeds: int, out: Path) -> Floats:
    """Fresh success at the end of the budget, by seed; NaN where the run is not there."""
    records = [finished_record(Spec(task=TASK, agent=agent, seed=seed, feedback="full"), out) for seed in range(seeds)]
    return np.array([np.nan if record is None else 10 ** record.final("fresh") for record in records])


def plan(agents: list[str], seeds: int) -> list[Lane]:
    """Every run, the first seed of each agent first."""
    return [
        (Spec(task=TASK, agent=agent, seed=seed, feedback="full"),) for seed in range(seeds) for agent in (BAR, *agents)
    ]


def run(agents: list[str], seeds: int, out: Path, jobs: int) -> dict[str, Verdict]:
    """What is missing is run; then all are judged."""
    lanes = plan(agents, seeds)
    failed = [outcome for outcome in sweep(lanes, out, jobs=jobs) if outcome.status == "failed"]
    if failed:
        raise SystemExit(f"{len(failed)} of {len(lanes)} runs failed; run again with --out {out} to go on")
    bar = final_fresh(BAR, seeds, out)
    print(f"{TASK}, {seeds} seeds; {BAR}: mean fresh success {bar.mean():.4e}")
    verdicts = judge([final_fresh(agent, seeds, out) - bar for agent in agents])
    return dict(zip(agents, verdicts, strict=True))


def show(verdicts: dict[str, Verdict]) -> None:
    """The table."""
    print(f"{'agent':<22}{'difference':>12}{'std. error':>12}{'p':>9}{'Holm p':>9}  verdict")
    for agent, v in verdicts.items():
        verdict = "ABOVE: a leak, or 1 in 100" if v.above else "not above"
        print(f"{agent:<22}{v.difference:>+12.2e}{v.error:>12.1e}{v.p:>9.4f}{v.corrected:>9.4f}  {verdict}")
    above = sum(v.above for v in verdicts.values())
    print(f"{above} of {len(verdicts)} agents stand above {BAR} (one-sided, {LEVEL:.0%}, Holm)")


def main() -> int:
    """Run, judge, say so."""
    others = [agent for agent in AGENTS if agent != BAR]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--agents", nargs="+", default=others, help="names, or module:Class of your own")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder that keeps the runs (default: a temporary one)")
    options = parser.parse_args()
    agents = [agent for agent in options.agents if agent != BAR]
    least = least_seeds(len(agents))
    if options.seeds < least:
        parser.error(f"{options.seeds} seeds cannot tell {len(agents)} agents from chance; give at least {least}")
    with tempfile.TemporaryDirectory() as folder:
        verdicts = run(agents, options.seeds, options.out or Path(folder), options.jobs)
    show(verdicts)
    return int(any(v.above for v in verdicts.values()))


if __name__ == "__main__":
    sys.exit(main())
