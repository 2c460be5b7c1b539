"""One program, run on every way to compute that there is here: the same samples, scores, losses and weights to the bit."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from banel_envs import kernel
from benchmarks.portability import OLD, compile_to
from tests.kernel.nets import compiled_here

pytestmark = compiled_here
ROOT = Path(__file__).parents[2]
RATE = 1e-9  # the rates are sums of NumPy's exp; a replay allows the same


def output(library=None, variables=None):
    """What tests/kernel/program.py prints in a process of its own."""
    command = [sys.executable, "-m", "tests.kernel.program", *([str(library)] if library else [])]
    paths = [str(ROOT), *(p for p in sys.path if p)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | (variables or {})
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def expected():
    found = output()
    assert len(found) == len(set(map(str, found.values()))) == 37  # nothing is constant
    return found


def check(found, expected):
    rates = [name for name in expected if name.endswith("rates")]
    assert {name: value for name, value in found.items() if name not in rates} == {
        name: value for name, value in expected.items() if name not in rates
    }
    for name in rates:
        assert found[name] == pytest.approx(expected[name], rel=RATE, abs=RATE)


def test_without_the_instructions_that_newer_processors_have(expected):
    check(output(variables=OLD), expected)


def test_the_comparison_sees_another_arithmetic(expected):
    """PyTorch's last bits are others; what it samples is the same here."""
    with pytest.raises(AssertionError):
        check(output(variables={"BANEL_KERNEL": "torch"}), expected)


GCC, CLANG = "gcc", "clang or zig"
slow = pytest.mark.slow
BUILDS = [
    (GCC, ("-O1", "-DBANEL_MOST_LANES=4")),
    pytest.param(GCC, ("-O2", "-DBANEL_MOST_LANES=8"), marks=slow),
    pytest.param(GCC, ("-O1", "-DBANEL_HALVES"), marks=slow),
    pytest.param(CLANG, ("-O2", "-DBANEL_MOST_LANES=8"), marks=slow),
    pytest.param(CLANG, ("-O3", "-DBANEL_MOST_LANES=4"), marks=slow),
]


def command_of(compiler):
    """The command of a compiler; skips where it is not installed."""
    if compiler == GCC:
        command = next(filter(shutil.which, ("gcc", "cc")), None)
    elif shutil.which("clang"):
        command = "clang"
    else:
        command = f"{sys.executable} -m ziglang cc" if importlib.util.find_spec("ziglang") else None
    return command or pytest.skip(f"no {compiler} is installed here")


@pytest.mark.parametrize(("compiler", "flags"), BUILDS, ids=str)
def test_kernels_of_other_compilers_levels_and_widths(compiler, flags, expected, tmp_path):
    if "BANEL_HALVES" not in flags[1] and kernel.library().banel_lanes() < int(flags[1][-1]):
        pytest.skip("this processor has no registers so wide")
    compile_to(tmp_path / "kernel.bin", command_of(compiler), *flags)
    check(output(tmp_path / "kernel.bin"), expected)


@slow
def test_nothing_is_read_or_written_beyond_what_python_makes_room_for(expected, tmp_path):
    """The same program with a kernel under the address sanitizer, which watches NumPy's and PyTorch's memory too."""
    command = command_of(GCC)
    asked = subprocess.run([command, "-print-file-name=libasan.so"], capture_output=True, text=True)
    if asked.returncode or not Path(asked.stdout.strip()).is_absolute():
        pytest.skip(f"{command} has no address sanitizer")
    compile_to(tmp_path / "kernel.bin", command, "-O1", "-DBANEL_MOST_LANES=8", "-fsanitize=address")
    sanitized = {"LD_PRELOAD": asked.stdout.strip(), "ASAN_OPTIONS": "detect_leaks=0"}
    check(output(tmp_path / "kernel.bin", sanitized), expected)
