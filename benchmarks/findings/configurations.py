"""What was tried for each agent before the board was run: its defaults and three other configurations.

Each agent that learns has the same number. One or two settings are varied that decide most in its family: the learning rate,
what weighs novelty or failures against the rest, how often it asks. Agents with nothing to tune, or that are frozen at a
paper's description, are not in the table.
"""

from __future__ import annotations

from typing import Any

Settings = dict[str, Any]

_FILTER: list[Settings] = [{"f": 6.0}, {"distil_epochs": 3.0}, {"batch": 250}]
_BONUS: list[Settings] = [{"lr": 3e-3}, {"lr": 3e-4}, {"kl": 0.03}]
_GRADIENT: list[Settings] = [{"lr": 3e-3}, {"lr": 3e-4}, {"batch": 100}]
_PPO: list[Settings] = [{"lr": 3e-4}, {"entropy": 0.03}, {"epochs": 8}]
_FINE_TUNING: list[Settings] = [{"temperature": 1.0}, {"temperature": 3.0}, {"steps": 300}]

OTHERS: dict[str, list[Settings]] = {
    "tempered": [{"temperature": 1.5}, {"temperature": 3.0}, {"temperature": 5.0}],
    "tempered_sft": _FINE_TUNING,
    "tempered_sft_new": _FINE_TUNING,
    "banel": _FILTER,
    "banel_stop": _FILTER,
    "soft_banel": _FILTER,
    "negative_guidance": [{"strength": 1.0}, {"strength": 2.0}, {"phi_epochs": 2.0}],
    "count": _BONUS,
    "rnd": _BONUS,
    "pseudo_count": _BONUS,
    "coin_flip": _BONUS,
    "elliptical": _BONUS,
    "dp_novelty": _BONUS,
    "bandit": [{"forget": 0.0}, {"batch": 50}, {"many": 400}],
    "screened_bandit": [{"screen": 5}, {"forget": 0.05}, {"reach": 1, "anywhere": False}],
    "expert_iteration": _FINE_TUNING,
    "proxy": [{"hidden": True}, {"batch": 50}, {"members": 10}],
    "genetic": [{"population": 100}, {"population": 2000}, {"batch": 50}],
    "nsr": [{"lr": 1e-3}, {"lr": 1e-4}, {"batch": 50}],
    "w_reinforce": [{"lr": 1e-3}, {"lr": 1e-4}, {"batch": 50}],
    "unlikelihood": [{"alpha": 0.3}, {"alpha": 0.03}, {"lr": 3e-4}],
    "npo": [{"beta": 0.03}, {"retain": 0.3}, {"steps": 4}],
    "reinforce": _GRADIENT,
    "ppo": _PPO,
    "maskable_ppo": _PPO,
    "grpo": _GRADIENT,
    "rloo": _GRADIENT,
    "dr_grpo": _GRADIENT,
    "maxrl": _GRADIENT,
    "mrt": [{"lr": 3e-3}, {"lr": 3e-4}, {"sharpness": 0.05}],
    "esrl": _GRADIENT,
    "esrl_paper": _GRADIENT,
    "kl_rl": [{"lr": 3e-3}, {"beta": 0.1}, {"beta": 0.01}],
    "dpg": _GRADIENT,
    "dpg_failures": [{"b": 3.0}, {"cap": 100.0}, {"batch": 500}],
    "spo": [{"beta": 0.3}, {"beta": 0.03}, {"form": "prefix"}],
    "trajectory_balance": [{"lr": 3e-3}, {"beta": 0.15}, {"beta": 0.02}],
    "gafn": [{"lr": 3e-3}, {"beta": 0.05}, {"beta": 0.01}],
}
"""What was tried for an agent beside its defaults of that time: three configurations each."""

LEARN_FROM_FAILURES = (
    "tempered",
    "banel",
    "banel_stop",
    "soft_banel",
    "negative_guidance",
    "count",
    "rnd",
    "pseudo_count",
    "coin_flip",
    "elliptical",
    "dp_novelty",
    "nsr",
    "unlikelihood",
    "npo",
    "dpg_failures",
    "gafn",
)
"""These are tuned under `failures`; `tempered` ignores every answer. All others learn from successes alone, or from both."""
