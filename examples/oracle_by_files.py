"""A wet lab as the oracle: questions are files, and so are answers. `python examples/oracle_by_files.py`.

An agent asks, and the program ends since there is no answer yet. Days later somebody puts the answers into the folder
and starts the same program again: it goes on where it was, and asks nothing twice. Here a function plays the lab.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np

from banel_envs import FileReward, Oracle, Problem, Task
from banel_envs.errors import AnswersPending
from banel_envs.policies import Uniform


def dye(folder: Path) -> Task:
    """Peptides of five amino acids; a success binds at least 0.8 of the dye."""
    problem = Problem("me/Dye-v0", tuple("ACDEFGHIKL"), horizon=5, budget=96, base=lambda: Uniform(10, 5, None))
    # timeout=0 does not wait at all; poll is how often the folder is looked at while it waits.
    reward = FileReward(folder, problem, poll=0.01, timeout=0)
    return Task(problem, reward, threshold=0.8, free_evaluation=False)


def play_the_lab(folder: Path) -> int:
    """Answer every question that is open; the number of sequences measured."""
    measured = 0
    for path in sorted(folder.glob("question-*.json")):
        answer = folder / path.name.replace("question-", "answer-")
        if answer.exists():
            continue
        rows = json.loads(path.read_text())["rows"]
        binding = {str(row["row"]): row["text"].count("K") / 5 + 0.3 for row in rows}
        answer.write_text(json.dumps(binding))
        measured += len(rows)
    return measured


def experiment(folder: Path) -> list[str]:
    """The program that is started again and again; the successes it knows of in the end."""
    task = dye(folder / "lab")
    oracle = Oracle(task, feedback="full", ledger=folder / "ledger.jsonl")
    rng = np.random.default_rng(0)  # the same questions at each start, so that the ledger can answer them
    found: list[str] = []
    try:
        while oracle.left:
            plate = task.problem.base_policy().sample(min(32, oracle.left), rng)
            rewards = oracle(plate)
            found += task.problem.decode(plate[rewards == 1])
    finally:
        oracle.close()
    return found


def main() -> list[str]:
    """Start the experiment until the budget is spent, with the lab at work in between."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        while True:
            try:
                found = experiment(folder)
            except AnswersPending:
                print(f"the lab measures {play_the_lab(folder / 'lab')} sequences")
            else:
                print(f"done: {len(found)} successes among 96 ({', '.join(found) or 'none'})")
                return found


if __name__ == "__main__":
    main()
