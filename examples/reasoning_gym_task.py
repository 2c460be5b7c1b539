"""reasoning-gym both ways: one of its questions as a task, and one of our tasks as its dataset.

It needs `pip install 'banel-envs[reasoning]'`.
"""

from __future__ import annotations

import numpy as np

from banel_envs import TASKS, Oracle, Task
from banel_envs.bridges import Desk
from banel_envs.bridges.reasoning_gym import reasoning_dataset, reasoning_task


def build() -> Task:
    """The fourth sum of the dataset `chain_sum` with seed 0, answered in digits and a minus: up to four characters."""
    sums = {"min_terms": 3, "max_terms": 3, "max_digits": 1}
    return reasoning_task("chain_sum", 3, seed=0, config=sums, vocabulary="0123456789-", horizon=4, budget=20_000)


def first_success(task: Task, seed: int = 0) -> tuple[int, str | None]:
    """Sample the base policy until an answer is right: the evaluations it took, and that answer."""
    oracle, rng, policy = Oracle(task), np.random.default_rng(seed), task.problem.base_policy()
    while oracle.left:
        tokens = policy.sample(min(100, oracle.left), rng)
        right = np.flatnonzero(oracle(tokens) == 1)
        if len(right):
            return oracle.count, task.problem.decode(tokens[right[:1]])[0]
    return oracle.count, None


def scores(answers: list[str]) -> list[float]:
    """What reasoning-gym's interface says of answers to AdditionAttack; each that is a query is charged."""
    task = TASKS["banel/AdditionAttack-v0"]
    with Desk.open(task, budget=10) as desk:
        dataset = reasoning_dataset(task.problem, desk, size=1)
        return [dataset.score_answer(answer, dataset[0]) for answer in answers]


def main() -> tuple[int, str | None, list[float]]:
    """Show both."""
    task = build()
    print(task.problem.prompt)
    asked, answer = first_success(task)
    print(f"right after {asked} evaluations: {answer}")
    known = TASKS["banel/AdditionAttack-v0"]
    told = scores(["1+1=", "no query", known.problem.decode(known.witness()[None])[0]])
    print(f"scores of a failure, of a text that is no query, and of a success: {told}")
    return asked, answer, told


if __name__ == "__main__":
    main()
