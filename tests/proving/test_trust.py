"""What a liar may try, and what becomes of it: names that reach code, invented answers, typed rates."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from banel_envs import TASKS
from banel_envs.errors import BadValue
from banel_envs.policies import Mixture, load_policy_file
from banel_envs.policies.composed.filtered import Filtered
from banel_leaderboard import run
from banel_leaderboard.command.cli import main
from banel_leaderboard.proving import cache
from banel_leaderboard.proving.load import load_runs
from banel_leaderboard.proving.rates import Disproved
from banel_leaderboard.proving.recompute import (
    check_answers,
    check_package_facts,
    check_rates,
    recorded_task,
)
from banel_leaderboard.proving.replay import prove
from banel_leaderboard.proving.shares import check_shares
from banel_leaderboard.proving.standing import attest
from banel_leaderboard.records.record import RecordError
from banel_leaderboard.running.evaluator import Questions
from banel_leaderboard.running.lookup import CannotTell, Known, own_code
from benchmarks.forgeries.forging import Forged
from tests.proving.forged import NETWORK, SMALL, TASK, forged, one_answer, parts
from tests.shared.small import only_run

# Names in files


@pytest.mark.parametrize("name", ["evil_module:thing", "os:abort", "evil_module", "tests.shared.small:network"])
@pytest.mark.parametrize("field", ["task", "agent"])
@pytest.mark.parametrize("bound", [False, True])
def test_a_name_in_a_file_never_reaches_code(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, name: str, bound: bool
) -> None:
    """Whether run.json says it, which is not read, or the record and the ledger do."""
    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    change: Any = (lambda f: f.bind(**{field: name})) if bound else (lambda f: f.status.update({field: name}))
    folder = forged(shipped, tmp_path / "run", change)
    codes = [main(a) for a in (["replay", "run"], ["show", "run", "-n", "1"], ["board", "run", "--out", "page.md"])]
    a_name = field == "agent" and name == "evil_module"  # the others are no names that a record may hold
    refused = bound and not a_name
    assert codes == [0 if not bound else 3 if a_name else 1, 2 if refused else 0, int(refused)]
    assert "evil_module" not in sys.modules
    if bound:
        with pytest.raises(CannotTell if a_name else RecordError, match=r"--agent module:Class|should match pattern"):
            prove(folder)
    else:
        prove(folder)


def test_code_of_ones_own_is_named_on_the_command_line_and_stands_for_its_own_name_only(
    mine: Path, known: Known
) -> None:
    with pytest.raises(CannotTell, match="'test/Network-v0' is not registered here; name its code with --task"):
        prove(mine)
    assert prove(mine, known).answers is None
    with pytest.raises(CannotTell, match="the agent 'small' does not ship here"):
        prove(mine, own_code([NETWORK]))
    with pytest.raises(BadValue, match="agent 'base' ships with the package"):
        own_code(agents=["banel_agents.controls.sampling:Base"])


def test_no_module_of_the_working_folder_stands_in_for_an_installed_one(shipped: Path, tmp_path: Path) -> None:
    """In the command, in its workers, in an isolated agent's process and in a pool of replays."""
    for name in ("pydantic", "numpy", "json", "multiprocessing", "banel_agents", "torch"):
        (tmp_path / f"{name}.py").write_text(f"open('{name}.imported', 'w')")
    runs = tmp_path / "runs"
    for k in range(2):
        shutil.copytree(shipped, runs / str(k))
    program = Path(sys.executable).with_name("banel")
    for arguments in (
        ["replay", "runs", "--jobs", "2"],
        ["run", "--task", TASK, "--agent", "base", "--budget", "20", "--isolate", "--out", "out"],
    ):
        done = subprocess.run([program, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
    assert not list(tmp_path.glob("*.imported"))


# Answers


def _invent(f: Forged) -> None:
    for _, rewards in f.asks:
        rewards[:] = np.arange(len(rewards)) % 7 == 0


@pytest.mark.parametrize("lie", [_invent, one_answer])
def test_answers_that_are_not_the_tasks_are_disproved(
    shipped: Path, tmp_path: Path, lie: Callable[[Forged], None]
) -> None:
    folder = forged(shipped, tmp_path / "run", lie)
    with pytest.raises(
        Disproved, match=r"the answer at NRE \d+ \(question \d+\) is \d in the ledger; the reward of '.*' is"
    ):
        prove(folder)
    (refused,) = load_runs(tmp_path).refused
    assert "in the ledger; the reward of" in refused.reason


def test_a_twin_was_told_failure_and_nothing_else(tmp_path: Path) -> None:
    run(NETWORK, SMALL, 0, out=tmp_path, twin=True)
    record, ledger = parts(only_run(tmp_path))
    known = own_code([NETWORK], [SMALL])
    task = recorded_task(record, ledger, known)
    check_answers(record, ledger, task)
    with pytest.raises(Disproved, match="is 0 in the ledger"):
        check_answers(record.model_copy(update={"twin": False}), ledger, task)


def test_real_valued_answers_are_compared_as_they_are(tmp_path: Path) -> None:
    run("tests.shared.small:graded", SMALL, 0, out=tmp_path)
    known = own_code(["tests.shared.small:graded"], [SMALL])
    record, ledger = parts(only_run(tmp_path))
    check_answers(record, ledger, recorded_task(record, ledger, known))
    values = ledger.asks[0].values
    assert values is not None
    values[0] += 1e-9
    with pytest.raises(Disproved, match="1 answers are wrong"):
        check_answers(record, ledger, recorded_task(record, ledger, known))


def test_where_other_versions_judged_nothing_is_disproved(mine: Path, known: Known) -> None:
    record, ledger = parts(mine)
    task = dataclasses.replace(recorded_task(record, ledger, known), judges=("numpy",))
    with pytest.raises(CannotTell, match="libraries of unknown versions; here is numpy"):
        check_answers(record, ledger, task)
    ledger.header["judges"] = {"numpy": "0.1"}
    with pytest.raises(CannotTell, match=r"judged with numpy 0\.1; here is numpy"):
        check_answers(record, ledger, task)
    ledger.header["judges"] = {"numpy": np.__version__}
    check_answers(record, ledger, task)


def test_checked_answers_are_kept_by_the_files_bytes(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    task = TASKS[TASK]
    counting = dataclasses.replace(task, reward=lambda tokens: asked.append(len(tokens)) or task.reward(tokens))
    monkeypatch.setitem(TASKS._built, TASK, counting)
    for _ in range(2):
        record, ledger = parts(shipped)
        check_answers(record, ledger, recorded_task(record, ledger, Known()))
    assert asked == [60]
    folder = forged(shipped, tmp_path / "run", one_answer)  # another line, so other bytes
    record, ledger = parts(folder)
    for _ in range(2):  # a failed check is never kept
        with pytest.raises(Disproved):
            check_answers(record, ledger, recorded_task(record, ledger, Known()))
    assert asked == [60, 60, 60]
    monkeypatch.setenv(cache.VARIABLE, "off")
    record, ledger = parts(shipped)
    check_answers(record, ledger, recorded_task(record, ledger, Known()))
    assert asked == [60] * 4


@pytest.mark.parametrize("harm", ["a file", "no database"])
def test_a_cache_that_cannot_be_used_costs_nothing_but_time(
    harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    if harm == "a file":
        place.write_text("")
    else:
        place.mkdir()
        (place / "verified.sqlite").write_bytes(b"not a database" * 100)
    monkeypatch.setenv(cache.VARIABLE, str(place))
    cache.note("a")
    assert not cache.passed("a")


def test_shares_that_passed_are_not_taken_for_other_shares(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record, ledger = parts(shipped)
    task = TASKS[record.task]
    check_shares(record, ledger, task)
    with monkeypatch.context() as patched:
        patched.setattr(Questions, "of", None)  # what passed is not computed again
        check_shares(record, ledger, task)
    points = [p.model_copy(update={"repeated": 0.5} if k == 1 else {}) for k, p in enumerate(record.points)]
    with pytest.raises(Disproved, match=r"points\.1\.repeated is 0\.5 in the record"):
        check_shares(record.model_copy(update={"points": points}), ledger, task)


# Rates, and the package's facts


def test_final_rates_are_recomputed_from_the_stored_policy(mine: Path, known: Known, tmp_path: Path) -> None:
    record, ledger = parts(mine)
    task = recorded_task(record, ledger, known)
    check_rates(record, ledger, task, mine)
    for lie, says in (
        (lambda f: f.claim(-0.01, "success"), r"final success is 10\^-0\.010000.* in the record, recomputed 10\^"),
        (lambda f: f.claim(-np.inf, "fresh"), "final fresh is zero"),
        (lambda f: f.record["points"][-1]["success"].update(effective=40.0), "on 40 successes in the record"),
        (
            lambda f: f.record.update(unasked=-0.7),
            r"10\^-0\.700000 of the final policy is unasked in the record, recomputed",
        ),
        (lambda f: setattr(f, "policy", (f.policy or b"") + b" "), "policy_sha256 is"),
    ):
        folder = forged(mine, tmp_path / says[:9].replace("/", "") / str(len(list(tmp_path.iterdir()))), lie)
        record, ledger = parts(folder)
        with pytest.raises(Disproved, match=says):
            check_rates(record, ledger, task, folder)
    for lie, says in (
        (lambda f: f.record.update(policy_sha256=None), "has no stored form"),
        (lambda f: setattr(f, "policy", None), "is not in the folder"),
    ):
        folder = forged(mine, tmp_path / says[:5], lie)
        with pytest.raises(CannotTell, match=says):
            check_rates(*parts(folder), task, folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"off_board": False}, "off_board is False in the record; the budget and the ledger make it True"),
        ({"tuned": True}, "tuned is True in the record"),
        ({"config": {"batch": 7}}, "tuned is False in the record; beside the agent's default settings it is True"),
        ({"config": {"batch": 500.0}}, "the agent writes these settings as {'batch': 500}|it must be a whole number"),
        ({"budget": 61}, "a budget of 61 is measured at"),
    ],
)
def test_what_the_package_decides_is_not_taken_from_the_record(
    shipped: Path, change: dict[str, Any], says: str
) -> None:
    record, _ = parts(shipped)
    check_package_facts(record, Known())
    with pytest.raises((Disproved, BadValue), match=says):
        check_package_facts(record.model_copy(update=change), Known())


def test_settings_that_are_none_of_the_agents_are_refused(shipped: Path) -> None:
    record, _ = parts(shipped)
    with pytest.raises(BadValue, match="no setting 'luck'"):
        check_package_facts(record.model_copy(update={"config": {"luck": 1}, "tuned": True}), Known())


@pytest.mark.parametrize(("name", "value"), [("vocabulary", 11), ("horizon", 4)])
def test_a_ledger_of_other_sequences_is_disproved(shipped: Path, name: str, value: int) -> None:
    record, ledger = parts(shipped)
    ledger.header[name] = value
    with pytest.raises(Disproved, match=f"{name} is {value} in the ledger"):
        recorded_task(record, ledger, Known())


# What an attacker of our own found


def test_tokens_that_no_oracle_takes_are_disproved_and_the_other_runs_stay(shipped: Path, tmp_path: Path) -> None:
    """Outside the vocabulary but within its bits, and after the end token."""

    def beyond(f: Forged) -> None:
        f.asks[0][0][0, 0] = 15  # Gaussian1D has 10 tokens, in 4 bits

    shutil.copytree(shipped, tmp_path / "honest")
    folder = forged(shipped, tmp_path / "forged", lambda f: (beyond(f), f.bind(seed=1)))
    loaded = load_runs(tmp_path)
    assert [r.path for r in loaded.runs] == ["honest"]
    assert "are no sequences of banel/Gaussian1D-v0: token 15" in loaded.refused[0].reason
    with pytest.raises(Disproved, match="token 15"):
        prove(folder)


@pytest.mark.parametrize("wrap", [False, True])
def test_a_filtered_policy_inside_another_is_no_probability(
    wrap: bool, mine: Path, known: Known, tmp_path: Path
) -> None:
    """Each level passes everything and claims a third: k levels would claim 3^k times the rate."""

    def nested(f: Forged) -> None:
        (tmp_path / "old").write_bytes(f.policy or b"")
        inner: Any = load_policy_file(tmp_path / "old")
        f.use(Mixture([Filtered(inner, [], [], 3, 1)]) if wrap else Filtered(inner, [], [], 3, 1), tmp_path / "new")

    folder = forged(mine, tmp_path / "run", nested)
    record, ledger = parts(folder)
    with pytest.raises(Disproved, match="stands inside a Mixture" if wrap else "rests on 3 proposals"):
        check_rates(record, ledger, recorded_task(record, ledger, known), folder)


def test_a_number_inside_a_typed_interval_is_compared_too(tmp_path: Path) -> None:
    run("tests.shared.small:unlisted", SMALL, 0, out=tmp_path / "out")
    honest, known = only_run(tmp_path / "out"), own_code(["tests.shared.small:unlisted"], [SMALL])
    record, ledger = parts(honest)
    check_rates(record, ledger, recorded_task(record, ledger, known), honest)

    def wide(f: Forged) -> None:
        for rate in ("success", "fresh"):
            f.record["points"][-1][rate].update(log10=-0.0001, low=-9.0, high=0.0)

    folder = forged(honest, tmp_path / "wide", wide)
    with pytest.raises(CannotTell, match="too far apart"):
        check_rates(*parts(folder), recorded_task(record, ledger, known), folder)


def test_a_policy_swapped_under_an_honest_record_is_found_by_replay_and_board(
    mine: Path, known: Known, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(mine, out / "run")
    note = attest(prove(mine, known).record)
    (out / "run" / "final.safetensors").write_bytes((mine / "final.safetensors").read_bytes() + b" ")
    with pytest.raises(Disproved, match="policy_sha256"):
        prove(out / "run", known)
    assert "policy_sha256" in load_runs(out, known, [note]).refused[0].reason


def test_a_copy_that_proves_less_does_not_take_a_runs_place(mine: Path, known: Known, tmp_path: Path) -> None:
    shutil.copytree(mine, tmp_path / "z-honest")

    def typed(f: Forged) -> None:
        f.policy, f.record["policy_sha256"] = None, None

    forged(mine, tmp_path / "a-copy", typed)
    loaded = load_runs(tmp_path, known)
    assert [r.path for r in loaded.runs] == ["z-honest"] and loaded.refused[0].path == "a-copy"


def test_inherited_answers_are_not_hidden(mine: Path, known: Known, tmp_path: Path) -> None:
    forged(mine, tmp_path / "run", lambda f: f.header.update(inherits="a" * 64))
    assert "inherits is None in the record" in load_runs(tmp_path, known).refused[0].reason
