"""The bits of every function of the kernel, as driver.c prints them: here, on another processor, and under sanitizers.

The driver is compiled together with the kernel. GOLDEN stands here, so that every machine that runs the tests is compared
with all others. After a change that is meant to change bits, raise BITS in banel_envs/version.py and copy the new lines
from the failing test.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLAGS = ("-ffp-contract=off", "-fno-math-errno", "-Wno-psabi", f"-I{ROOT}/banel_envs/kernel", '-DBANEL_DIGEST="driver"')
SANITIZERS = ("-g", "-O1", "-DBANEL_GUARDED", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
slow = pytest.mark.slow

GOLDEN = """\
exp and log 6f8e9066527e2a35 0
smallest 4faef674fda3c9c8 0
narrow e1d783c7b4b61fc5 -8.85779991
ends 5b19a2f5e52fc55e -0.223460898
many tokens 87b1775c1d177dae 0.56090411
long b769c709b80ab337 -11.9709803
chained 36b01c31cc4806db -2.88544517
chain 5a93a9ce372af0b8 -5.31084146
gru smallest 7160d14be2b9e6b8 0
gru c4d9d44504abae56 -0.806947386
gru long eb3d40a4ea489a1b 2.51434089
gru many tokens 2a404d8326f1e6e9 3.46201864
"""


def compiled(command, target, *flags):
    """The driver, built by a compiler; what the compiler said where it could not."""
    line = [*shlex.split(command), *FLAGS, *flags, "-o", str(target), str(ROOT / "tests/kernel/driver.c"), "-lm"]
    return subprocess.run(line, capture_output=True, text=True, timeout=600)


def compiler():
    return next(filter(shutil.which, ("gcc", "cc", "clang")), None) or pytest.skip("no C compiler is installed here")


def printed(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=600)
    if done.returncode == 7:
        pytest.skip("this processor has no fused multiply-add")
    assert done.returncode == 0, f"status {done.returncode}: {done.stdout[-300:]} {done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.parametrize(
    "flags",
    [
        ("-O1", "-DBANEL_MOST_LANES=4"),
        pytest.param(("-O0", "-DBANEL_MOST_LANES=8"), marks=slow),
        pytest.param(("-O3", "-DBANEL_HALVES"), marks=slow),
    ],
    ids=" ".join,
)
def test_the_bits_of_this_processor_are_golden(flags, tmp_path):
    done = compiled(compiler(), tmp_path / "driver", *flags)
    assert done.returncode == 0, done.stderr[-3000:]
    assert printed(tmp_path / "driver") == GOLDEN


def test_the_driver_calls_every_function_of_the_kernel():
    """What is added to the kernel shall be compared and sanitized too."""
    sources = "".join(path.read_text() for path in sorted((ROOT / "banel_envs/kernel").glob("*.[ch]")))
    names = set(re.findall(r"\b(banel_[a-z_]+)\)?\([^;{]*\) \{", sources))
    assert {"banel_descend", "banel_trie", "banel_gru_step", "banel_log"} <= names
    driver = (ROOT / "tests/kernel/driver.c").read_text()
    assert [name for name in sorted(names) if not re.search(rf"\b{name}(\(|_##n)", driver)] == []


@slow
def test_the_bits_of_an_arm_processor_are_golden(tmp_path):
    emulator = next(filter(shutil.which, ("qemu-aarch64", "qemu-aarch64-static")), None)
    cross = "aarch64-linux-gnu-gcc -static" if shutil.which("aarch64-linux-gnu-gcc") else None
    if importlib.util.find_spec("ziglang"):
        cross = cross or f"{sys.executable} -m ziglang cc -target aarch64-linux-musl"
    if emulator is None or cross is None:
        pytest.skip("no qemu-aarch64, or no compiler for it (aarch64-linux-gnu-gcc, ziglang), is installed here")
    done = compiled(cross, tmp_path / "driver", "-O2")
    assert done.returncode == 0, done.stderr[-3000:]
    assert printed(emulator, tmp_path / "driver") == GOLDEN


@slow
def test_nothing_undefined_and_nothing_beyond_an_array(tmp_path):
    """The address and the undefined-behaviour sanitizer over the whole driver, whose arrays have no number to spare.

    Registers of 4 and of 8 numbers take all the paths that the source has; with 16 the compiler would take minutes.
    """
    command = compiler()
    (tmp_path / "empty.c").write_text("int main(void) { return 0; }")
    probe = [command, *SANITIZERS, "-o", str(tmp_path / "empty"), str(tmp_path / "empty.c")]
    if subprocess.run(probe, capture_output=True).returncode or subprocess.run([str(tmp_path / "empty")]).returncode:
        pytest.skip(f"{command} has no sanitizers here")
    done = compiled(command, tmp_path / "driver", *SANITIZERS, "-DBANEL_MOST_LANES=8")
    assert done.returncode == 0, done.stderr[-3000:]
    assert printed(tmp_path / "driver") == GOLDEN
