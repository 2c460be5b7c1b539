"""The entries of the site: one for each agent with its settings and version in a submission, on whatever tasks it ran."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from banel_agents import AGENTS
from banel_envs import TASKS
from banel_envs.files.visible import visible
from banel_leaderboard.proving.load import Run
from banel_leaderboard.ranking.marks import settings
from banel_leaderboard.ranking.rows import Row

OTHER = "other"  # the kind of an agent that is not shipped, and the family of a task that is not
MOST_SETTINGS = 300  # characters of an entry's settings in the overview; its submission page has all of them


@dataclass(frozen=True)
class Entry:
    """What the rows of one agent have in common."""

    id: str  # eight hexadecimal digits, for the address of a view
    submission: str
    run: Run  # one of its runs
    alike: bool  # whether the submission holds the agent with other settings or versions too

    def shown(self, number: int) -> dict[str, Any]:
        """The entry as the page gets it; `number` is that of its submission."""
        record = self.run.record
        told = settings(record) if record.tuned or self.alike else ""
        return {
            "id": self.id,
            "s": number,
            "agent": visible(record.agent),
            "kind": kind(record.agent),
            "tuned": int(record.tuned),
            "settings": visible(told, MOST_SETTINGS),
            "version": visible(self.run.version),
        }


@dataclass
class Index:
    """The numbers by which the packed columns name entries, tasks and notes."""

    entries: list[Entry] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _place: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Index:
        """An entry for each agent, settings and version of each submission, in their order."""
        made: dict[str, Run] = {}
        for run in runs:
            made.setdefault(_key(run), run)
        names = [(run.submission, run.record.agent) for run in made.values()]
        index = cls()
        for key, run in sorted(made.items(), key=lambda item: _order(item[1])):
            index._place[key] = len(index.entries)
            alike = names.count((run.submission, run.record.agent)) > 1
            index.entries.append(Entry(hashlib.sha256(key.encode()).hexdigest()[:8], run.submission, run, alike))
        return index

    def entry(self, row: Row) -> int:
        """The number of a row's entry."""
        return self.number(row.runs[0])

    def number(self, run: Run) -> int:
        """The number of a run's entry."""
        return self._place[_key(run)]

    def task(self, title: str) -> int:
        """The number of a task, which is a new one if it has none."""
        return _number(self.tasks, title)

    def note(self, text: str) -> int:
        """The number of a note, likewise."""
        return _number(self.notes, text)


def kind(agent: str) -> str:
    """The kind of an agent in words: the room of the shipped ones."""
    if agent not in AGENTS:
        return OTHER
    return AGENTS[agent].where.split(".")[1].replace("_", " ")


def family(task: str) -> str:
    """The family of a task."""
    found = TASKS.at_hand(task)
    return ("" if found is None else found.family) or OTHER


def _key(run: Run) -> str:
    return json.dumps([run.submission, run.record.agent, run.record.config, run.version], sort_keys=True)


def _order(run: Run) -> tuple[Any, ...]:
    """Submissions by name; in each the shipped agents in the order of their registry, then the others."""
    names = list(AGENTS)
    agent = run.record.agent
    return run.submission, names.index(agent) if agent in AGENTS else len(names), agent, _key(run)


def _number(known: list[str], text: str) -> int:
    if text not in known:
        known.append(text)
    return known.index(text)
