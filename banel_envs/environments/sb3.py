"""Stable-Baselines3: GenerationVectorEnv as its VecEnv (use as_sb3_vec_env), and StopAtBudget, its callback."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from banel_envs.environments.vector import GenerationVectorEnv
from banel_envs.errors import BadValue, BudgetExhausted
from banel_envs.problem import check_one_hot

ROW_A_COPY = {"action_masks", "render"}  # methods of the shared environment that give one result for each copy
WHOLE = {"reset", "step"}  # methods that act on all copies, even if only some were meant


class SB3VecEnv(VecEnv):
    """A GenerationVectorEnv of n copies, as n environments of Stable-Baselines3."""

    def __init__(self, env: GenerationVectorEnv) -> None:
        if not isinstance(env, GenerationVectorEnv):
            raise BadValue(
                f"as_sb3_vec_env takes a GenerationVectorEnv, got {env}; "
                f"wrap what it returns instead, with wrappers of Stable-Baselines3"
            )
        if env.autoreset_mode is not AutoresetMode.SAME_STEP:
            raise BadValue(
                f"Stable-Baselines3 resets in the same step, and this environment has autoreset_mode "
                f'{env.autoreset_mode.value!r}; make it with autoreset_mode="SameStep", the default'
            )
        way_out = "use an agent that asks whole sequences, such as banel, reinforce or grpo"
        check_one_hot(env.problem, "Stable-Baselines3", way_out)
        self.env = env
        self.render_mode = env.render_mode
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        # step_async and step_wait are two calls in this interface, though nothing runs between them here.
        self._actions = np.zeros(env.num_envs, np.int64)

    def reset(self) -> Any:
        """Start an empty sequence in every copy."""
        observation, infos = self.env.reset(seed=self._seeds)
        self.reset_infos = [{"action_mask": mask} for mask in infos["action_mask"]]
        self._reset_seeds()
        self._reset_options()
        return observation

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Keep the actions for step_wait."""
        self._actions = actions

    def step_wait(self) -> Any:
        """Step every copy."""
        observation, rewards, terminated, truncated, infos = self.env.step(self._actions)
        done = terminated | truncated
        rows: list[dict[str, Any]] = [{"action_mask": m, "TimeLimit.truncated": False} for m in infos["action_mask"]]
        # A copy that ended was reset in the same step. Its mask is that of the new episode, and the old one is in final_info.
        for k in np.flatnonzero(done).tolist():
            self.reset_infos[k] = {"action_mask": rows[k]["action_mask"]}
            final = infos["final_info"]
            told = {key: True for key in ("unevaluated", "withheld") if key in final and final[key][k]}
            rows[k] = {
                "action_mask": final["action_mask"][k],
                "TimeLimit.truncated": bool(truncated[k]),
                "terminal_observation": infos["final_obs"][k],
                **told,
            }
        return observation, rewards.astype(np.float32), done, rows

    def close(self) -> None:
        """Release the oracle's ledger."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The attribute of the shared environment, repeated for each copy."""
        return [getattr(self.env, attr_name)] * len(self._rows(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refused: the copies share one environment, and the meter has no setter."""
        raise AttributeError(f"{attr_name} cannot be set: the copies share one environment and one meter")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Call a method of the shared environment, once for all copies; of `action_masks` and `render`, a row each."""
        if method_name in WHOLE:
            raise AttributeError(f"no copy can {method_name} by itself; call {method_name}() of the VecEnv, for all")
        result = getattr(self.env, method_name)(*args, **kwargs)
        a_row_each = method_name in ROW_A_COPY and result is not None
        return [result[k] if a_row_each else result for k in self._rows(indices)]

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """False for each copy, since no copy can be wrapped by itself."""
        return [False] * len(self._rows(indices))

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """A picture of each copy if the render mode is rgb_array; otherwise None for each copy."""
        pictures: Any = self.env.render() if self.render_mode == "rgb_array" else [None] * self.num_envs
        return list(pictures)

    def _rows(self, indices: Any) -> list[int]:
        return list(self._get_indices(indices))


class StopAtBudget(BaseCallback):
    """End `learn` when the budget is spent. Without this callback, `learn` ends with the error BudgetExhausted.

    It works with every form of these environments: one that is made by its id, `as_sb3_vec_env`, `make_vec_env`, with or
    without wrappers. If each copy has a budget of its own, `learn` ends when the first of them is spent. A DummyVecEnv
    may hold environments that share one oracle, which are asked one by one. Then `learn` ends before a step in which more
    sequences could end than may still be asked. The last rollout is not learnt from if it is incomplete, as at the end of
    `total_timesteps`. If nothing is left when `learn` begins, it raises BudgetExhausted at once.
    """

    def _on_training_start(self) -> None:
        if not self._on_step():
            left, spent = min(self._meters())
            raise BudgetExhausted(max(self._needs()), left, left + spent)

    def _on_step(self) -> bool:
        return all(left >= need for (left, _), need in zip(self._meters(), self._needs(), strict=True))

    def _meters(self) -> list[tuple[int, int]]:
        """What is left and what is spent, for each copy."""
        try:
            left, spent = (self.training_env.get_attr(name) for name in ("left", "spent"))
        except AttributeError as error:
            raise BadValue(f"StopAtBudget is for the environments of banel_envs: {error}") from error
        return list(zip(left, spent, strict=True))

    def _needs(self) -> list[int]:
        """How many evaluations each copy's oracle must have left before a step.

        It is 1, or in a DummyVecEnv the number of environments that share the oracle.
        """
        base = self.training_env.unwrapped
        if not isinstance(base, DummyVecEnv):
            return [1] * base.num_envs
        # A DummyVecEnv steps its environments one after the other, so all of them may ask before the callback runs again.
        oracles = [id(oracle) for oracle in base.get_attr("oracle")]
        sharing = Counter(oracles)
        return [sharing[oracle] for oracle in oracles]
