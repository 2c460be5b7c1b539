"""What the page of one submission says: what its submitter reports, how it can be run again, and how far its runs are proved."""

from __future__ import annotations

import json
import shlex
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from banel_agents import AGENTS
from banel_leaderboard.proving.load import Run
from banel_leaderboard.proving.standing import Standing
from banel_leaderboard.ranking.boards import regime_of
from banel_leaderboard.ranking.seed_sets import seeds_text
from banel_leaderboard.site.entries import Entry, Index
from banel_leaderboard.site.gather import Handed
from banel_leaderboard.sweeping.suites import SUITES

MOST_REASONS = 20  # different reasons for a low standing that are listed


@dataclass(frozen=True)
class Part:
    """The runs of one agent on one task under one feedback."""

    task: str
    regime: str
    budget: int
    off: bool
    standing: str
    command: str
    seeds: tuple[tuple[int, str], ...]  # each seed with the head of its ledger


@dataclass(frozen=True)
class AgentView:
    """One agent with its settings and version, in the form that the template reads."""

    id: str
    agent: str
    version: str
    settings: str
    parts: tuple[Part, ...]


def view(handed: Handed) -> dict[str, Any]:
    """What the template of a submission's page reads."""
    index = Index.of(handed.runs)
    groups: dict[int, list[Run]] = defaultdict(list)
    for run in handed.runs:
        groups[index.number(run)].append(run)
    return {
        "handed": handed,
        "said": handed.said,
        "agents": [_agent(entry, groups[i]) for i, entry in enumerate(index.entries)],
        "replay": shlex.join(["banel", "replay", f"leaderboard/submissions/{handed.id}"]),
        "suite": _suite(handed),
        "versions": _versions(handed.runs),
        "processors": sorted({run.record.execution.processor for run in handed.runs}),
        "answers": _standings([run.proved.answers for run in handed.runs]),
        "rates": _standings([run.proved.rates for run in handed.runs]),
        "reasons": Counter(r for run in handed.runs for r in run.proved.reasons).most_common(MOST_REASONS),
        "refused": handed.loaded.refused,
    }


def _agent(entry: Entry, runs: Sequence[Run]) -> AgentView:
    groups: dict[tuple[str, str, int], list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.record.task, regime_of(run.record), run.record.budget].append(run)
    record = entry.run.record
    parts = tuple(_part(groups[key]) for key in sorted(groups))
    return AgentView(entry.id, record.agent, entry.run.version, json.dumps(record.config, sort_keys=True), parts)


def _part(runs: Sequence[Run]) -> Part:
    ordered = sorted(runs, key=lambda run: run.record.seed)
    record = ordered[0].record
    return Part(
        record.task,
        regime_of(record),
        record.budget,
        record.off_board,
        min(run.proved.rates for run in runs).word,
        command([run.record.seed for run in ordered], ordered[0]),
        tuple((run.record.seed, run.record.ledger.head) for run in ordered),
    )


def command(seeds: Sequence[int], run: Run) -> str:
    """The command that makes the runs of these seeds again. An agent that is not shipped is named by the code of its author."""
    record = run.record
    agent = record.agent if record.agent in AGENTS else "MODULE:CLASS"
    words = ["banel", "run", "--task", record.task, "--agent", agent, "--seeds", seeds_text(seeds).replace(" ", "")]
    words += ["--feedback", record.feedback, *(["--twin"] if record.twin else [])]
    words += ["--budget", str(record.budget)] if record.off_board else []
    if record.tuned or record.agent not in AGENTS:
        words += [word for name, value in record.config.items() for word in ("--set", f"{name}={json.dumps(value)}")]
    return shlex.join([*words, "--out", "out"])


def _suite(handed: Handed) -> str | None:
    said = handed.said
    if said is None or said.suite not in SUITES or said.kind != "fixed":
        return None
    return f"banel bench --suite {said.suite} --out out"


def _versions(runs: Sequence[Run]) -> list[tuple[str, str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        for name, version in run.record.execution.versions.items():
            found[name].add(version)
    return [(name, ", ".join(sorted(found[name]))) for name in sorted(found)]


def _standings(found: Sequence[Standing]) -> list[tuple[str, int]]:
    return [(standing.word, found.count(standing)) for standing in reversed(Standing) if found.count(standing)]
