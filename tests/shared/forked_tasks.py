"""Tasks whose rewards say what their process is like, or end it."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import numpy as np

from banel_envs import TASKS, Task

NOTES = "note-{}.json"
COUNTED = {"times": 0}


def _task(name, reward):
    problem = TASKS["banel/Gaussian1D-v0"].problem
    return Task(type(problem)(**{**vars(problem), "id": f"forked/{name}-v0"}), reward)


def _out():
    """The folder of the runs: four above the ledger's, which is the only file that this process writes."""
    (ledger,) = {path for path in _files() if path.endswith("ledger.jsonl")}
    return Path(ledger).parents[5]


def _files():
    found = []
    for number in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(number.readlink()))
        except OSError:
            continue
    return found


def noting():
    def reward(tokens):
        COUNTED["times"] += 1
        out, files = _out(), _files()
        seed = next(path for path in files if path.endswith("ledger.jsonl")).split("seed-")[1].split("/")[0]
        note = {
            "seed": seed,
            "times": COUNTED["times"],
            "threads": len(list(Path("/proc/self/task").iterdir())),
            "folder": str(Path.cwd()),
            "numpy": float(np.random.random()),
            "python": random.random(),
            "files": files,
        }
        if COUNTED["times"] == 1:
            (out / NOTES.format(seed)).write_text(json.dumps(note))
        return np.zeros(len(tokens), np.int8)

    return _task("noting", reward)


def aborting():
    return _task("aborting", lambda tokens: os.abort())


def leaving():
    return _task("leaving", lambda tokens: os._exit(3))


def wrong():
    return _task("wrong", lambda tokens: np.full(len(tokens), 0.5))


def slow():
    def reward(tokens):
        while not (_out() / "quick").exists():
            time.sleep(0.02)
        return np.zeros(len(tokens), np.int8)

    return _task("slow", reward)
