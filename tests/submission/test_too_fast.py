"""Step (g): successes that came faster than the declared policies could find them are flagged, and honest luck is not."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from banel_agents.base import AsksFrom, base_network
from banel_envs import Oracle, Problem
from banel_envs.policies import Policy
from banel_leaderboard.proving.load import Proved, Run
from banel_leaderboard.proving.standing import Standing
from banel_leaderboard.records.record import Point, Rate, RunRecord
from banel_leaderboard.running.harness import run as make
from banel_leaderboard.submission.steps.too_fast import (
    LEVEL,
    SLACK,
    check_speed,
    declared,
    first_by_chance,
    number_by_chance,
    together,
)
from tests.shared.runs import make_run

BUDGET = 8000


@pytest.fixture(scope="module")
def shape(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    return make_run(tmp_path_factory.mktemp("one"))


def record(
    shape: RunRecord,
    rate: float,
    first: int | None,
    hits: int,
    asks_from: AsksFrom | None = "yielded",
    seed: int = 0,
    **more: object,
) -> RunRecord:
    """A run of BUDGET questions whose curve is flat at `rate`."""
    exact = Rate(
        log10=math.log10(rate), low=None, high=math.log10(rate), method="exact", samples=0, effective=1.0, zero=False
    )
    points = [Point(nre=k * BUDGET // 16, success=exact, fresh=exact, invalid=None, repeated=None) for k in range(17)]
    changed = {"points": points, "first_success": first, "successes_asked": hits, "asks_from": asks_from, "seed": seed}
    mark = shape.ledger.model_copy(update={"count": BUDGET})
    return shape.model_copy(update=changed | {"agent": "elsewhere", "ledger": mark} | more)


def runs(records: list[RunRecord]) -> list[Run]:
    proved = Proved(Standing.RECOMPUTED, Standing.RECOMPUTED)
    return [Run(f"run{k}", r, "1", asked=None, proved=proved) for k, r in enumerate(records)]  # type: ignore[arg-type]


def test_values_worked_by_hand(shape: RunRecord) -> None:
    honest = record(shape, 1e-5, 250, 3)
    # 250 questions at 1e-5 * 10: 0.025 successes to expect
    assert first_by_chance(honest) == pytest.approx(1 - math.exp(-0.025))
    # 8000 questions: h = 0.8, n = 3: exp(3 - 0.8) (0.8 / 3)^3
    assert number_by_chance(honest) == pytest.approx(math.exp(2.2) * (0.8 / 3) ** 3)
    assert first_by_chance(record(shape, 1e-5, None, 0)) == number_by_chance(record(shape, 1e-5, None, 0)) == 1
    # For an agent that asks nothing twice, of which a tenth of the mass is left: ten times as likely.
    unasked = record(shape, 1e-5, 250, 3, "unasked", unasked=-1.0)
    assert first_by_chance(unasked) == pytest.approx(1 - math.exp(-0.25)) and number_by_chance(unasked) == 1


def test_fisher_against_the_tables() -> None:
    # chi-square with 4 degrees of freedom exceeds 11.983 = -4 log 0.05 with probability 0.0175; with 2 it is the value itself
    assert together([0.05, 0.05]) == pytest.approx(0.0175, abs=1e-4)
    assert together([0.3]) == pytest.approx(0.3) and together([1.0] * 5) == 1


def test_a_rate_that_rises_within_a_stretch_counts_from_its_beginning(shape: RunRecord) -> None:
    flat = record(shape, 1e-5, 100, 1)
    risen = flat.points[1].success.model_copy(update={"log10": -3.0, "high": -3.0})
    points = [flat.points[0], flat.points[1].model_copy(update={"success": risen}), *flat.points[2:]]
    later = flat.model_copy(update={"points": points})
    assert first_by_chance(later) == pytest.approx(1 - math.exp(-100 * SLACK * 1e-3))


@pytest.mark.parametrize("asks_from", ["base", "yielded", "unasked"])
def test_a_searched_reward_is_flagged_and_a_silent_agent_cannot_be(shape: RunRecord, asks_from: AsksFrom) -> None:
    lies = [record(shape, 1e-9, 40, 5000, asks_from, seed) for seed in range(3)]
    found, tested = check_speed(runs(lies))
    assert tested == 3 and {f.step for f in found} == {"g"}
    assert sum(f.field == "first_success" for f in found) == 4  # each run, and the row
    assert sum(f.field == "successes_asked" for f in found) == (0 if asks_from == "unasked" else 3)
    silent = [r.model_copy(update={"asks_from": None}) for r in lies]
    assert check_speed(runs(silent)) == ([], 0)


def test_seeds_that_are_all_a_little_too_fast_are_flagged_together(shape: RunRecord) -> None:
    row = [record(shape, 1e-6, 500, 1, seed=seed) for seed in range(8)]  # 0.005 each
    found, _ = check_speed(runs(row))
    assert [f.field for f in found] == ["first_success"] and "8 seeds" in found[0].said
    assert check_speed(runs(row[:2]))[0] == []


def test_an_old_record_of_a_shipped_agent_has_what_the_registry_says(shape: RunRecord) -> None:
    old = record(shape, 1e-5, 250, 3, None)
    assert declared(old) is None
    assert declared(old.model_copy(update={"agent": "banel"})) == "yielded"
    assert declared(old.model_copy(update={"agent": "base"})) == "base"


def test_honest_runs_are_flagged_no_more_often_than_said(shape: RunRecord) -> None:
    """Without the slack, of 4,000 honest runs at six rates no more fall below a level than the level says."""
    rng = np.random.default_rng(0)
    for rate in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1):
        firsts, numbers = [], []
        for _ in range(700):
            hits = np.flatnonzero(rng.random(BUDGET) < rate)
            first = int(hits[0]) + 1 if len(hits) else None
            honest = record(shape, rate / SLACK, first, len(hits))  # the slack is taken away
            firsts.append(first_by_chance(honest))
            numbers.append(number_by_chance(honest))
        for level in (0.3, 0.1, 0.03):
            allowed = level + 3 * math.sqrt(level / 700)
            assert np.mean(np.array(firsts) < level) <= allowed
            assert np.mean(np.array(numbers) < level) <= allowed
    assert LEVEL == 1e-4


class Cheat:
    """Yields the base policy, says that it asks it, and asks answers that it searched off the meter."""

    name = "cheat"
    asks_from = "yielded"

    @dataclasses.dataclass(frozen=True)
    class Config:
        """Nothing to set."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        from banel_envs import TASKS

        answers = TASKS[problem.id].successes()
        policy = base_network(problem)
        yield policy
        while oracle.left:
            oracle(answers[: min(len(answers), oracle.left, 50)])


def test_who_holds_the_package_and_searches_it_is_flagged(tmp_path: Path) -> None:
    done = make("banel/Countdown-v0", f"{__name__}:Cheat", out=tmp_path)
    assert done.asks_from == "yielded" and done.first_success == 1
    found, tested = check_speed(runs([done]))
    # At the base policy's rate a first success at once is luck of one in hundreds; thousands of them are not.
    assert tested == 1 and [f.field for f in found] == ["successes_asked"]
