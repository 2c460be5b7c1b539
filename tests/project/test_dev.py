"""dev.py: it installs once, and says in one line what is in its way. The checks of .ci/checks.py find what they look for."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def load(path):
    """A script as a module of its own, so that what a test changes in it is gone after the test."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def dev(monkeypatch, tmp_path):
    """dev.py on a checkout of its own, with pip and the environment's Python replaced by notes of what was called."""
    module = load(ROOT / "dev.py")
    for name in ("ROOT", "VENV", "LOG", "STAMP"):
        place = getattr(module, name)
        monkeypatch.setattr(module, name, tmp_path / place.relative_to(ROOT))
    for name in (*module.DEPENDS_ON, "banel_envs/kernel/a.c"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / ".venv").mkdir()
    module.calls, module.status, module.said = [], 0, ""

    def run(command, **options):
        module.calls.append([str(part) for part in command])
        if options.get("stdout") not in (None, subprocess.PIPE, subprocess.DEVNULL):
            options["stdout"].write(module.said)
        return subprocess.CompletedProcess(command, module.status, module.said)

    monkeypatch.setattr(module.subprocess, "run", run)
    monkeypatch.setattr(module, "works", lambda: True)
    return module


def test_it_installs_once(dev):
    dev.install("dev")
    assert ".[dev]" in dev.calls[-1] and "constraints.txt" in dev.calls[-1]
    before = len(dev.calls)
    dev.install("dev")
    dev.install("all")  # which `dev` includes
    assert len(dev.calls) == before
    dev.install("docs")
    assert ".[dev,docs]" in dev.calls[-1]  # what stands there stays up to date with it


@pytest.mark.parametrize(
    "name", ["pyproject.toml", "constraints.txt", "banel_envs/version.py", "banel_envs/kernel/a.c"]
)
def test_it_installs_again_after_a_change(dev, name):
    dev.install("dev")
    before = len(dev.calls)
    (dev.ROOT / name).write_text("changed")
    dev.install("dev")
    assert len(dev.calls) == before + 1


@pytest.mark.parametrize("stamp", ["", "{", "[]", '{"extras": ["dev"]}', '{"extras": 1, "fingerprint": "x"}'])
def test_a_damaged_stamp_installs_again(dev, stamp):
    dev.STAMP.write_text(stamp)
    dev.install("dev")
    assert len(dev.calls) == 1
    assert json.loads(dev.STAMP.read_text())["extras"] == ["dev"]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("WARNING: Retrying: NewConnectionError(...)\nERROR: No matching distribution", "is there a network"),
        ("ERROR: Could not find a version that satisfies x (from versions: none)", "is there a network"),
        ("ERROR: [Errno 28] No space left on device", "disk is full"),
        ("Collecting x\nERROR: ResolutionImpossible\n\nhint", "pip failed: ERROR: ResolutionImpossible"),
        ("", "it printed nothing"),
    ],
)
def test_a_failed_installation_is_one_line_and_leaves_no_stamp(dev, said, expected, capsys):
    dev.install("dev")
    (dev.ROOT / "pyproject.toml").write_text("changed")
    dev.status, dev.said = 1, said
    with pytest.raises(dev.Trouble, match=re.escape(expected)) as caught:
        dev.install("dev")
    assert "\n" not in str(caught.value)
    assert not dev.STAMP.exists()


@pytest.mark.parametrize("missing", ["venv", "ensurepip"])
def test_a_python_without_venv_is_told_what_brings_it(dev, monkeypatch, missing):
    monkeypatch.setattr(dev, "works", lambda: False)
    monkeypatch.setattr(dev.importlib.util, "find_spec", lambda name: None if name == missing else object())
    with pytest.raises(dev.Trouble, match=f"lacks the module {missing}.*python3-venv"):
        dev.make_environment()
    assert dev.calls == []


def test_an_old_python_is_told_in_one_line():
    code = f"import runpy, sys; sys.version_info = (3, 9, 1); runpy.run_path({str(ROOT / 'dev.py')!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert re.fullmatch(r"dev.py: this is Python 3\.9\.1, .* 3\.11 .*\n", done.stderr), done.stderr


def test_dev_parses_under_an_older_python():
    """The version check is of no use where the file does not compile."""
    import ast

    ast.parse((ROOT / "dev.py").read_text(), feature_version=(3, 7))


def test_test_passes_arguments_on_and_the_others_take_none(dev, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["dev.py", "test", "-m", "slow", "tests/test_x.py", "-k", "a or b"])
    assert dev.main() == 0
    assert dev.calls[-1][1:] == ["-m", "pytest", "-m", "slow", "tests/test_x.py", "-k", "a or b"]
    monkeypatch.setattr(sys, "argv", ["dev.py", "lint", "tests"])
    with pytest.raises(SystemExit) as caught:
        dev.main()
    assert caught.value.code == 2


def test_a_step_that_fails_ends_it(dev, monkeypatch):
    dev.install("dev")
    dev.status = 3
    monkeypatch.setattr(sys, "argv", ["dev.py", "lint"])
    with pytest.raises(SystemExit) as caught:
        dev.main()
    assert caught.value.code == 3
    assert sum("pip" not in call for call in dev.calls) == 1  # the steps after it were not run


WITHOUT = """
import os, sys
del os.EX_TEMPFAIL
sys.modules["resource"] = sys.modules["fcntl"] = None
import banel_leaderboard.running.isolation_agent, banel_leaderboard.sweeping.sweep, banel_leaderboard.sweeping.worker
from banel_leaderboard import run
print(run("banel/Gaussian1D-v0", "base", budget=30, out=sys.argv[1]).ledger.count)
"""


@pytest.mark.skipif(not hasattr(os, "EX_TEMPFAIL"), reason="nothing has to be taken away")
def test_runs_need_nothing_that_windows_lacks(tmp_path):
    """As far as another system can tell: without the names and modules that Python has on POSIX alone."""
    done = subprocess.run([sys.executable, "-c", WITHOUT, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["30"]


def test_readme_has_the_two_commands():
    text = (ROOT / "README.md").read_text()
    block = text.partition("<!-- commands -->\n```bash\n")[2].partition("```")[0]
    commands = load(ROOT / "dev.py").COMMANDS
    assert [re.fullmatch(r"python3 dev\.py (\w+)", line)[1] in commands for line in block.splitlines()] == [True, True]


PIECES = {
    "banel_envs/version.py": '__version__ = "1.0"\n',
    "agents/banel_agents/x.py": "",
    "leaderboard/banel_leaderboard/x.py": "",
    "pyproject.toml": "[project]\ndependencies = ['a>=1']\n[project.optional-dependencies]\nx = ['banel-envs[y]', 'B_c[z]>2']\n",
    "constraints.txt": "# pins\na==1\nb-c==3\n",
    "CITATION.cff": "version: 1.0\n",
    "README.md": "[this](README.md#x) [there](https://example.org)\n",
    "docs/a.md": "[up](../README.md)",
}
FAULTS = {
    "check_modules": ("banel_envs/version.py", '__version__ = "1.0"\n' + "x = 1\n" * 400),
    "check_modules ": ("agents/banel_agents/x.py", "def f():\n" + "    x = 1\n" * 80),
    "check_modules  ": ("agents/banel_agents/x.py", "def f():\n    from pickle import loads\n"),
    "check_modules   ": ("leaderboard/banel_leaderboard/x.py", "import os, marshal\n"),
    "check_unfinished": ("agents/banel_agents/x.py", "x = 1  # TO" + "DO: more\n"),
    "check_links": ("docs/a.md", "[gone](b.md)"),
    "check_pins": ("constraints.txt", "a==1\n"),
    "check_citation": ("CITATION.cff", "version: 1.1\n"),
}


@pytest.mark.parametrize("fault", [None, *FAULTS])
def test_the_projects_own_checks(tmp_path, monkeypatch, fault):
    checks = load(ROOT / ".ci" / "checks.py")
    monkeypatch.setattr(checks, "ROOT", tmp_path)
    for name, text in (PIECES | (dict([FAULTS[fault]]) if fault else {})).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    names = ("check_modules", "check_unfinished", "check_links", "check_pins", "check_citation")
    found = {name: list(getattr(checks, name)()) for name in names}
    assert {name for name, faults in found.items() if faults} == ({fault.strip()} if fault else set())
    assert checks.main() == (1 if fault else 0)
