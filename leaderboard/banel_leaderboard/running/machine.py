"""What a record says about the machine, and about the time and memory that a run took."""

from __future__ import annotations

import contextlib
import platform
import sys
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from banel_envs import kernel
from banel_envs.policies import COST

NETWORKS = "networks"  # the entry among the versions of a record that says what computed the networks
PACKAGES = ("banel-envs", "gymnasium", "numpy", "torch", "stable-baselines3", "rdkit", "scikit-learn")


@cache
def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def instructions() -> str:
    """The widest vector instructions that PyTorch uses on this processor, such as AVX2 or AVX512."""
    import torch

    return str(torch.backends.cpu.get_cpu_capability())


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that the numbers depend on, and what computes transformers."""
    found = {"python": platform.python_version(), "kernel": kernel.kind(), "instructions": instructions()}
    if (compiler := kernel.compiler()) is not None:
        found["compiler"] = compiler
    return found | dict(installed())


@cache
def installed() -> tuple[tuple[str, str], ...]:
    """The packages of PACKAGES that are installed, with their versions."""
    found = []
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found.append((package, version(package)))
    return tuple(found)


def threads() -> int:
    """The number of threads that PyTorch computes with."""
    import torch

    return torch.get_num_threads()


def native_threads() -> int:
    """The number of threads of this process, those of libraries included; 0 where the system does not say."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.exists() else 0


def begin_peak() -> None:
    """Let the peak memory of this process begin at what it holds now. Linux only; elsewhere it stays as it is."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mb() -> float:
    """The most memory in MB that this process has held so far, shared pages included; 0 on Windows, which has no way to ask.

    On Linux it is VmHWM. Python's resource module gives another number there, which can be that of the process that started
    this one.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024
    except (OSError, IndexError):  # another system
        pass
    try:
        import resource
    except ModuleNotFoundError:
        return 0.0
    unit = 1024 if sys.platform == "darwin" else 1  # macOS counts bytes, others kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit / 1024


class Clock:
    """An agent's wall and CPU seconds, and the state of the token counters when the agent started."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.wall = self.cpu = 0.0
        self.peak_mb = 0.0  # the peak of an agent in another process; 0 where the agent is in this one
        self.sampled, self.scored, self.trained = COST.sampled, COST.scored, COST.trained
        self.in_torch = COST.in_torch

    def __enter__(self) -> None:
        self._from = (time.perf_counter(), time.process_time())

    def __exit__(self, *_: object) -> None:
        self.wall += time.perf_counter() - self._from[0]
        self.cpu += time.process_time() - self._from[1]

    def networks(self) -> str:
        """What computed the agent's networks: the compiled kernel alone, or PyTorch."""
        return kernel.TORCH if COST.in_torch > self.in_torch else kernel.COMPILED

    def peak(self) -> float:
        """The peak memory in MB of the process in which the agent ran."""
        return self.peak_mb or peak_memory_mb()
