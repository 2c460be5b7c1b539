"""Exact evaluation against brute force, whole runs by phase in processes of their own, and what an installation costs."""

from __future__ import annotations

import importlib.util
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from banel_envs import TASKS, success_rate
from banel_envs.policies.torch_policy import TorchPolicy
from benchmarks.speed.measure import Bar, clear, interleaved, line, ratios, spread

TASK = "banel/AdditionAttack-v0"
RUNS: dict[str, tuple[dict[str, Any], float]] = {  # agent -> settings, bar in seconds
    # 15 rounds of 500, 1 in 2 of 10,000 distilled, p_phi from the base: a config for timing, not the agent's default
    "banel": ({"f": 2.0, "phi_init": "base", "well_formed": False}, 30),
    "ppo": ({}, 60),
}
PHASES = ("sample", "score", "fit", "ask", "evaluate")
IMPORT = "import gymnasium, time; t = time.perf_counter(); import banel_envs; print(time.perf_counter() - t)"


def exact(repeats: int) -> None:
    """The exact success rate of AdditionAttack-v0's base policy against a plain forward over every success."""
    task = TASKS[TASK]
    policy, successes = task.problem.base_policy(), task.successes()
    if not isinstance(policy, TorchPolicy) or successes is None:
        raise SystemExit(f"{TASK} has no network or no success set")
    works: dict[str, Callable[[], object]] = {
        "here": partial(success_rate, task, policy),
        "brute force": partial(brute_force, policy, successes),
    }
    taken = interleaved(works, repeats)
    line(
        f"exact evaluation, {len(successes):,} successes",
        clear(taken["here"]),
        f"brute force: {clear(taken['brute force'])}",
        spread(ratios(taken["brute force"], taken["here"])),
        Bar(1, at_most=True).verdict(statistics.median(taken["here"]), " s"),
    )


def brute_force(policy: TorchPolicy, tokens: np.ndarray) -> float:
    """The same rate from a plain teacher-forced forward over every success."""
    with torch.inference_mode():
        parts = [
            policy.differentiable_log_prob(tokens[i : i + 4096]).double().exp().sum()
            for i in range(0, len(tokens), 4096)
        ]
    return float(np.log10(sum(map(float, parts))))


def runs(agents: list[str]) -> None:
    """Whole runs of 7,500 NRE with their 16 evaluations, each in a process and a folder of its own."""
    for agent in agents:
        settings, bar = RUNS.get(agent, ({}, 60.0))
        with multiprocessing.get_context("spawn").Pool(1) as processes:
            taken = processes.apply(timed_run, (agent, settings))
        phases = ", ".join(f"{name} {taken[name]:.1f}" for name in (*PHASES, "other"))
        line(
            f"{agent} run, {taken['nre']:,.0f} NRE, 16 evaluations",
            f"{taken['all']:.1f} s",
            phases,
            "",
            Bar(bar, at_most=True).verdict(taken["all"], " s"),
        )
        line(
            "  peak memory of it",
            f"{taken['peak']:.0f} MB",
            "",
            "",
            Bar(1000, at_most=True).verdict(taken["peak"], " MB"),
        )


class Phases:
    """Seconds by phase; the innermost one runs, and an evaluation keeps what is inside it."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys((*PHASES, "other"), 0.0)
        self._stack = ["other"]
        self._since = time.perf_counter()

    def enter(self, name: str) -> None:
        """A phase begins inside the one that runs."""
        self._note()
        self._stack.append("evaluate" if self._stack[-1] == "evaluate" else name)

    def leave(self) -> None:
        """Back to the phase around it."""
        self._note()
        self._stack.pop()

    def _note(self) -> None:
        now = time.perf_counter()
        self.seconds[self._stack[-1]] += now - self._since
        self._since = now

    def watch(self, owner: Any, attribute: str, phase: str) -> None:
        """Replace a function by one that notes its time."""
        original: Callable[..., Any] = getattr(owner, attribute)

        def noted(*args: Any, **kwargs: Any) -> Any:
            self.enter(phase)
            try:
                return original(*args, **kwargs)
            finally:
                self.leave()

        setattr(owner, attribute, noted)


def timed_run(agent: str, settings: dict[str, Any]) -> dict[str, float]:
    """One run from the start to its record, in this process: seconds in all and by phase, peak memory in MB."""
    from stable_baselines3 import PPO

    import banel_agents.failure_model.banel
    import banel_agents.shared.distil
    from banel_envs import Oracle
    from banel_leaderboard.running.evaluator import Evaluator
    from banel_leaderboard.running.harness import run

    phases = Phases()
    for owner, attribute, phase in (
        (TorchPolicy, "sample", "sample"),
        (TorchPolicy, "log_prob", "score"),
        (banel_agents.failure_model.banel, "fit", "fit"),
        (banel_agents.shared.distil, "fit", "fit"),
        (Oracle, "__call__", "ask"),
        (Evaluator, "measure", "evaluate"),
        (PPO, "collect_rollouts", "sample"),
        (PPO, "train", "fit"),
    ):
        phases.watch(owner, attribute, phase)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        record = run(TASK, agent, out=Path(folder), settings=settings)
        whole = time.perf_counter() - start
    return phases.seconds | {"all": whole, "nre": float(record.ledger.count), "peak": peak_mb(record)}


def peak_mb(record: Any) -> float:
    """This process's peak memory: the system's own count, since the record's holds the parent's from before the exec."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return kilobytes[0] / 1e3 if kilobytes else float(record.execution.peak_memory_mb)


def installation(repeats: int) -> None:
    """Seconds to import on top of Gymnasium, and bytes of the wheel."""
    taken = [
        float(subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True).stdout)
        for _ in range(repeats + 1)
    ][1:]
    bar = Bar(0.3, at_most=True)
    line("import banel_envs on top of gymnasium", clear(taken), "", "", bar.verdict(statistics.median(taken), " s"))
    if importlib.util.find_spec("hatchling") is None:
        line("wheel", "skipped: pip install hatchling")
        return
    root = Path(__file__).parents[2]
    with tempfile.TemporaryDirectory() as folder:
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
        subprocess.run(build, cwd=root, capture_output=True, check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            size = sum(member.file_size for member in archive.infolist())
        line("wheel", f"{size / 1e6:.2f} MB installed", f"{wheel.stat().st_size / 1e6:.2f} MB packed")
