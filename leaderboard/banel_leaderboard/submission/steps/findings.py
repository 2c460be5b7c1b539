"""What a check finds: a finding refuses a submission, a flag asks a maintainer to look."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from banel_envs.files.visible import shown, visible

Step: TypeAlias = Literal["a", "b", "c", "d", "e", "f", "g", "h"]
STEPS: dict[Step, str] = {
    "a": "files, names, sizes, schemas",
    "b": "tasks, seeds and regimes of the suite",
    "c": "ledgers: chain, head, answers",
    "d": "what a ledger decides",
    "e": "final rates from the stored policy",
    "f": "cost",
    "g": "too good to be true",
    "h": "near-copies of other submissions",
}
"""What is checked, in this order."""
MOST_SHOWN = 20  # findings of a step that are printed


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or that a maintainer should look at."""

    step: Step
    file: str  # below the submission's folder; a run is named by the place it has in its part
    field: str  # of that file, such as "seed" or "size"
    said: str

    def __str__(self) -> str:
        return f"({self.step}) {visible(self.file)}: {visible(self.field)}: {visible(self.said)}"


@dataclass
class Report:
    """The outcome of a check."""

    refused: list[Finding] = field(default_factory=list)
    flagged: list[Finding] = field(default_factory=list)
    skipped: dict[Step, str] = field(default_factory=dict)  # steps that were not made, and why
    runs: int = 0
    different: int = 0  # runs that asked other questions than every other run of their row
    answers: Counter[str] = field(default_factory=Counter)  # how many runs have each standing, in the answers
    rates: Counter[str] = field(default_factory=Counter)  # the same, in the final rates
    reasons: Counter[str] = field(default_factory=Counter)  # why runs are proved no further

    @property
    def passed(self) -> bool:
        """Whether nothing refuses the submission."""
        return not self.refused

    def lines(self) -> list[str]:
        """The report for a terminal: a line a step, then what was found."""
        out = []
        for step, about in STEPS.items():
            bad, odd = ([f for f in found if f.step == step] for found in (self.refused, self.flagged))
            verdict = f"REFUSED ({len(bad)})" if bad else f"flagged ({len(odd)})" if odd else "ok"
            verdict = f"not checked: {self.skipped[step]}" if step in self.skipped and not bad else verdict
            out.append(f"({step}) {about:<40}{verdict}")
            out += [f"    {finding}" for finding in (*bad, *odd)[:MOST_SHOWN]]
            if len(bad) + len(odd) > MOST_SHOWN:
                out.append(f"    and {len(bad) + len(odd) - MOST_SHOWN} more")
        out.append(f"{self.runs} runs, {self.different} of them with questions of their own")
        for what, found in (("answers", self.answers), ("final rates", self.rates)):
            out.append(f"{what}: " + (", ".join(f"{n} {word}" for word, n in found.most_common()) or "none"))
        out += [f"    {n} runs: {visible(reason)}" for reason, n in self.reasons.most_common(5)]
        return out

    def as_json(self) -> dict[str, Any]:
        """The report as JSON values, for a page."""
        return {
            "passed": self.passed,
            "refused": [vars(f) for f in self.refused],
            "flagged": [vars(f) for f in self.flagged],
            "skipped": dict(self.skipped),
            "runs": self.runs,
            "different": self.different,
            "answers": dict(self.answers),
            "rates": dict(self.rates),
            "reasons": dict(self.reasons),
        }


def missing_text(names: list[str]) -> str:
    """Some names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") or shown(names)
