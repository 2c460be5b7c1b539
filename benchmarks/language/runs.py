"""Answers to questions of GSM8K, and whole runs by the harness, with SmolLM2. Both need the questions (BANEL_DATA)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from banel_envs.data import gsm8k
from banel_envs.task import Task
from banel_envs.tasks.language.gsm8k_hard import gsm8k_hard
from banel_leaderboard.command.hard_questions import FORMAT, Answering, Counts, count, read
from banel_leaderboard.records.record import RunRecord
from banel_leaderboard.running.harness import run
from benchmarks.language.models import smol

QUESTIONS, SAMPLES, LONGEST = 50, 4, 160
BUDGET, HORIZON = 128, 64
BANEL = {
    "batch": 64,
    "pool": 32,
    "phi_epochs": 0.25,
    "distil_epochs": 1.0,
    "minibatch": 8,
    "phi_lr": 1e-4,
    "distil_lr": 1e-4,
}


def build() -> Task:
    """The task of the runs: the first question of the test part, answers of 64 tokens, few samples a rate."""
    return gsm8k_hard("test:0", smol(), horizon=HORIZON, budget=BUDGET, samples=8, final=16, id="bench/GSM8KHard-v0")


def questions(out: Path) -> tuple[list[Counts], float, float, int]:
    """Counts of the first questions, the seconds and CPU seconds of this call, and how many questions it asked; resumable."""
    path = out / "questions.json"
    how = {"format": FORMAT, "model": smol().digest, "samples": SAMPLES, "horizon": LONGEST}
    known = read(path, how)
    model = Answering(smol(), LONGEST, True)
    start, cpu = time.perf_counter(), time.process_time()
    found = count(model, gsm8k("test")[:QUESTIONS], SAMPLES, 0, known, path, how)
    return found, time.perf_counter() - start, time.process_time() - cpu, QUESTIONS - len(known)


def whole(agent: str, out: Path) -> RunRecord:
    """One run of an agent on the task, by the harness."""
    # Other agents draw 500 sequences at once by default, however few are left.
    settings: dict[str, Any] = BANEL if agent == "banel" else {"batch": BANEL["batch"]}
    return run("benchmarks.language.runs:build", agent, settings=settings, out=out / "runs")


def adapter_norm(path: Path) -> float:
    """The norm of a stored policy's second factors: 0 where nothing was learnt."""
    from safetensors.numpy import load_file

    return float(np.sqrt(sum(float((w**2).sum()) for name, w in load_file(path).items() if ".lora_B." in name)))
