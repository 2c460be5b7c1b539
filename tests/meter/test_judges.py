"""The versions of the libraries that judge: bound in the ledger, told by the record, and nowhere else."""

from __future__ import annotations

from functools import partial
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pytest

from banel_envs import TASKS, Ledger, Oracle, Problem, Task, task
from banel_envs.errors import BadValue, JudgesDiffer, LedgerMismatch, MissingExtra
from banel_envs.meter.file_reward import answered_by_files
from banel_envs.policies import Uniform
from banel_envs.tasks import SHIPPED
from banel_leaderboard.running.machine import versions

PROBLEM = Problem("test/Judged-v0", ("a", "b"), 3, 20, partial(Uniform, 2, 3, None))
TOKENS = np.array([[0, 1, 0], [1, 1, 1]])
JUDGED = {
    "banel/MoleculeWindow-v0": ("rdkit",),
    "banel/MoleculeWindowHard-v0": ("rdkit",),
    "banel/ZeroToSix-v0": ("scikit-learn",),
}


def hits(tokens):
    return (tokens == 1).all(axis=1).astype(np.int8)


def judged(*judges):
    return Task(PROBLEM, hits, judges=judges)


def installed(monkeypatch, **found):
    """Make these distributions, and no other, the installed ones."""

    def look_up(name):
        if name not in found:
            raise PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(task, "version", look_up)


def test_which_tasks_are_judged_by_a_library():
    assert {id: TASKS[id].judges for id in SHIPPED if TASKS[id].judges} == JUDGED
    assert all(TASKS[id].blind().judges == judges for id, judges in JUDGED.items())


def test_a_ledger_names_the_versions_only_where_there_are_judges(tmp_path, monkeypatch):
    installed(monkeypatch, rdkit="2026.9.1", numpy="2.0")
    plain, other = Oracle(judged()), Oracle(judged("rdkit", "numpy"))
    assert other.ledger.header.pop("judges") == {"rdkit": "2026.9.1", "numpy": "2.0"}
    assert "judges" not in plain.ledger.header and list(plain.ledger.header) == list(other.ledger.header)


def test_the_installed_version_is_bound():
    assert Oracle(judged("numpy")).ledger.header["judges"] == {"numpy": version("numpy")}


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ({"rdkit": "1"}, {"rdkit": "2"}, r"judged by other versions .*\(rdkit 1\) .* \(rdkit 2\); install those"),
        ({}, {"rdkit": "2"}, r"\(none named\) .* \(rdkit 2\)"),
        ({"rdkit": "1"}, {}, r"\(rdkit 1\) .* \(none named\)"),
        ({"rdkit": "1"}, {"rdkit": "1", "numpy": "3"}, r"\(rdkit 1\) .* \(rdkit 1, numpy 3\)"),
    ],
)
def test_a_ledger_judged_by_other_versions_is_not_continued_and_left_alone(
    tmp_path, monkeypatch, before, after, message
):
    path = tmp_path / "l.jsonl"
    installed(monkeypatch, **before)
    oracle = Oracle(judged(*before), ledger=path)
    oracle(TOKENS)
    oracle.close()
    content = path.read_bytes()
    installed(monkeypatch, **after)
    with pytest.raises(JudgesDiffer, match=message) as raised:
        Oracle(judged(*after), ledger=path)(TOKENS)
    assert isinstance(raised.value, LedgerMismatch) and path.read_bytes() == content
    installed(monkeypatch, **before)
    again = Oracle(judged(*before), ledger=path)
    assert again(TOKENS).tolist() == [0, 1]
    again.close()
    assert Ledger.read(path).count == 2


def test_a_judge_that_is_not_installed_costs_nothing(tmp_path, monkeypatch):
    installed(monkeypatch)
    oracle = Oracle(judged("rdkit"), ledger=tmp_path / "l.jsonl")
    with pytest.raises(MissingExtra, match=r"test/Judged-v0 is judged by rdkit, which is not installed"):
        oracle(TOKENS)
    assert oracle.count == 0 and not (tmp_path / "l.jsonl").exists()
    installed(monkeypatch, rdkit="1")
    assert oracle(TOKENS).tolist() == [0, 1]


@pytest.mark.parametrize("judges", ["rdkit", ["rdkit"], (1,), ("",), None])
def test_judges_are_a_tuple_of_names(judges):
    with pytest.raises(BadValue, match=r"test/Judged-v0: judges is .*; it is a tuple of names"):
        Task(PROBLEM, hits, judges=judges)


def test_whoever_answers_by_files_decides_and_not_the_judges(tmp_path):
    assert answered_by_files(judged("rdkit"), tmp_path).judges == ()


def test_records_name_the_libraries_that_judge_where_they_are_installed():
    found = versions()
    for name in ("rdkit", "scikit-learn"):
        pytest.importorskip({"rdkit": "rdkit", "scikit-learn": "sklearn"}[name])
        assert found[name] == version(name)
