"""What a record says about the machine, and about the time and memory that a run took."""

from __future__ import annotations

import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from banel_envs import kernel
from banel_envs.policies import COST

NETWORKS = "networks"  # the entry among the versions of a record that says what computed the networks
PACKAGES = ("banel-envs", "gymnasium", "numpy", "torch", "stable-baselines3", "rdkit", "scikit-learn")


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
    return str(torch.backends.cpu.get_cpu_capability())


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that the numbers depend on, and what computes transformers."""
    found = {"python": platform.python_version(), "kernel": kernel.kind(), "instructions": instructions()}
    if (compiler := kernel.compiler()) is not None:
        found["compiler"] = compiler
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def threads() -> int:
    """The number of threads that PyTorch computes with."""
    return torch.get_num_threads()


def peak_memory_mb() -> float:
    """The most memory in MB that this process has held so far; 0 on Windows, where Python has no way to ask for it."""
    try:
        import resource
    except ModuleNotFoundError:
        return 0.0
    unit = 1024 if sys.platform == "darwin" else 1  # macOS counts bytes, Linux kilobytes
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
