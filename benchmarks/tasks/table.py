"""The table of tasks: how hard each is, what a temperature alone does to it, and whether the oracle's answers matter.

    python -m benchmarks.tasks --out DIR [--seeds 0-2] [--jobs 2] [--task ID ...] [--write]
    python -m benchmarks.tasks --base-only [--task ID ...] [--write]

Runs the controls `tempered` and `tempered_sft`, and BaNEL with its oracle-free twin, on every shipped task (resumable:
runs already in DIR are kept), measures the base policies, and prints a Markdown table. `--write` also keeps it in
docs/tasks.md, and the figures that `banel list` shows in leaderboard/banel_leaderboard/sweeping/measured.json, each bound to the
digest of the task it was measured on; what stands there of tasks that were not named stays. Minutes are of the machine that
ran it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import torch

from banel_envs import TASKS, Task, success_rate
from banel_envs.measure.success import SuccessRate
from banel_envs.tasks import SHIPPED
from banel_leaderboard.command.settings import parse_seeds
from banel_leaderboard.ranking.rows import RateName, Span
from banel_leaderboard.records.record import RunRecord
from banel_leaderboard.records.spec import Spec
from banel_leaderboard.sweeping.measured_costs import PATH
from banel_leaderboard.sweeping.sweep import Lane, check, records_of, sweep

ROOT = Path(__file__).parent.parent.parent
TEMPERED, TEMPERED_SFT, FRESH = "tempered", "tempered_sft", "its fresh"
BANEL, TWIN = "banel", "banel's twin"
SHOWN = (TEMPERED, TEMPERED_SFT, FRESH, BANEL, TWIN)
BASE_SAMPLES = 60_000  # drawn from a base policy whose rate is not exact
SOLVED = -1.0  # log10 success from which on a control is said to solve a task
MATTERS = 0.3  # decades over the twin from which on the oracle's answers are said to matter


def lanes_for(task: str, seed: int) -> list[Lane]:
    """The runs of one task and seed; a twin only where its agent met a success (else it is the same run)."""
    return [
        (Spec(task=task, agent="tempered", seed=seed, feedback="failures"),),
        (Spec(task=task, agent="tempered_sft", seed=seed, feedback="full"),),
        (
            Spec(task=task, agent="banel", seed=seed, feedback="failures"),
            Spec(task=task, agent="banel", seed=seed, feedback="failures", twin=True),
        ),
    ]


@dataclass(frozen=True)
class Line:
    """What was measured of one task."""

    id: str
    base: SuccessRate
    successes: int | None  # in the whole set, where it is enumerated
    finals: dict[str, list[Span]]  # control -> log10 of the final success rate by seed; empty where no agent was run
    minutes: float | None  # median of a BaNEL run with its 16 evaluations; None where no agent was run

    @property
    def gains(self) -> list[Span]:
        """Decades of BaNEL over its twin, by seed; 0 where both are the same."""
        pairs = zip(self.finals[BANEL], self.finals[TWIN], strict=True)
        return [(0.0, 0.0) if b == t else (b[0] - t[1], b[1] - t[0]) for b, t in pairs]

    @property
    def notes(self) -> str:
        """What a reader must know: solved by a temperature, or where answers matter."""
        if not self.finals:
            return "the base policy alone was measured"
        found = []
        if middle(self.finals[TEMPERED])[0] >= SOLVED:
            found.append("a temperature alone solves it")
        elif middle(self.finals[FRESH])[0] >= SOLVED:
            found.append("told its successes, `tempered_sft` solves it")
        elif middle(self.finals[TEMPERED_SFT])[0] >= SOLVED:
            found.append("told its successes, `tempered_sft` repeats those it found")
        worst, best = middle(self.gains)
        helped, harmed = sum(low >= MATTERS for low, _ in self.gains), sum(high <= -MATTERS for _, high in self.gains)
        if worst >= MATTERS or best <= -MATTERS:
            verb, k = ("help", helped) if worst > 0 else ("harm", harmed)
            found.append(f"answers {verb} BaNEL in {k} of {len(self.gains)} seeds")
        if any(low < high for spans in self.finals.values() for low, high in spans):
            found.append("certified intervals, no numbers")
        return "; ".join(found)


def base_line(task: Task) -> Line:
    """The line of a task without any run."""
    rate = success_rate(task, task.problem.base_policy(), np.random.default_rng(0), BASE_SAMPLES)
    successes = task.successes()
    return Line(task.problem.id, rate, None if successes is None else len(successes), {}, None)


def measured(task: Task, records: Sequence[RunRecord]) -> Line:
    """The line of a task from its finished runs."""
    by = {(r.agent, r.twin, r.seed): r for r in records if r.task == task.problem.id}
    seeds = sorted({seed for agent, _, seed in by if agent == "banel"})
    banel = [by["banel", False, s] for s in seeds]
    tuned = [by["tempered_sft", False, s] for s in seeds]
    finals = {
        TEMPERED: [span(by["tempered", False, s]) for s in seeds],
        TEMPERED_SFT: [span(r) for r in tuned],
        FRESH: [span(r, "fresh") for r in tuned],
        BANEL: [span(r) for r in banel],
        TWIN: [span(by.get(("banel", True, r.seed), r)) for r in banel],  # told no success: one run is both
    }
    minutes = median(r.execution.cpu_s + r.execution.evaluation_s for r in banel) / 60
    return replace(base_line(task), finals=finals, minutes=minutes)


def span(record: RunRecord, rate: RateName = "success") -> Span:
    """Both ends of what is known of the final rate, equal where it is a number."""
    return record.final(rate, "low"), record.final(rate, "high")


def middle(spans: Sequence[Span]) -> Span:
    """Between which the median lies."""
    lows, highs = zip(*spans, strict=True)
    return median(lows), median(highs)


def table(lines: Sequence[Line]) -> list[str]:
    """Markdown: two lines of headings and a line a task."""
    head = ["task", "family", "V", "T", "budget", "base success", "successes", "effective", *SHOWN]
    head += ["gain", "minutes", "notes"]
    rows = [[f"`{h}`" if h in (TEMPERED, TEMPERED_SFT, BANEL) else h for h in head]]
    rows.append(["---" if i in (0, 1, len(head) - 1) else "---:" for i in range(len(head))])
    for line in lines:
        problem = TASKS[line.id].problem
        rows.append(
            [
                line.id.removeprefix("banel/"),
                TASKS[line.id].family,
                str(problem.V),
                str(problem.T),
                f"{problem.budget:,}",
                written(line.base),
                "" if line.successes is None else f"{line.successes:,}",
                "" if line.base.effective is None else f"{line.base.effective:,.0f}",
                *(spread(line.finals[name]) if line.finals else "" for name in SHOWN),
                spread(line.gains) if line.finals else "",
                "" if line.minutes is None else f"{line.minutes:.1f}",
                line.notes,
            ]
        )
    return ["| " + " | ".join(row) + " |" for row in rows]


def written(rate: SuccessRate) -> str:
    """A rate in log10, with its interval where it is not exact."""
    if rate.method == "exact" and rate.log10 is not None:
        return f"{rate.log10:.3f}"
    low = "" if rate.low is None else f"{rate.low:.2f}"
    return f"{'' if rate.log10 is None else f'{rate.log10:.2f} '}[{low}, {rate.high or 0.0:.2f}]"


def spread(spans: Sequence[Span]) -> str:
    """Median and, of several seeds, the range; where no number is known the ends between which the median lies."""
    low, high = middle(spans)
    if any(a < b for a, b in spans):
        return f"{number(low)} to {number(high)}"
    return number(low) if len(spans) == 1 else f"{number(low)} [{number(min(spans)[0])}, {number(max(spans)[0])}]"


def number(value: float) -> str:
    """Two decimals; −∞ for zero success."""
    return f"{value:.2f}" if math.isfinite(value) else "−∞" if value < 0 else "+∞"


def keep(lines: Sequence[Line]) -> None:
    """Put these lines into docs/tasks.md and measured.json, in the registry's order, beside those of other tasks."""
    page = ROOT / "docs" / "tasks.md"
    heads, old = table(lines)[:2], {}
    table_of_runs, section, rest = page.read_text().partition("\n## ")  # the rest is benchmarks.tasks.controls'
    for row in table_of_runs.splitlines():
        if row.startswith("| ") and row not in heads:
            old["banel/" + row.split("|")[1].strip()] = row
    new = old | dict(zip((line.id for line in lines), table(lines)[2:], strict=True))
    page.write_text("\n".join([HEAD, *heads, *(new[id] for id in TASKS if id in new)]) + "\n" + section + rest)
    known = json.loads(PATH.read_text())
    for line in lines:
        minutes = None if line.minutes is None else round(line.minutes, 2)
        new_figures = {"digest": TASKS[line.id].digest, "base": asdict(line.base), "minutes": minutes}
        old_figures = known.get(line.id, {})
        if old_figures.get("digest") == new_figures["digest"] and "control" in old_figures:
            new_figures["control"] = old_figures["control"]  # benchmarks.tasks.controls measured it on the same task
        known[line.id] = new_figures
    PATH.write_text(json.dumps({id: known[id] for id in TASKS if id in known}, indent=1) + "\n")


def main() -> None:
    """Run what is missing, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tasks", description=__doc__)
    parser.add_argument("--out", type=Path, help="the folder that holds the runs")
    parser.add_argument("--base-only", action="store_true", help="run nothing and measure the base policies alone")
    parser.add_argument("--seeds", default="0-2", help="such as 0-4 (default 0-2)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at once (default: every core)")
    parser.add_argument("--task", nargs="+", default=list(SHIPPED), help="ids (default: every shipped task)")
    parser.add_argument("--write", action="store_true", help="keep the table and the figures of `banel list`")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.out is None and not options.base_only:
        parser.error("--out DIR says where the runs are; --base-only makes none")
    if options.base_only:
        return show([base_line(TASKS[id]) for id in options.task], options.write)
    lanes = [lane for seed in parse_seeds(options.seeds) for task in options.task for lane in lanes_for(task, seed)]
    check(lanes, options.out)
    sweep(lanes, options.out, jobs=options.jobs)
    records = records_of(lanes, options.out)
    show([measured(TASKS[id], records) for id in options.task], options.write)


def show(lines: Sequence[Line], write: bool) -> None:
    """Print the table, and keep it where that is asked."""
    print("\n".join(table(lines)))
    if write:
        keep(lines)


HEAD = """# The tasks, measured

Success rates in log10 (0 is certain, -3 is 1 in 1,000), medians over the seeds with their range.
*Effective*: the number of distinct successes that carry the base rate. *Gain*: decades of BaNEL over its oracle-free
twin; where it is 0 the oracle's answers did not matter. `tempered_sft` is told every reward (*fresh*: less the mass of the
successes it has asked), the others failures only. −∞: zero. [-4.8, -3.4] alone: no number, certified ends.
Minutes (CPU) of one BaNEL run on one core, its 16 evaluations included. Made by `python -m benchmarks.tasks --write`.
"""
