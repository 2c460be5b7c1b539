"""Types of failure in a run's ledger are recomputed: a forged one is refused, and a twin has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from banel_envs import Ledger
from banel_envs.errors import BadValue, LedgerCorrupt
from banel_leaderboard import run
from banel_leaderboard.proving.load import how_far, load_runs
from banel_leaderboard.proving.rates import Disproved
from banel_leaderboard.proving.replay import prove
from banel_leaderboard.proving.standing import Standing
from banel_leaderboard.records.spec import Spec
from banel_leaderboard.records.verify import RunRefused, verify
from banel_leaderboard.running.harness import execute
from banel_leaderboard.running.lookup import Known
from tests.proving.forged import forged, parts
from tests.shared.small import only_run

TASK, BUDGET = "banel/Proof-v0", 120
SETTINGS = {"batch": 40, "pool": 200}


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the agent that learns from types; nobody writes into it."""
    out = tmp_path_factory.mktemp("typed")
    run(TASK, "typed_banel", 3, out=out, budget=BUDGET, feedback="typed", settings=SETTINGS)
    return only_run(out)


def test_an_honest_run_is_recomputed_and_replayed(typed: Path) -> None:
    record, ledger = parts(typed)
    assert record.feedback == "typed" and typed.parent.name == "typed"
    types = np.concatenate([ask.types for ask in ledger.asks if ask.types is not None])
    assert len(types) == BUDGET and len(np.unique(types)) > 2
    assert how_far(record, ledger, typed, Known()).answers == Standing.RECOMPUTED
    assert prove(typed).answers is None


def test_a_forged_type_is_disproved(typed: Path, tmp_path: Path) -> None:
    def change(run: object) -> None:
        types = run.types[1]  # type: ignore[attr-defined]
        types[0] = types[0] % 15 + 1

    copy = forged(typed, tmp_path / "copy", change)
    record, ledger = parts(copy)
    for check in (lambda: how_far(record, ledger, copy, Known()), lambda: prove(copy)):
        with pytest.raises(Disproved, match=r"the type at NRE 41 is .* in the ledger; that of .* 1 types are wrong"):
            check()


def test_a_run_of_another_feedback_does_not_pass_for_typed(typed: Path, tmp_path: Path) -> None:
    without = forged(typed, tmp_path / "without", lambda run: run.types.__setitem__(slice(None), [None] * 3))
    with pytest.raises(LedgerCorrupt, match="it has no types"):
        Ledger.read(without / "ledger.jsonl")
    told = forged(typed, tmp_path / "told", lambda run: run.bind(feedback="failures"))
    with pytest.raises(LedgerCorrupt, match="it has types"):
        Ledger.read(told / "ledger.jsonl")
    loaded = load_runs(tmp_path)
    assert not loaded.runs and len(loaded.refused) == 2


def test_types_of_a_task_that_tells_none_are_disproved(tmp_path: Path) -> None:
    run("banel/Gaussian1D-v0", "base", 0, out=tmp_path / "runs", budget=60, feedback="failures", settings={"batch": 60})
    honest = only_run(tmp_path / "runs")

    def change(run: object) -> None:
        run.bind(feedback="typed")  # type: ignore[attr-defined]
        run.types[:] = [1 - rewards for _, rewards in run.asks]  # type: ignore[attr-defined]

    copy = forged(honest, tmp_path / "copy", change)
    with pytest.raises(Disproved, match="tells no types"):
        prove(copy)


def test_a_twin_is_told_no_types(typed: Path, tmp_path: Path) -> None:
    with pytest.raises(BadValue, match="no types either"):
        execute(Spec(task=TASK, agent="base", feedback="typed", twin=True), tmp_path)
    copy = forged(typed, tmp_path / "copy", lambda run: run.bind(twin=True))
    record, ledger = parts(copy)
    if record.successes_asked == 0:  # else the successes refuse it before
        with pytest.raises(RunRefused, match="told types"):
            verify(record, ledger)
    run(TASK, "typed_banel", 3, out=tmp_path / "twin", budget=BUDGET, twin=True, settings=SETTINGS)
    twin = Ledger.read(only_run(tmp_path / "twin") / "ledger.jsonl")
    assert all(ask.types is None for ask in twin.asks)


def test_a_task_without_types_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(BadValue, match="does not say why"):
        run("banel/Gaussian1D-v0", "base", 0, out=tmp_path, budget=60, feedback="typed")
    assert not list(tmp_path.rglob("ledger.jsonl"))
