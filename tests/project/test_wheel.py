"""The built wheel in an environment that holds its core dependencies and nothing else, without network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

from banel_envs import kernel

pytest.importorskip("hatchling")
ROOT = Path(__file__).parents[2]
CORE = ("gymnasium", "numpy", "safetensors")

OFFLINE = """
import socket
def refuse(*args, **kwargs):
    raise OSError("this test has no network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
"""
STEPPING = """
import sys, warnings
import gymnasium as gym, numpy as np
import banel_envs
from banel_envs import TASKS, Oracle, success_rate
from banel_envs.errors import MissingExtra
from banel_envs.policies import Uniform
from banel_envs.tasks import SHIPPED
core = 0
for id in SHIPPED:
    task = TASKS[id]
    problem = task.problem
    try:
        Oracle(task)(problem.check_tokens(np.full((1, problem.T), problem.end or 0)))
    except MissingExtra as missing:
        print("extra", id, missing)
        continue
    env = gym.make("banel_envs:" + id)
    observation, info = env.reset(seed=0)
    for _ in range(problem.T):
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample(info["action_mask"]))
        if terminated:
            break
    assert terminated and env.unwrapped.spent == 1
    assert gym.make_vec("banel_envs:" + id, num_envs=3).reset(seed=0)[0]["tokens"].shape == (3, problem.T)
    try:
        successes = task.successes()
    except banel_envs.errors.BanelError as error:
        print("data", id, error)
        successes = None
    if successes is not None:
        few = Uniform(problem.V, problem.T, problem.end)
        assert success_rate(task, few).method == "exact"
        assert (np.asarray(task.reward(successes[:100])) == 1).all()
        core += 1
assert not {"torch", "sklearn", "rdkit", "pandas", "stable_baselines3"} & set(sys.modules)
try:
    TASKS["banel/AdditionAttack-v0"].problem.base_policy()
except MissingExtra as missing:
    print("base", missing)
print("core tasks", core)
"""
EVALUATING = """
from banel_envs import TASKS, success_rate
from banel_envs.errors import BanelError
from banel_envs.tasks import SHIPPED
done = 0
for id in SHIPPED:
    try:
        if TASKS[id].successes() is None:
            continue
    except BanelError:
        continue
    assert success_rate(TASKS[id], TASKS[id].problem.base_policy()).log10 < -1
    done += 1
print("evaluated", done)
"""


def closure(names):
    """The distributions that these need, themselves included."""
    found = {}
    todo = list(names)
    while todo:
        name = re.split(r"[\s;<>=!\[(~]", todo.pop())[0]
        if name.lower() in found:
            continue
        found[name.lower()] = dist = distribution(name)
        todo += [r for r in dist.requires or [] if "extra ==" not in r and "python_version <" not in r]
    return found.values()


def linked(folder, names):
    """A folder of links to these distributions and what they need: an environment without anything else."""
    folder.mkdir()
    for dist in closure(names):
        for top in {file.parts[0] for file in dist.files or [] if file.parts[0] != ".."} - {"bin", "__pycache__"}:
            if not (folder / top).exists():
                (folder / top).symlink_to(dist.locate_file(top))
    return folder


def run(code, *folders):
    """The code in a Python that sees the standard library and these folders alone."""
    paths = "".join(f"sys.path.append({str(f)!r})\n" for f in folders)
    script = f"import sys\nsys.path[:] = [p for p in sys.path if 'site-packages' not in p]\n{paths}{OFFLINE}{code}"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout


def built(folder, **environment):
    """A wheel of this checkout: its name and its files, unpacked."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT, capture_output=True, text=True, env=os.environ | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder / "unpacked")
    return path.name, folder / "unpacked", done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel's files, unpacked."""
    return built(tmp_path_factory.mktemp("wheel"))[1]


def test_every_core_task_is_made_stepped_and_evaluated(wheel, tmp_path):
    """With gymnasium, numpy and safetensors alone; what needs more says what it needs."""
    said = run(STEPPING, wheel, linked(tmp_path / "core", CORE))
    lines = said.splitlines()
    assert any(line.startswith("base ") and "banel-envs[" in line for line in lines)
    for line in lines:
        if line.startswith("extra "):
            assert re.search(r"pip install 'banel-envs\[\w+\]'", line), line
        if line.startswith("data "):
            assert "BANEL_DATA" in line
    assert int(lines[-1].removeprefix("core tasks ")) >= 10


def test_a_command_without_its_extra_names_it(wheel, tmp_path):
    """One line and exit status 2, for the command and for the builds."""
    core = linked(tmp_path / "core", CORE)
    calls = {
        "banel_leaderboard.command.cli": ["board", "/", "--out", "/tmp/never.md"],
        "banel_envs.build.__main__": ["countdown", "--out", str(tmp_path / "out")],
    }
    for module, arguments in calls.items():
        call = f"import contextlib, io, sys\nfrom {module} import main\nsys.argv = ['x', *{arguments!r}]\n"
        code = (
            call + "said = io.StringIO()\nstatus = None\nwith contextlib.redirect_stderr(said):\n"
            "    try:\n        status = main()\n    except SystemExit as end:\n        status = end.code\n"
            "print(status, said.getvalue())"
        )
        said = run(code, wheel, core)
        assert re.fullmatch(r"2 .*pip install 'banel-envs\[[\w,]+\]'\s*", said), said


def test_with_torch_every_base_policy_is_evaluated(wheel, tmp_path):
    said = run(EVALUATING, wheel, linked(tmp_path / "torch", (*CORE, "torch")))
    assert int(said.split()[-1]) >= 10


def test_the_wheel_holds_what_it_should(wheel):
    files = {p.relative_to(wheel).as_posix(): p.stat().st_size for p in wheel.rglob("*") if p.is_file()}
    tops = {Path(f).parts[0] for f in files if ".dist-info" not in f}
    assert tops == {"banel_envs", "banel_agents", "banel_leaderboard"}
    assert sum(size for f, size in files.items() if f.startswith("banel_envs/assets/")) < 10e6
    assert not any({"tests", "submissions"} & set(Path(f).parts) for f in files)


def test_the_kernel_is_built_where_a_compiler_is(wheel, tmp_path):
    """Into the wheel and, for an editable install, beside its source; else the tests of it would be skipped unseen."""
    sys.path.insert(0, str(ROOT))
    from hatch_build import LIBRARY, compile_kernel

    trouble = compile_kernel(ROOT, tmp_path / "kernel.bin")
    if trouble:
        pytest.skip(trouble)
    assert (wheel / LIBRARY).exists()
    assert kernel.LIBRARY.exists(), "no kernel beside the source; pip install -e . builds it"
    (stated,) = re.findall(r"^Tag: (.*)$|$^", next(wheel.glob("*.dist-info/WHEEL")).read_text(), re.M)[:1]
    assert re.fullmatch(r"py3-none-(?!any)\w+", stated)


def test_without_a_compiler_the_wheel_is_pure(tmp_path):
    name, files, said = built(tmp_path, CC="no-such-compiler")
    assert name.endswith("-py3-none-any.whl")
    assert not (files / "banel_envs/kernel/kernel.bin").exists()
    assert "the kernel was not compiled" in said
