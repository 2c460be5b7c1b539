"""(b) Whether the runs of a submission are those of its suite: every task, seed and regime, and no other.

Each agent of the submission must have the suite's lanes (see sweep.py). A run that met no success, or whose agent reads no
answer, serves the runs after it in its lane. Of an agent that is not shipped nobody imports the code to ask what it learns
from: where successes are withheld it may have the first seed alone, and no twin then.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import product
from typing import TypeAlias

from banel_agents import AGENTS
from banel_envs import TASKS
from banel_envs.errors import AssetError, BadValue, MissingExtra
from banel_envs.files.visible import shown
from banel_envs.tasks import SHIPPED
from banel_leaderboard.records.record import RunRecord
from banel_leaderboard.records.served import serves_all
from banel_leaderboard.submission.metadata import NAME, Submission
from banel_leaderboard.submission.steps.findings import Finding, missing_text
from banel_leaderboard.sweeping.suites import SUITES, Suite
from banel_leaderboard.sweeping.sweep import learns_from_successes, parts_for

Place: TypeAlias = tuple[str, str, str, int]
"""Task, agent, regime and seed of a run. A regime is a feedback or "twin"."""


WITHHELD = {"failures", "typed"}  # feedbacks that withhold successes


def place_of(record: RunRecord) -> Place:
    """Where a run belongs in a suite."""
    return record.task, record.agent, "twin" if record.twin else record.feedback, record.seed


def shown_place(place: Place) -> str:
    """The folder of a run below the submission."""
    task, agent, regime, seed = place
    return f"{task}/{agent}/{regime}/seed-{seed}"


def check_suite(said: Submission, records: Iterable[RunRecord]) -> list[Finding]:
    """What is missing, what is too much, and what submission.json says otherwise than the records."""
    if said.suite not in SUITES:
        return [Finding("b", NAME, "suite", f"{said.suite} is no suite; they are {', '.join(SUITES)}")]
    suite, by_place = SUITES[said.suite], {place_of(record): record for record in records}
    found = _described(said, suite, by_place) + _other_tasks(by_place)
    for agent in sorted({place[1] for place in by_place}):
        found += _agent(agent, suite, said.feedbacks, by_place)
    return found


def _described(said: Submission, suite: Suite, by_place: Mapping[Place, RunRecord]) -> list[Finding]:
    """Findings about feedbacks, kind and single records."""
    found = [
        Finding("b", NAME, "feedbacks", f"the suite {said.suite} has no runs under {feedback}")
        for feedback in said.feedbacks
        if feedback not in feedbacks_of(suite)
    ]
    told = {place[2] for place in by_place} - {"twin"}
    if told - set(said.feedbacks):
        found.append(Finding("b", NAME, "feedbacks", f"{sorted(told)} have runs, and {list(said.feedbacks)} are named"))
    tuned = {shown_place(place) for place, record in by_place.items() if record.tuned}
    if tuned and said.kind == "fixed":
        found.append(Finding("b", NAME, "kind", f"it is fixed, and {missing_text(sorted(tuned))} have other settings"))
    if by_place and not tuned and said.kind == "tuned":
        found.append(Finding("b", NAME, "kind", "it is tuned, and every run has the default settings of its agent"))
    found += _two_defaults(by_place)
    off = [place for place, record in by_place.items() if record.off_board]
    return found + [
        Finding("b", shown_place(place), "off_board", "it has another budget, or inherited answers") for place in off
    ]


def _two_defaults(by_place: Mapping[Place, RunRecord]) -> list[Finding]:
    """An agent has one set of default settings, so two that are both said to be the defaults contradict each other."""
    found: list[Finding] = []
    first: dict[str, tuple[Place, str]] = {}
    for place, record in sorted(by_place.items()):
        config = json.dumps(record.config, sort_keys=True)
        if record.tuned:
            continue
        where, known = first.setdefault(record.agent, (place, config))
        if config != known:
            said = f"{record.agent} has the default settings here and in {shown_place(where)}, and the two differ"
            found.append(Finding("b", shown_place(place), "config", said))
    return found


def _other_tasks(by_place: Mapping[Place, RunRecord]) -> list[Finding]:
    """Findings about runs on other assets than the package has: they are on another task of the same name."""
    found = []
    for place, record in by_place.items():
        if record.task not in SHIPPED:
            continue  # no suite has it, which is said elsewhere
        try:
            here = TASKS[record.task].of_seed(record.seed).digest
        except (AssetError, MissingExtra):  # it needs data or a library that is not here
            continue
        if record.digest != here:
            said = f"it is {shown(record.digest[:12])}; the task of the package has {here[:12]}"
            found.append(Finding("b", shown_place(place), "digest", said))
    return found


def _agent(agent: str, suite: Suite, feedbacks: Iterable[str], by_place: Mapping[Place, RunRecord]) -> list[Finding]:
    """What one agent has too much or too little of."""
    have = {place for place in by_place if place[1] == agent}
    wanted: list[Place] = []
    served: set[Place] = set()
    for lane in _lanes(agent, suite, set(feedbacks), have):
        met_none = False
        for place in lane:
            if met_none and place[2] != "typed":
                served.add(place)
            else:
                wanted.append(place)
            met_none = met_none or (place in by_place and serves_all(by_place[place]))
    found = []
    if missing := [shown_place(place) for place in wanted if place not in have]:
        said = f"{len(missing)} runs of the suite are missing: {missing_text(missing)}; hand in every seed and regime"
        found.append(Finding("b", missing[0], "seed", said))
    tasks, seeds = ({place[k] for place in (*wanted, *served)} for k in (0, 3))
    for place in sorted(have - set(wanted) - served):
        what = "task" if place[0] not in tasks else "seed" if place[3] not in seeds else "feedback"
        found.append(Finding("b", shown_place(place), what, "the suite has no such run; leave it out"))
    return found


def _lanes(agent: str, suite: Suite, feedbacks: set[str], have: set[Place]) -> Iterator[list[Place]]:
    """The lanes that an agent runs in a suite, see sweep.lanes_of."""
    if agent in AGENTS:
        parts, alone = parts_for(suite, agent), learns_from_successes(agent)
    else:
        first = {suite.seeds[0]}
        regimes = {regime for _, _, regime, _ in have}
        alone = "twin" not in regimes and {place[3] for place in have if place[2] in WITHHELD} <= first
        twins = any(part.twins for part in suite.parts) and not alone
        parts = (replace(suite, also=(), twins=(agent,) if twins else ()),)
    for part in parts:
        names = [name for name in part.feedbacks if name in feedbacks] + ["twin"] * (agent in part.twins)
        for task, seed in product(part.tasks, part.seeds):
            left_out = WITHHELD if alone and seed != part.seeds[0] else set()
            yield [(task, agent, regime, seed) for regime in names if regime not in left_out]


def feedbacks_of(suite: Suite) -> set[str]:
    """Every feedback that some part of a suite has."""
    return {feedback for part in suite.parts for feedback in part.feedbacks}


def suite_of(records: list[RunRecord], feedbacks: tuple[str, ...]) -> str:
    """The suite whose runs these are; the one with most tasks if there are several.

    Raises:
        BadValue: they are those of no suite; says what the nearest one lacks.
    """
    by_agent: dict[str, dict[Place, RunRecord]] = defaultdict(dict)
    for record in records:
        by_agent[record.agent][place_of(record)] = record
    faults = {
        name: [f for agent, mine in by_agent.items() for f in _agent(agent, suite, feedbacks, mine)]
        for name, suite in SUITES.items()
        if set(feedbacks) <= feedbacks_of(suite)
    }
    whole = [name for name, found in faults.items() if not found]
    if whole:
        return max(whole, key=lambda name: len(SUITES[name].tasks))
    if not faults:
        raise BadValue(f"no suite has the feedbacks {', '.join(feedbacks)}; name one with --suite")
    tasks = {record.task for record in records}
    nearest = min(faults, key=lambda name: (len(tasks ^ set(SUITES[name].tasks)), len(faults[name])))
    raise BadValue(
        f"the runs are those of no suite; of {nearest}: {faults[nearest][0]}. `banel bench --suite {nearest}` makes what is "
        f"missing, and --suite names another"
    )
