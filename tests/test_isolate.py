"""An agent in a process of its own: the same run, and neither task nor oracle to be found there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from banel_envs.errors import AnswersPending
from banel_envs.ledger import Ledger
from banel_envs.oracle import Feedback
from banel_leaderboard import run
from banel_leaderboard.harness import RunFailed
from tests import small
from tests.test_harness import little, only_run

TASK = "tests.small:task"


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """The isolated agent computes with one thread, so this process has to."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("agent", "feedback"),
    [
        ("base", "failures"),
        ("without_replacement", "failures"),
        ("banel", "failures"),
        ("banel", "full"),
        ("ppo", "full"),
    ],
)
def test_the_run_is_the_same(agent: str, feedback: Feedback, tmp_path: Path) -> None:
    inside, apart = (
        run(
            "tests.small:network",
            agent,
            out=tmp_path / name,
            feedback=feedback,
            settings=little(agent),
            isolate=isolate,
        )
        for name, isolate in (("inside", False), ("apart", True))
    )
    a, b = (only_run(tmp_path / name) for name in ("inside", "apart"))
    assert (a / "ledger.jsonl").read_bytes() == (b / "ledger.jsonl").read_bytes()
    assert inside.canonical() == apart.canonical()
    for path in (a / "grid").iterdir():
        assert path.read_bytes() == (b / "grid" / path.name).read_bytes()


def test_a_sampled_success_rate_is_the_same(tmp_path: Path) -> None:
    inside, apart = (
        run("tests.small:unlisted", "tests.small:Unmoved", out=tmp_path / str(isolate), isolate=isolate)
        for isolate in (False, True)
    )
    assert inside.canonical() == apart.canonical()


def test_the_agents_process_holds_no_task(tmp_path: Path) -> None:
    inside, apart = (
        run(TASK, "tests.small:Looks", out=tmp_path / str(isolate), isolate=isolate) for isolate in (False, True)
    )
    assert (
        inside.reported["tasks"][0][1] >= 1 and inside.reported["oracles"][0][1] >= 1
    )  # the probe finds what is there
    assert apart.reported["tasks"][0][1] == apart.reported["oracles"][0][1] == apart.reported["task modules"][0][1] == 0
    assert inside.ledger == apart.ledger  # what it printed stood in no frame's way
    assert apart.reported["input"][0][1] == 0  # nor can it read one


def test_what_an_agent_may_act_on_comes_as_itself(tmp_path: Path) -> None:
    inside, apart = (
        run(TASK, "tests.small:Malformed", out=tmp_path / str(isolate), isolate=isolate) for isolate in (False, True)
    )
    assert apart.reported["bad"][0] == (0, 1.0) and apart.reported["over"][0] == (0, 1.0)
    assert inside.canonical() == apart.canonical()


def test_an_agent_that_raises_there_is_reported_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken").touch()
    with pytest.raises(RunFailed, match="ArithmeticError: the agent lost count"):
        run(TASK, "tests.small:Raises", out=tmp_path, isolate=True)
    folder = only_run(tmp_path)
    assert 'raise ArithmeticError("the agent lost count")' in (folder / "log.txt").read_text()
    assert Ledger.read(folder / "ledger.jsonl").count == 20


def test_an_error_of_the_oracle_ends_the_run_as_itself(tmp_path: Path) -> None:
    with pytest.raises(AnswersPending, match="10 rewards are awaited"):
        run(TASK, "tests.small:Small", out=tmp_path / "out", oracle=f"file:{tmp_path / 'lab'}", wait=0, isolate=True)


def test_the_reward_is_asked_here_alone(tmp_path: Path) -> None:
    before = small.PAID.rows
    run("tests.small:paid", "base", out=tmp_path, settings={"batch": 10}, isolate=True)
    assert small.PAID.rows - before == 60
