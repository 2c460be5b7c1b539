"""What needs no oracle: the exact success rate of policies that read no answer, on every task whose rates are exact.

    python -m benchmarks.tasks.controls [--task ID ...] [--write]

The policies: the base policy at temperatures from 0.5 to 5, the same within the public grammar (tokens that it forbids have
probability 0), and uniform sampling of the grammar. Nothing is run and nothing is drawn. A task is *within reach* of a
control that gains more than half a decade on the base policy. `--write` also keeps the table at the end of docs/tasks.md,
and the best of each task beside what `benchmarks.tasks` measured, for `banel list`; what stands there of tasks that were
not named stays. A task whose data is not here is left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch

from banel_envs import TASKS, BanelError, Task, success_rate
from banel_envs.policies import Autoregressive, Masked, Policy, Tempered, UniformGrammar
from banel_envs.policies.grammar import table_of
from banel_envs.tasks import SHIPPED
from banel_leaderboard.sweeping.measured_costs import PATH
from benchmarks.tasks.table import ROOT, number

TEMPERATURES = (0.5, 0.75, 1.5, 2.0, 3.0, 5.0)
REACH = 0.5  # decades over the base from which on a task is said to be within reach of a control
FIRST, LAST = "exact rate of", "within reach of"  # the headings of the first column and of the last
SECTION = "\n## What needs no oracle\n"
PAGE = ROOT / "docs" / "tasks.md"


@dataclass(frozen=True)
class Reached:
    """The log10 success rates of what reads no answer, on one task."""

    id: str
    base: float
    tempered: dict[float, float]  # by temperature
    masked: dict[float, float]  # by temperature, within the grammar
    uniform: (
        float | None
    )  # over the grammar, or over all sequences where nothing is forbidden; None where it is no automaton

    @property
    def best(self) -> tuple[float, str]:
        """The highest rate, and whose it is."""
        named = [(rate, f"T = {t:g}") for t, rate in self.tempered.items()]
        named += [(rate, f"T = {t:g} within the grammar") for t, rate in self.masked.items()]
        if self.uniform is not None:
            named.append((self.uniform, "the uniform grammar"))
        return max(named, key=lambda pair: pair[0])

    @property
    def row(self) -> str:
        """Its line of the table."""
        best, whose = self.best
        within, at = max((rate, t) for t, rate in self.masked.items()) if self.masked else (None, 0.0)
        cells = [
            self.id.removeprefix("banel/"),
            *(number(rate) for rate in (self.base, *self.tempered.values())),
            "" if within is None else f"{number(within)} at {at:g}",
            "" if self.uniform is None else number(self.uniform),
            f"{best - self.base:+.2f}",
            whose if best - self.base > REACH else "none",
        ]
        return "| " + " | ".join(cells) + " |"


def reached(task: Task) -> Reached:
    """Measure one task.

    Raises:
        BanelError: its rates are not exact, or its data is not here.
    """
    if task.successes() is None:
        raise BanelError("its rates are not exact")
    problem = task.problem
    base = cast("Autoregressive", problem.base_policy())  # as the base policies of all shipped tasks are

    def rate(policy: Policy) -> float:
        log10 = success_rate(task, policy).log10
        return float("-inf") if log10 is None else log10

    tempered = {t: Tempered(base, t) for t in TEMPERATURES}
    masked, uniform = {}, None
    if problem.has_automaton:
        table = table_of(problem.automaton())
        uniform = rate(UniformGrammar(table, problem.T, problem.end))
        if problem.allowed is not None:
            masked = {t: rate(Masked(policy, table)) for t, policy in {1.0: base, **tempered}.items()}
    return Reached(problem.id, rate(base), {t: rate(policy) for t, policy in tempered.items()}, masked, uniform)


def headings() -> list[str]:
    """The two lines of headings."""
    names = [
        FIRST,
        "base",
        *(f"T = {t:g}" for t in TEMPERATURES),
        "best T within the grammar",
        "uniform grammar",
        "gain",
        LAST,
    ]
    rule = ["---", *["---:"] * (len(names) - 2), "---"]
    return ["| " + " | ".join(line) + " |" for line in (names, rule)]


def keep(lines: Sequence[Reached]) -> None:
    """Put these lines at the end of docs/tasks.md and into measured.json, in the registry's order, beside other tasks'."""
    above, _, below = PAGE.read_text().partition(SECTION)
    rows = {"banel/" + row.split("|")[1].strip(): row for row in below.splitlines() if row.startswith("| ")}
    rows |= {line.id: line.row for line in lines}
    table = [*headings(), *(rows[id] for id in TASKS if id in rows)]
    PAGE.write_text(above + SECTION + ABOUT + "\n".join(table) + "\n")
    known = json.loads(PATH.read_text())
    for line in lines:
        if known.get(line.id, {}).get("digest") == TASKS[line.id].digest:
            known[line.id]["control"] = dict(zip(("log10", "whose"), line.best, strict=True))
    PATH.write_text(json.dumps(known, indent=1) + "\n")


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tasks.controls", description=__doc__)
    parser.add_argument("--task", nargs="+", default=list(SHIPPED), help="ids (default: every shipped task)")
    parser.add_argument("--write", action="store_true", help="keep the table in docs/tasks.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("\n".join(headings()), flush=True)
    lines = []
    for id in options.task:
        try:
            lines.append(reached(TASKS[id]))
        except BanelError as error:
            print(f"{id} is left out: {error}", file=sys.stderr)
        else:
            print(lines[-1].row, flush=True)
    if options.write:
        keep(lines)


ABOUT = """
Exact success rates, in log10, of policies that read no answer: the base policy at a temperature T; the same with
probability 0 for what the public grammar forbids, at its best T (1 included); every sequence of the grammar equally likely.
*Gain*: the best of them over the base, in decades. *Within reach of*: who gains more than half a decade; there a good part
of what an agent gains takes no oracle. Made by `python -m benchmarks.tasks.controls --write`.

"""

if __name__ == "__main__":
    main()
