"""`python -m banel_envs.build`: what it refuses, and that another instance never lands on what ships."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from banel_envs.assets import FOLDER, VARIABLE, digests
from banel_envs.build.__main__ import NAMES, build, main
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


def asked(code: str, instance: Path | str | None) -> subprocess.CompletedProcess[str]:
    """What a process of its own prints, BANEL_ASSETS set or not."""
    env = {name: value for name, value in os.environ.items() if name != VARIABLE}
    env |= {} if instance is None else {VARIABLE: str(instance)}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)


def test_an_instance_stands_in_for_what_ships_and_is_told_apart(tmp_path):
    build("ehrlich", tmp_path, None, 2)
    told = "from banel_envs import TASKS, success_rate as r\nfor name in ('Ehrlich', 'Needle'):\n"
    told += "    t = TASKS[f'banel/{name}-v0']\n    print(t.digest, r(t, t.problem.base_policy()).log10)"
    shipped, other = (asked(told, instance).stdout.split() for instance in (None, tmp_path))
    assert len(shipped) == len(other) == 4
    assert shipped[0] != other[0] and shipped[1] != other[1]
    assert -4.5 < float(other[1]) < -3.5
    assert shipped[2:] == other[2:]  # what the instance does not hold is what ships
    (tmp_path / "ehrlich_base_v0.safetensors").write_bytes(b"altered")
    assert "was altered" in (said := asked(told, tmp_path).stderr) and "build the instance again" in said


def test_a_folder_that_holds_no_instance_is_refused(tmp_path):
    said = asked("from banel_envs import TASKS\nTASKS['banel/Ehrlich-v0']", tmp_path / "nowhere").stderr
    assert "AssetError" in said and "nowhere/SHA256SUMS cannot be read" in said and VARIABLE in said
