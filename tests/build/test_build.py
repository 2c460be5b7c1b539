"""`python -m banel_envs.build`: what it refuses, and that another instance never lands on what ships."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from banel_envs.assets import FOLDER, VARIABLE, digests, write_digests
from banel_envs.build.__main__ import NAMES, main
from banel_envs.policies import Uniform, save_policy
from banel_envs.tasks import SHIPPED


def refused(capsys, monkeypatch, *arguments):
    """What is said of bad arguments."""
    monkeypatch.setattr(sys, "argv", ["build", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    return capsys.readouterr().err


def test_every_task_with_weights_has_a_build():
    modules = {where.partition(":")[0] for where in SHIPPED.values()}
    made = {m.rpartition(".")[2] for m in modules if "banel_envs.assets" in Path(find_spec(m).origin).read_text()}
    shared = {"molecule_rediscovery": "molecules", "molecule_window": "molecules"}
    assert {shared.get(name, name) for name in made} == set(NAMES)


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
    save_policy(tmp_path / "gaussian1d_base.safetensors", Uniform(10, 3, None))
    write_digests(tmp_path)
    told = "from banel_envs import TASKS, success_rate\nline, dial = TASKS['banel/Gaussian1D-v0'], TASKS['banel/Needle-v0']\n"
    told += "print(line.digest, dial.digest, success_rate(line, line.problem.base_policy()).log10)"
    (shipped, dial, rate), (other, same, uniform) = (asked(told, folder).stdout.split() for folder in (None, tmp_path))
    assert shipped != other and dial == same  # what the instance does not hold is what ships
    assert float(uniform) == pytest.approx(math.log10(24 / 1000)) != pytest.approx(float(rate))
    (tmp_path / "gaussian1d_base.safetensors").write_bytes(b"altered")
    assert "was altered" in (said := asked(told, tmp_path).stderr) and "build the instance again" in said


def test_a_folder_that_holds_no_instance_is_refused(tmp_path):
    said = asked("from banel_envs import TASKS\nTASKS['banel/Ehrlich-v0']", tmp_path / "nowhere").stderr
    assert "AssetError" in said and "nowhere/SHA256SUMS cannot be read" in said and VARIABLE in said
