"""`python -m banel_envs.build`: what it refuses, and that another instance never lands on what ships."""

from __future__ import annotations

import sys

import pytest

from banel_envs.assets import FOLDER, digests
from banel_envs.build.__main__ import NAMES, main
from banel_envs.tasks import SHIPPED


def refused(capsys, monkeypatch, *arguments):
    """What is said of bad arguments."""
    monkeypatch.setattr(sys, "argv", ["build", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    return capsys.readouterr().err


def test_every_task_has_a_build():
    modules = {where.partition(":")[0].rpartition(".")[2] for where in SHIPPED.values()}
    shared = {"molecule_rediscovery": "molecules", "molecule_window": "molecules"}
    assert {shared.get(m, m) for m in modules} == set(NAMES)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nonsense",), "invalid choice"),
        (("countdown", "--instance", "-1"), "at least 0"),
        (("countdown", "--instance", "3"), "give --out DIR"),
        (("countdown", "--out", "/proc/x"), "/proc/x"),
        (("molecules", "--out", "OUT"), "zinc250k"),
        (("zero_to_six_mnist", "--out", "OUT"), "mnist"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_built(arguments, says, tmp_path, capsys, monkeypatch):
    before = {name: (FOLDER / name).stat().st_mtime_ns for name in digests()}
    monkeypatch.delenv("BANEL_DATA", raising=False)
    said = refused(capsys, monkeypatch, *(str(tmp_path / "x") if a == "OUT" else a for a in arguments))
    assert says in said and "Traceback" not in said
    assert {name: (FOLDER / name).stat().st_mtime_ns for name in digests()} == before
