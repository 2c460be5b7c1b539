"""Runs that were told types of failure stand on a board of their own, whatever they met."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from banel_envs.problem import FailureType
from banel_leaderboard.board.glossary import REGIMES, board_note, board_title
from banel_leaderboard.board.write import write_markdown, write_page
from banel_leaderboard.records.record import RunRecord
from banel_leaderboard.records.served import serves_all
from banel_leaderboard.records.spec import Spec
from banel_leaderboard.sweeping.sweep import run_lane
from banel_leaderboard.sweeping.workers import Outcome
from tests.shared.boards import boards, rows
from tests.shared.runs import HIT_AT_5, MISS, make_run, tiny


def typed():
    """The tiny task, all of whose failures are of one type."""
    plain = tiny()
    problem = dataclasses.replace(plain.problem, failure_types=(FailureType("wrong", 0, "It is wrong."),))
    return dataclasses.replace(plain, problem=problem, failure_type=lambda tokens: 1 - plain.reward(tokens))


def told(out: Path, agent: str = "base", **options: object) -> RunRecord:
    return make_run(out, agent, feedback="typed", task=typed(), **options)  # type: ignore[arg-type]


def test_no_run_is_shared_with_another_regime(tmp_path: Path) -> None:
    """Not even one without a success, or of an agent that reads no answer."""
    told(tmp_path, "mine", seed=0, ask=MISS)
    told(tmp_path, "mine", seed=1, ask=HIT_AT_5)
    make_run(tmp_path, "other", seed=0, ask=MISS)
    make_run(tmp_path, "full", seed=0, feedback="full", ask=MISS)
    make_run(tmp_path, "base", seed=0, feedback="full", ask=HIT_AT_5)
    made = boards(tmp_path)
    assert set(made) == {("fixed", regime) for regime in ("failures", "full", "typed")}
    assert set(rows(made["fixed", "typed"])) == {"mine"}
    row = rows(made["fixed", "typed"])["mine"]
    assert (len(row.runs), row.rank, row.missing, row.gain) == (2, 1, (), None)
    for regime in ("failures", "full"):
        assert "mine" not in rows(made["fixed", regime])
    assert not serves_all(row.runs[0].record)


def test_a_run_under_another_regime_makes_no_selection(tmp_path: Path) -> None:
    told(tmp_path, "mine", seed=0, ask=HIT_AT_5)
    make_run(tmp_path, "mine", seed=0, ask=MISS)
    make_run(tmp_path, "mine", seed=1, feedback="full", ask=HIT_AT_5)
    made = boards(tmp_path)
    assert rows(made["fixed", "typed"])["mine"].missing == ()
    assert [r.record.feedback for r in rows(made["fixed", "failures"])["mine"].runs] == ["failures"]


def test_the_gain_is_over_the_blind_twin(tmp_path: Path) -> None:
    told(tmp_path, "mine", ask=MISS, good=1.0)
    make_run(tmp_path, "mine", twin=True, ask=MISS, good=0.2)
    gain = rows(boards(tmp_path)["fixed", "typed"])["mine"].gain
    assert gain is not None and gain.value > 0


def test_the_board_says_what_the_regime_is(tmp_path: Path) -> None:
    told(tmp_path, "mine", ask=MISS)
    board = boards(tmp_path)["fixed", "typed"]
    assert board_title(board) == "Default settings, feedback “typed”"
    assert board_note(board).endswith(REGIMES["typed"])  # not that another feedback would have given the same runs
    write_page(tmp_path, tmp_path / "page.html")
    write_markdown(tmp_path, tmp_path / "board.md")
    for name in ("page.html", "board.md"):
        assert "feedback “typed”" in (tmp_path / name).read_text()


class Made:
    """Workers that have made every run already; none met a success."""

    def __init__(self, records: dict[str, RunRecord]) -> None:
        self.records = records

    def finished(self, spec: Spec) -> RunRecord:
        return self.records["twin" if spec.twin else spec.feedback]

    def run(self, spec: Spec) -> Outcome:
        raise AssertionError("all are finished")


def test_a_lane_serves_no_typed_run_and_is_served_by_none(tmp_path: Path) -> None:
    records = {"full": make_run(tmp_path, feedback="full", ask=MISS), "typed": told(tmp_path, ask=MISS)}
    records |= {"failures": make_run(tmp_path, ask=MISS), "twin": make_run(tmp_path, twin=True, ask=MISS)}
    kinds = [("typed", False), ("full", False), ("failures", False), ("typed", False), ("failures", True)]
    lane = tuple(Spec(task="t", agent="a", feedback=f, twin=twin) for f, twin in kinds)  # type: ignore[arg-type]
    outcomes = list(run_lane(lane, Made(records)))  # type: ignore[arg-type]
    assert [outcome.status for outcome in outcomes] == ["kept", "kept", "served", "kept", "served"]
