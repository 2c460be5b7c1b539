"""GenerationVectorEnv: n sequences written at once on one oracle, in flat arrays; as_sb3_vec_env for SB3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from banel_envs.env import (
    RENDER_MODES,
    Observation,
    action_masks,
    check_oracle,
    finished,
    observation_space,
    render_metadata,
)
from banel_envs.errors import BadTokens, BadValue, BudgetExhausted, MissingExtra
from banel_envs.oracle import Feedback, Oracle
from banel_envs.problem import Problem
from banel_envs.task import TASKS

Flags = NDArray[np.bool_]  # [n]


class GenerationVectorEnv(VectorEnv[Observation, NDArray[np.int64], NDArray[Any]]):
    """n copies of GenerationEnv that share one oracle and one budget.

    Observations, actions and rewards are GenerationEnv's with a leading axis n (rewards float64 [n]). A copy that ends
    is reset in the same step (SAME_STEP): its last observation is in `infos["final_obs"]`, its last info in
    `infos["final_info"]`. The copies that end together are asked as one batch, in index order, up to what is left of
    the budget; the rest are truncated with reward 0.0 and `infos["unevaluated"]`, and every later step or reset raises
    BudgetExhausted. A step that raises has written nothing: the same actions can be tried again. Closing releases an
    oracle that `gym.make_vec` made, never one handed in.

        >>> import gymnasium as gym
        >>> envs = gym.make_vec("banel_envs:banel/AdditionAttack-v0", num_envs=2)
        >>> observations, infos = envs.reset(seed=0)
        >>> observations["tokens"].shape, infos["action_mask"].shape
        ((2, 8), (2, 12))
    """

    metadata = {  # noqa: RUF012 (Gymnasium's own declaration)
        "render_modes": RENDER_MODES,
        "render_fps": 4,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self, problem: Problem, oracle: Oracle, n: int, render_mode: str | None = None, *, owns_oracle: bool = False
    ) -> None:
        check_oracle(problem, oracle)
        self.metadata = self.metadata | render_metadata(problem, render_mode)
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
            raise BadValue(f"n is {n!r}; it must be a whole number of copies, at least 1")
        self.problem = problem
        self.oracle = oracle
        self._owns_oracle = owns_oracle
        self.num_envs = int(n)
        self.render_mode = render_mode
        self.single_observation_space = observation_space(problem)
        self.single_action_space = spaces.Discrete(problem.V)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._copies = np.arange(self.num_envs)
        self._tokens = np.full((self.num_envs, problem.T), problem.V, np.int64)  # [n, T]
        self._position = np.zeros(self.num_envs, np.int64)  # [n]
        self._first = np.ones((1, problem.V), np.int8)  # the mask of the empty sequence; asked by reset
        self._begun = False
        self._refused = 0  # finished sequences that found the budget spent

    @property
    def spent(self) -> int:
        """Evaluations charged so far (NRE)."""
        return self.oracle.count

    @property
    def left(self) -> int:
        """Evaluations still to be had."""
        return self.oracle.left

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Empty sequences in every copy. The meter is not touched."""
        super().reset(seed=seed if isinstance(seed, int) else None)
        self._check_budget()
        self._tokens = np.full_like(self._tokens, self.problem.V)
        self._position = np.zeros_like(self._position)
        self._begun = True
        self._first = action_masks(self.problem, self._tokens[:1], self._position[:1])
        return self._observe(), self._info(np.repeat(self._first, self.num_envs, axis=0))

    def step(self, actions: NDArray[np.int64]) -> tuple[Observation, NDArray[np.float64], Flags, Flags, dict[str, Any]]:
        """Write one token in every copy; see the class for what comes back."""
        self._check_budget()
        if not self._begun:
            raise BadValue("no episode has begun; call reset() first")
        actions = self._check_actions(actions)
        tokens, position = self._tokens.copy(), self._position + 1
        tokens[self._copies, self._position] = actions
        done = position == self.problem.T
        if self.problem.end is not None:
            done |= actions == self.problem.end
        masks = action_masks(self.problem, tokens, position)  # [n, V]
        rewards = np.zeros(self.num_envs)  # [n]
        ended = np.flatnonzero(done)
        asked = ended[: self.left + self.oracle.open]
        if len(asked):
            answers = self.oracle(finished(tokens[asked], self.problem))
            rewards[asked] = np.where(np.isnan(answers), 0.0, answers)
        # Only now: had the oracle raised, the same step could be taken again.
        truncated = done.copy()
        truncated[asked] = False
        self._refused = len(ended) - len(asked)
        final = self._final(tokens, position, masks, ended, done, truncated) if len(ended) else {}
        tokens[ended], position[ended], masks[ended] = self.problem.V, 0, self._first
        self._tokens, self._position = tokens, position
        return self._observe(), rewards, done & ~truncated, truncated, self._info(masks) | final

    def render(self) -> tuple[str, ...] | tuple[NDArray[np.uint8], ...] | None:
        """Every copy's sequence so far, as text (ansi) or as a picture (rgb_array)."""
        if self.render_mode is None:
            return None
        if self.render_mode == "rgb_array" and self.problem.image is not None:
            return tuple(map(self.problem.image, self._tokens))
        words = self.problem.vocabulary
        return tuple("".join(words[t] for t in row if t < self.problem.V) for row in self._tokens)

    def close_extras(self, **kwargs: Any) -> None:
        """Release the ledger of an oracle of its own; one that was handed in stays open."""
        if self._owns_oracle:
            self.oracle.close()

    def _check_budget(self) -> None:
        if self._refused:
            raise BudgetExhausted(self._refused, 0, self.oracle.budget)

    def _check_actions(self, actions: Any) -> NDArray[np.int64]:
        array = np.asarray(actions)
        if array.dtype.kind not in "iu" or array.shape != (self.num_envs,):
            raise BadTokens(
                f"actions are {array.dtype} of shape {list(array.shape)}; they are whole numbers [{self.num_envs}]"
            )
        array = array.astype(np.int64, copy=False)
        if (array.view(np.uint64) >= self.problem.V).any():  # as unsigned, one comparison finds both ends
            raise BadTokens(f"actions are {array.min()}..{array.max()}; tokens are 0..{self.problem.V - 1}")
        return array

    def _observe(self) -> Observation:
        return {"tokens": self._tokens.copy(), "position": self._position.copy()}

    def _info(self, masks: NDArray[np.int8]) -> dict[str, Any]:
        return {"action_mask": masks, "_action_mask": np.ones(self.num_envs, bool)}

    def _final(
        self,
        tokens: NDArray[np.int64],
        position: NDArray[np.int64],
        masks: NDArray[np.int8],
        ended: NDArray[np.int64],
        done: Flags,
        truncated: Flags,
    ) -> dict[str, Any]:
        """What Gymnasium's vector environments tell of the copies that ended: last observations and infos."""
        observations = np.empty(self.num_envs, object)  # None in each
        for k, row, length in zip(ended.tolist(), tokens[ended], position[ended], strict=True):
            observations[k] = {"tokens": row, "position": length}
        mask = masks * done[:, None]
        refused = {"unevaluated": truncated.copy(), "_unevaluated": truncated.copy()} if truncated.any() else {}
        return {
            "final_obs": observations,
            "_final_obs": done.copy(),
            "final_info": {"action_mask": mask, "_action_mask": done.copy(), **refused},
            "_final_info": done.copy(),
            **refused,
        }


def make_vector_env(
    task: str,
    num_envs: int = 1,
    *,
    budget: int | None = None,
    feedback: Feedback = "full",
    ledger: str | Path | None = None,
    render_mode: str | None = None,
) -> GenerationVectorEnv:
    """What `gym.make_vec` calls: one oracle, with one budget, for all copies."""
    made = TASKS[task]
    oracle = Oracle(made, budget=budget, feedback=feedback, ledger=ledger)
    return GenerationVectorEnv(made.problem, oracle, num_envs, render_mode, owns_oracle=True)


def as_sb3_vec_env(env: GenerationVectorEnv) -> Any:
    """The same copies as a Stable-Baselines3 VecEnv (terminal_observation and TimeLimit.truncated in its infos).

    Raises:
        MissingExtra: stable-baselines3 is not installed.
    """
    try:
        from banel_envs.sb3 import SB3VecEnv
    except ModuleNotFoundError as error:
        raise MissingExtra("as_sb3_vec_env needs stable-baselines3: pip install 'banel-envs[agents]'") from error
    return SB3VecEnv(env)
