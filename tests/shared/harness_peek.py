"""An agent that looks for the true answers in the files and in the other processes of its run."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

OUT = "BANEL_TEST_OUT"  # where the runs are; the agent is told, so that nothing rests on its not knowing
SHARED = Path(tempfile.gettempdir())


def reads(path):
    """Whether the file's answers can be read."""
    return b'{"answer"' in Path(path).read_bytes()


def by_fd_of_parent(ledger):
    folder = Path(f"/proc/{os.getppid()}/fd")
    return any(str(fd.readlink()) == str(ledger) and reads(fd) for fd in folder.iterdir())


def by_memory_of_parent(ledger):
    with open(f"/proc/{os.getppid()}/mem", "rb"):  # noqa: PTH123
        return True


def by_namespace(ledger):
    """As root, mount the folder somewhere else."""
    place = tempfile.mkdtemp()
    code = f"mount --bind {ledger.parent} {place} && cat {place}/{ledger.name}"
    done = subprocess.run(["unshare", "--mount", "--map-root-user", "sh", "-c", code], capture_output=True)
    return b'{"answer"' in done.stdout


def by_link(ledger):
    place = Path(tempfile.mkdtemp()) / "link"
    os.link(ledger, place)
    return reads(place)


def by_soft_link(ledger):
    place = Path(tempfile.mkdtemp()) / "link"
    place.symlink_to(ledger)
    return reads(place)


def by_relative_path(ledger):
    os.chdir(ledger.parent)
    return reads(ledger.name)


def by_moving(ledger):
    """Move the folder of the runs' task away and back."""
    folder, place = ledger.parents[3], Path(tempfile.mkdtemp()) / "moved"
    folder.rename(place)
    try:
        return reads(place / ledger.relative_to(folder))
    finally:
        place.rename(folder)


def by_renaming(ledger):
    folder = ledger.parents[3]
    place = folder.with_name("renamed")
    folder.rename(place)
    try:
        return reads(place / ledger.relative_to(folder))
    finally:
        place.rename(folder)


def by_other_process(ledger):
    code = f"print(open({str(ledger)!r}).read())"
    return b'{"answer"' in subprocess.run([sys.executable, "-c", code], capture_output=True).stdout


def by_copy(ledger):
    return reads(shutil.copy(ledger, tempfile.mkdtemp()))


def by_writing(ledger):
    """Whether the ledger could be written to; it is left as it was."""
    with ledger.open("ab"):
        return True


def by_cutting(ledger):
    os.truncate(ledger, ledger.stat().st_size)
    return True


def by_making(ledger):
    (ledger.parent / "made").symlink_to("/dev/null")
    return True


def by_attaching(ledger):
    """Attach to the parent as a debugger, and let go of it."""
    library = ctypes.CDLL(None)
    if library.ptrace(0x4206, os.getppid(), 0, 0):  # PTRACE_SEIZE, which does not stop it
        return False
    library.ptrace(17, os.getppid(), 0, 0)
    return True


WAYS = {name: way for name, way in globals().items() if name.startswith("by_")} | {"by_path": reads}


class Peeks:
    """Reports each way by which it got at an answer; what stays possible is reported by `sane_...`."""

    name = "peeks"
    Config = type(None)
    config = None

    def learn(self, problem, oracle, rng):
        yield problem.base_policy()
        oracle([[3, 3, 3]])
        ledgers = [path for path in Path(os.environ[OUT]).rglob("ledger.jsonl") if path.stat().st_size]
        self.reported = {"ledgers": float(len(ledgers))}
        here = Path.cwd()
        for name, way in WAYS.items():
            self.reported[name] = sum(float(_works(way, ledger.resolve())) for ledger in ledgers)
            os.chdir(here)
        self.reported |= {f"sane_{name}": float(way()) for name, way in SANE.items()}
        yield problem.base_policy()


def _works(way, ledger):
    try:
        return way(ledger)
    except OSError:
        return False


def temporary_files():
    with tempfile.NamedTemporaryFile("w+") as file:
        file.write("x")
        file.flush()
        return Path(file.name).read_text() == "x"


def programs():
    return subprocess.run([sys.executable, "-c", "import numpy"]).returncode == 0


def own_folder():
    """A folder that was there before may be written to and read."""
    path = Path(os.environ[OUT]).parent / "notes" / "note"
    path.write_text("x")
    moved = path.rename(path.with_name("moved"))
    there = moved.read_text() == "x"
    moved.unlink()
    return there


SANE = {"temporary": temporary_files, "programs": programs, "own_folder": own_folder}
