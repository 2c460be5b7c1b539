"""GenerationEnv: one episode writes one sequence, one action is one token, one episode costs one evaluation."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from banel_envs.environments import separate
from banel_envs.environments.arguments import check_seed
from banel_envs.errors import BadTokens, BadValue, BudgetExhausted
from banel_envs.meter.oracle import Feedback, Oracle, check_meter
from banel_envs.problem import Problem
from banel_envs.task import TASKS

Observation = dict[str, Any]

RENDER_MODES = ["ansi", "rgb_array"]


def observation_space(problem: Problem) -> spaces.Dict:
    """The observation: `tokens`, int64 [T], is the sequence so far, with V where nothing is written yet.

    `position` is how many tokens are written, 0..T.
    """
    return spaces.Dict(
        tokens=spaces.MultiDiscrete([problem.V + 1] * problem.T),
        position=spaces.Discrete(problem.T + 1),
    )


def render_metadata(problem: Problem, render_mode: str | None) -> dict[str, Any]:
    """What an environment of this problem can render; BadValue unless render_mode is None or one of RENDER_MODES."""
    modes = RENDER_MODES if problem.image is not None else RENDER_MODES[:1]
    if render_mode is not None and render_mode not in RENDER_MODES:
        raise BadValue(f"render_mode is {render_mode!r}; on {problem.id} it is None or one of {', '.join(modes)}")
    return {"render_modes": modes, "render_fps": 4}


def has_no_picture(problem: Problem, render_mode: str | None) -> bool:
    """Whether pictures are asked for and the task has none.

    Stable-Baselines3 asks for "rgb_array" whenever it makes an environment by its id, so asking must be no error. The
    environment's `render_mode` is then None, and only `render()` raises.
    """
    return render_mode == "rgb_array" and problem.image is None


def no_picture(problem: Problem) -> BadValue:
    """The error of render() where pictures were asked for and the task has none."""
    return BadValue(f"{problem.id} has no pictures (render_mode='rgb_array'); make it with render_mode='ansi' for text")


def check_oracle(problem: Problem, oracle: Oracle) -> None:
    """Raise BadValue unless this is an Oracle, and answers for this problem."""
    check_meter(oracle, stand_ins=True)
    if oracle.problem is not problem:
        raise BadValue(f"the oracle answers for {oracle.problem.id}, not for {problem.id}: give one of the same task")


class GenerationEnv(gym.Env[Observation, np.int64]):
    """Write a sequence token by token; the reward of the last token is the oracle's answer.

    Observation: Dict(tokens int64 [T], position int64), see observation_space. Action: a token, 0..V-1. Reward: 0.0
    until the sequence ends (at the end token, or at T tokens); then 1.0 for a success, and 0.0 for a failure or a
    withheld success. For a withheld success (feedback "failures" or "typed"), where the oracle answers NaN, `info["withheld"]` is
    True. `info["action_mask"]` int8 [V], and `action_masks()` bool [V], mark the tokens that keep the sequence
    well-formed. They are advice and are never enforced.

    Once the budget is spent, a sequence that ends is *truncated* with reward 0.0 and `info["unevaluated"]`, and the next
    step or reset raises BudgetExhausted. `spent` and `left` are what the oracle has charged and has left. A step that
    raises has written nothing, so the same action can be tried again. Closing the environment closes an oracle that
    `gym.make` made, but never one that was given to it.

        >>> import gymnasium as gym
        >>> env = gym.make("banel_envs:banel/AdditionAttack-v0")
        >>> observation, info = env.reset(seed=0)
        >>> for token in [1, 10, 1, 11]:  # 1+1=
        ...     observation, reward, terminated, truncated, info = env.step(token)
        >>> reward, terminated, env.unwrapped.spent
        (0.0, True, 1)
    """

    metadata = {"render_modes": RENDER_MODES, "render_fps": 4}  # noqa: RUF012 (Gymnasium's own declaration)

    def __init__(
        self, problem: Problem, oracle: Oracle, render_mode: str | None = None, *, owns_oracle: bool = False
    ) -> None:
        check_oracle(problem, oracle)
        self.metadata = render_metadata(problem, render_mode)
        self.problem = problem
        self.oracle = oracle
        self._owns_oracle = owns_oracle
        self._has_no_picture = has_no_picture(problem, render_mode)
        self.render_mode = None if self._has_no_picture else render_mode
        self.observation_space = observation_space(problem)
        self.action_space = spaces.Discrete(problem.V)
        self._tokens = np.full(problem.T, problem.V, np.int64)  # [T]
        self._position = 0
        self._live = False  # whether an episode is going on
        self._refused = False  # whether a sequence ended when the budget was spent

    @property
    def spent(self) -> int:
        """The NRE: how many evaluations were charged so far."""
        return self.oracle.count

    @property
    def left(self) -> int:
        """How many evaluations are left."""
        return self.oracle.left

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an empty sequence. The budget is not restored: only a new environment has a new budget."""
        super().reset(seed=check_seed(seed))
        self._check_budget()
        self._tokens = np.full(self.problem.T, self.problem.V, np.int64)
        self._position, self._live = 0, True
        return self._observe(), self._info()

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Write one token; the class says what is returned."""
        # A loop that makes environments makes them before any of them is stepped; see separate.py.
        if separate.NEW:
            separate.NEW.clear()
        self._check_budget()
        if not self._live:
            raise BadValue("the episode has ended or not started; call reset() first")
        self._check_action(action)
        tokens, position = self._tokens.copy(), self._position + 1
        tokens[self._position] = action
        ended = bool(action == self.problem.end or position == self.problem.T)
        # A resumed run may have an open question, which is already paid for and can still be answered.
        unevaluated = ended and self.left + self.oracle.open == 0
        answer = 0.0
        if ended and not unevaluated:
            answer = float(self.oracle(pad_ended(tokens[None], self.problem))[0])
        withheld = answer != answer  # NaN
        # The state changes only now: if the oracle raises, the same step can be tried again.
        self._tokens, self._position = tokens, position
        self._live, self._refused = not ended, unevaluated
        info = self._info()
        if unevaluated or withheld:
            info["unevaluated" if unevaluated else "withheld"] = True
        return self._observe(), 0.0 if withheld else answer, ended and not unevaluated, unevaluated, info

    def action_masks(self) -> NDArray[np.bool_]:
        """Which tokens [V] keep the sequence well-formed. sb3-contrib's MaskablePPO looks for a method of this name."""
        return self._mask().astype(bool)

    def render(self) -> str | NDArray[np.uint8] | None:
        """The sequence so far: as text with the meter (ansi), or as a picture [height, width, 3] (rgb_array).

        Raises:
            BadValue: rgb_array was asked for, and the task has no pictures.
        """
        if self._has_no_picture:
            raise no_picture(self.problem)
        if self.render_mode is None:
            return None
        if self.render_mode == "rgb_array" and self.problem.image is not None:
            return self.problem.image(self._tokens)
        # Of a sequence that goes on, only the tokens are shown. The task's printer takes whole sequences.
        if self._position and not self._live:
            written = self.problem.render(pad_ended(self._tokens[None], self.problem)[0])
        else:
            written = self.problem.text(self._tokens[: self._position])
        return f"{written}\n[{self.spent} of {self.oracle.budget} evaluations spent]"

    def close(self) -> None:
        """Close the environment's own oracle and its ledger; an oracle that was given to it stays open."""
        if self._owns_oracle:
            separate.forget(self)
            self.oracle.close()

    def _check_action(self, action: Any) -> None:
        array = np.asarray(action)
        if array.dtype.kind not in "iu" or array.shape != () or not 0 <= array < self.problem.V:
            raise BadTokens(f"action {action!r} is not a token; tokens are whole numbers 0..{self.problem.V - 1}")

    def _check_budget(self) -> None:
        if self._refused:
            raise BudgetExhausted(1, 0, self.oracle.budget)

    def _observe(self) -> Observation:
        return {"tokens": self._tokens.copy(), "position": np.int64(self._position)}

    def _info(self) -> dict[str, Any]:
        return {"action_mask": self._mask()}

    def _mask(self) -> NDArray[np.int8]:
        mask: NDArray[np.int8] = self.problem.action_mask(self._tokens[None, : self._position])[0]  # [V]
        return mask


def action_masks(problem: Problem, tokens: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.int8]:
    """The mask [n, V] of sequences [n, T], of which the first `positions` [n] tokens are written."""
    masks = np.empty((len(tokens), problem.V), np.int8)
    if problem.allowed is None:
        masks.fill(1)
        return masks
    # Rows of one length share one call. The positions become numbers of 8 or 16 bits, because NumPy sorts these by
    # counting, which is faster.
    order = positions.astype(np.min_scalar_type(problem.T)).argsort(kind="stable")
    tokens, ends = tokens.take(order, axis=0), np.bincount(positions).cumsum()
    for position, (low, high) in enumerate(pairwise([0, *ends.tolist()])):
        if low < high:
            masks[low:high] = problem.allowed(tokens[low:high, :position])
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return masks.take(place, axis=0)


def pad_ended(tokens: NDArray[np.int64], problem: Problem) -> NDArray[np.int64]:
    """Ended rows [n, T] as sequences: the blanks after the end become end tokens."""
    return tokens if problem.end is None else np.where(tokens == problem.V, problem.end, tokens)


def make_env(
    task: str,
    *,
    budget: int | None = None,
    feedback: Feedback = "full",
    ledger: str | Path | None = None,
    render_mode: str | None = None,
) -> GenerationEnv:
    """What `gym.make` calls: it makes an environment with its own oracle and its own budget.

    If a loop makes several of them, there is a warning (SeveralBudgets), because each of them spends a whole budget.
    """
    made = TASKS[task]
    oracle = Oracle(made, budget=budget, feedback=feedback, ledger=ledger)
    env = GenerationEnv(made.problem, oracle, render_mode, owns_oracle=True)
    separate.note(env, env.problem.id, env.oracle.budget, ledger)
    return env
