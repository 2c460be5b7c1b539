"""PPO of Stable-Baselines3, started from nothing, on Gaussian1D: `python examples/ppo_sb3.py`.

The copies of the environment share one oracle, and so one budget. When the budget is spent the next step raises
BudgetExhausted, which is how training ends. The ledger then holds everything that was asked.
"""

from __future__ import annotations

import contextlib

import numpy as np
import torch
from stable_baselines3 import PPO

from banel_envs import TASKS, BudgetExhausted, GenerationVectorEnv, Oracle, as_sb3_vec_env


def main(budget: int = 5_000, copies: int = 50) -> float:
    """Train until the budget is spent; the share of successes among the last tenth of the questions."""
    torch.set_num_threads(1)  # the network is so small that more threads only wait for each other
    task = TASKS["banel/Gaussian1D-v0"]
    oracle = Oracle(task, budget=budget, feedback="full")
    env = as_sb3_vec_env(GenerationVectorEnv(task.problem, oracle, copies))
    # A sequence has one reward, at its end, and so gamma is 1. A rollout holds some sequences of every copy.
    steps = 4 * task.problem.horizon
    model = PPO(
        "MultiInputPolicy",
        env,
        n_steps=steps,
        batch_size=copies * steps // 2,
        gamma=1.0,
        learning_rate=1e-2,
        ent_coef=0.003,
        seed=0,
        device="cpu",
    )
    with contextlib.suppress(BudgetExhausted):  # the budget is spent, as it should be
        model.learn(total_timesteps=budget * task.problem.horizon * 2)

    answers = np.concatenate([ask.rewards for ask in oracle.ledger.asks])
    first, last = answers[: budget // 10].mean(), answers[-budget // 10 :].mean()
    print(f"{oracle.count} evaluations; successes in the first tenth {first:.1%}, in the last tenth {last:.1%}")
    return float(last)


if __name__ == "__main__":
    main()
