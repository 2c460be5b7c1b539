"""SB3VecEnv: GenerationVectorEnv in the form Stable-Baselines3 takes. Use as_sb3_vec_env."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from banel_envs.vector import GenerationVectorEnv


class SB3VecEnv(VecEnv):
    """One GenerationVectorEnv as num_envs Stable-Baselines3 environments."""

    def __init__(self, env: GenerationVectorEnv) -> None:
        self.env = env
        self.render_mode = env.render_mode
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self._actions = np.zeros(env.num_envs, np.int64)

    def reset(self) -> Any:
        """Empty sequences in every copy."""
        observation, _ = self.env.reset(seed=self._seeds[0])
        self._reset_seeds()
        return observation

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Keep the actions for step_wait."""
        self._actions = actions

    def step_wait(self) -> Any:
        """Step every copy."""
        observation, rewards, terminated, truncated, infos = self.env.step(self._actions)
        done = terminated | truncated
        rows: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for k in np.flatnonzero(done):
            rows[k] = {"terminal_observation": infos["final_obs"][k], "TimeLimit.truncated": bool(truncated[k])}
            if truncated[k]:
                rows[k]["unevaluated"] = True
        return observation, rewards.astype(np.float32), done, rows

    def close(self) -> None:
        """Release the oracle's ledger."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The shared environment's attribute, once a copy."""
        return [getattr(self.env, attr_name)] * len(self._rows(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refused: the copies share one environment, and the meter has no setter."""
        raise AttributeError(f"{attr_name} cannot be set: the copies share one environment and one meter")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Call a method of the shared environment, once for all copies."""
        return [getattr(self.env, method_name)(*args, **kwargs)] * len(self._rows(indices))

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """No copy is wrapped by itself."""
        return [False] * len(self._rows(indices))

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """There is nothing to see but text."""
        return [None] * self.num_envs

    def _rows(self, indices: Any) -> list[int]:
        return list(self._get_indices(indices))
