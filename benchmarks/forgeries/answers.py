"""Answers and questions that are not those of the run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from banel_envs import TASKS
from benchmarks.forgeries.change import TASK, Change
from benchmarks.forgeries.forging import Forged


def invent(f: Forged, _: Path) -> None:
    for _tokens, rewards in f.asks:
        rewards[:] = np.arange(len(rewards)) % 7 == 0
    f.claim(-0.01)


def flip(to: int) -> Change:
    def change(f: Forged, _: Path) -> None:
        for _tokens, rewards in f.asks:
            rows = np.flatnonzero(rewards != to)
            if len(rows):
                rewards[rows[0]] = to
                return

    return change


def answer_all(to: int) -> Change:
    def change(f: Forged, _: Path) -> None:
        for _tokens, rewards in f.asks:
            rewards[:] = to

    return change


def ask_successes(f: Forged, _: Path) -> None:
    successes = TASKS[TASK].successes()
    assert successes is not None
    tokens, rewards = f.asks[0]
    tokens[:] = np.resize(successes, tokens.shape)
    rewards[:] = 1


def twin_as_real(f: Forged, _: Path) -> None:
    f.bind(twin=False)
