"""MaskablePPO of sb3-contrib on the addition attack: `python examples/maskable_ppo.py` (pip install sb3-contrib).

The mask tells which tokens keep a sequence well-formed. A policy that starts from nothing writes almost only malformed
strings without it; with it one query in fifty is already a success.
"""

from __future__ import annotations

import contextlib

import numpy as np
import torch
from sb3_contrib import MaskablePPO

from banel_envs import TASKS, BudgetExhausted, GenerationVectorEnv, Oracle, as_sb3_vec_env


def main(budget: int = 7_500, copies: int = 50) -> float:
    """Train until the budget is spent; the share of successes among the last tenth of the questions."""
    torch.set_num_threads(1)  # the network is so small that more threads only wait for each other
    task = TASKS["banel/AdditionAttack-v0"]
    oracle = Oracle(task, budget=budget, feedback="full")
    env = as_sb3_vec_env(GenerationVectorEnv(task.problem, oracle, copies))
    steps = 2 * task.problem.horizon
    model = MaskablePPO(
        "MultiInputPolicy",
        env,
        n_steps=steps,
        batch_size=copies * steps // 2,
        gamma=1.0,
        learning_rate=3e-3,
        ent_coef=0.003,
        seed=0,
        device="cpu",
    )
    with contextlib.suppress(BudgetExhausted):  # the budget is spent, as it should be
        model.learn(total_timesteps=budget * task.problem.horizon * 2)

    answers = np.concatenate([ask.rewards for ask in oracle.ledger.asks])
    asked = np.concatenate([oracle.ledger.tokens(ask) for ask in oracle.ledger.asks])
    well_formed = task.problem.well_formed(asked).mean()
    first, last = answers[: budget // 10].mean(), answers[-budget // 10 :].mean()
    print(f"{oracle.count} evaluations, {well_formed:.0%} of them well-formed")
    print(f"successes in the first tenth {first:.1%}, in the last tenth {last:.1%}")
    return float(last)


if __name__ == "__main__":
    main()
