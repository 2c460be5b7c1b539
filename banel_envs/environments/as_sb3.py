"""as_sb3_vec_env: a GenerationVectorEnv for Stable-Baselines3, which is loaded with the first call only."""

from __future__ import annotations

from typing import Any

from banel_envs.environments.vector import GenerationVectorEnv
from banel_envs.errors import MissingExtra


def as_sb3_vec_env(env: GenerationVectorEnv) -> Any:
    """The same copies, on the same budget, as a VecEnv of Stable-Baselines3, with infos in the form of DummyVecEnv.

    `infos[k]` holds the copy's `action_mask` [V] and `TimeLimit.truncated`. For a copy that ended it also holds
    `terminal_observation` and, if they apply, `unevaluated` or `withheld`; the mask is then the one after its last token.
    sb3-contrib's MaskablePPO finds the masks. The callback `banel_envs.StopAtBudget` ends `learn` when the budget is spent.

        >>> import gymnasium as gym
        >>> from banel_envs import StopAtBudget, as_sb3_vec_env
        >>> from stable_baselines3 import PPO
        >>> envs = as_sb3_vec_env(gym.make_vec("banel_envs:banel/AdditionAttack-v0", num_envs=4, budget=50))
        >>> model = PPO("MultiInputPolicy", envs, n_steps=16, batch_size=64, device="cpu")
        >>> _ = model.learn(100_000, callback=StopAtBudget())
        >>> envs.get_attr("spent")
        [50, 50, 50, 50]

    Raises:
        BadValue: this is not a GenerationVectorEnv, it does not reset in the same step, or V is above 4,096.
        MissingExtra: stable-baselines3 is not installed.
    """
    try:
        from banel_envs.environments.sb3 import SB3VecEnv
    except ModuleNotFoundError as error:
        raise MissingExtra("as_sb3_vec_env needs stable-baselines3: pip install 'banel-envs[agents]'") from error
    return SB3VecEnv(env)
