"""GenerationVectorEnv: n sequences written at once on one oracle, in flat arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from banel_envs.automaton import Automaton
from banel_envs.environments.arguments import Seeds, check_autoreset_mode, check_reset_mask, check_seeds
from banel_envs.environments.env import (
    RENDER_MODES,
    Observation,
    action_masks,
    check_oracle,
    has_no_picture,
    no_picture,
    observation_space,
    pad_ended,
    render_metadata,
)
from banel_envs.errors import BadTokens, BadValue, BudgetExhausted
from banel_envs.meter.oracle import Feedback, Oracle
from banel_envs.problem import Problem
from banel_envs.task import TASKS

Flags = NDArray[np.bool_]  # [n]


class GenerationVectorEnv(VectorEnv[Observation, NDArray[np.int64], NDArray[Any]]):
    """n copies of GenerationEnv that share one oracle and one budget.

    Observations, actions and rewards are those of GenerationEnv with a leading axis n (rewards are float64 [n]). Infos have
    the form of Gymnasium's SyncVectorEnv. `autoreset_mode` says what happens to a copy that has ended, as it does there:

    - "SameStep", the default: the copy is reset in the same step. Its last observation is in `infos["final_obs"]` and its
      last info in `infos["final_info"]`.
    - "NextStep", which some wrappers need: the copy's next step ignores its action, resets it and costs nothing.
    - "Disabled", which TorchRL needs: call `reset(options={"reset_mask": ended})` before the next step.

    The sequences that end in one step are one question, in the order of the copies. If the budget is too small for all of
    them, the last ones are truncated with reward 0.0 and `infos["unevaluated"]`, and every later step or reset raises
    BudgetExhausted. A step that raises has written nothing, so the same actions can be tried again. Closing the
    environment closes an oracle that `gym.make_vec` made, but never one that was given to it.

        >>> import numpy as np
        >>> import gymnasium as gym
        >>> envs = gym.make_vec("banel_envs:banel/AdditionAttack-v0", num_envs=2, autoreset_mode="Disabled")
        >>> observations, infos = envs.reset(seed=0)
        >>> observations["tokens"].shape, infos["action_mask"].shape
        ((2, 8), (2, 12))
        >>> observations, rewards, terminated, truncated, infos = envs.step(np.array([11, 1]))  # 11 ends a sequence
        >>> terminated, envs.unwrapped.spent
        (array([ True, False]), 1)
        >>> envs.reset(options={"reset_mask": terminated})[0]["position"]
        array([0, 1])
    """

    metadata = {  # noqa: RUF012 (Gymnasium's own declaration)
        "render_modes": RENDER_MODES,
        "render_fps": 4,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        problem: Problem,
        oracle: Oracle,
        n: int,
        render_mode: str | None = None,
        *,
        autoreset_mode: str | AutoresetMode = AutoresetMode.SAME_STEP,
        owns_oracle: bool = False,
    ) -> None:
        check_oracle(problem, oracle)
        self.autoreset_mode = check_autoreset_mode(autoreset_mode)
        self._resets_at_once = self.autoreset_mode is AutoresetMode.SAME_STEP
        rendering = render_metadata(problem, render_mode)
        self.metadata = self.metadata | rendering | {"autoreset_mode": self.autoreset_mode}
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
            raise BadValue(f"n is {n!r}; it must be a whole number of copies, at least 1")
        self.problem = problem
        self.oracle = oracle
        self._owns_oracle = owns_oracle
        self.num_envs = int(n)
        self._has_no_picture = has_no_picture(problem, render_mode)
        self.render_mode = None if self._has_no_picture else render_mode
        self.single_observation_space = observation_space(problem)
        self.single_action_space = spaces.Discrete(problem.V)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._copies = np.arange(self.num_envs)
        self._every = np.ones(self.num_envs, bool)
        self._tokens = np.full((self.num_envs, problem.T), problem.V, np.int64)  # [n, T]
        self._position = np.zeros(self.num_envs, np.int64)  # [n]
        self._first = np.ones((1, problem.V), np.int8)  # the mask of the empty sequence, which reset computes
        self._grammar = problem.allowed if isinstance(problem.allowed, Automaton) else None
        self._state = np.zeros(self.num_envs, np.int64)  # [n]: the grammar's, if it has states
        self._started = False
        self._idle: Flags | None = None  # the copies that have ended and are not yet reset; None if there are none
        self._refused = 0  # how many sequences ended when the budget was spent

    @property
    def spent(self) -> int:
        """The NRE: how many evaluations were charged so far."""
        return self.oracle.count

    @property
    def left(self) -> int:
        """How many evaluations are left."""
        return self.oracle.left

    def reset(self, *, seed: Seeds = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        """Start an empty sequence in every copy, or in those of options["reset_mask"], bool [n].

        The budget is not restored.

        Raises:
            BadValue: the seed or the mask is not valid, or some copies are to be reset before all of them were reset once.
        """
        seeds = check_seeds(seed, self.num_envs)
        which = check_reset_mask(options, self.num_envs)
        super().reset(seed=next((one for one in seeds if one is not None), None))
        self._check_budget()
        if not self._started and not which.all():
            raise BadValue('no episode has started; call reset() without a "reset_mask" first')
        blank = np.full_like(self._tokens, self.problem.V)
        # All copies start with the same empty sequence, so its mask is computed once.
        first = action_masks(self.problem, blank[:1], np.zeros(1, np.int64))
        self._tokens = np.where(which[:, None], blank, self._tokens)
        self._position = np.where(which, 0, self._position)
        self._state = np.where(which, 0, self._state)
        self._idle = None if self._idle is None else some(self._idle & ~which)
        self._started, self._first = True, first
        return self._observe(), {"action_mask": first * which[:, None], "_action_mask": which}

    def step(self, actions: NDArray[np.int64]) -> tuple[Observation, NDArray[np.float64], Flags, Flags, dict[str, Any]]:
        """Write one token in every copy; the class says what is returned."""
        self._check_budget()
        self._check_turn()
        actions = self._check_actions(actions)
        tokens, position, done = self._write(actions)
        state = self._state if self._grammar is None else self._next_state(self._grammar, actions)
        masks = self._masks(tokens, position, state)  # [n, V]
        rewards = np.zeros(self.num_envs)  # [n]
        (ended,) = done.nonzero()
        # The sequences of an open question were charged before the run was killed, so they do not need what is left.
        asked = ended[: self.left + self.oracle.open]
        withheld = None
        if len(asked):
            answers = self.oracle(pad_ended(tokens.take(asked, axis=0), self.problem))
            if self.oracle.feedback != "full":
                hidden = np.isnan(answers)
                answers[hidden], withheld = 0.0, asked[hidden]
            rewards[asked] = answers
        truncated = np.zeros(self.num_envs, bool)
        # The state changes only now: if the oracle raises, the same step can be tried again.
        self._refused = len(ended) - len(asked)
        if self._refused:
            truncated[ended[len(asked) :]] = True
        infos: dict[str, Any] = {"action_mask": masks, "_action_mask": self._every.copy()}
        idle = None
        if len(ended):
            told = self._told(truncated, withheld)
            if self._resets_at_once:
                told = self._end(tokens, position, masks, ended, done, told)
                state[ended] = 0
            else:
                idle = done.copy()
            infos |= told
        self._tokens, self._position, self._state, self._idle = tokens, position, state, idle
        return self._observe(), rewards, done ^ truncated, truncated, infos

    def action_masks(self) -> NDArray[np.bool_]:
        """Which tokens [n, V] keep each copy's sequence well-formed. MaskablePPO looks for a method of this name."""
        return self._masks(self._tokens, self._position, self._state).astype(bool)

    def render(self) -> tuple[str, ...] | tuple[NDArray[np.uint8], ...] | None:
        """Every copy's sequence so far, as text (ansi) or as a picture (rgb_array).

        Raises:
            BadValue: rgb_array was asked for, and the task has no pictures.
        """
        if self._has_no_picture:
            raise no_picture(self.problem)
        if self.render_mode is None:
            return None
        if self.render_mode == "rgb_array" and self.problem.image is not None:
            return tuple(map(self.problem.image, self._tokens))
        return tuple(self.problem.text(row[row < self.problem.V]) for row in self._tokens)

    def close_extras(self, **kwargs: Any) -> None:
        """Close the environment's own oracle and its ledger; an oracle that was given to it stays open."""
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
        acting = array if self._idle is None else array[~self._idle]  # a copy that has ended ignores its action
        # As unsigned numbers negative actions are very large, so one comparison finds both ends.
        if len(acting) and acting.view(np.uint64).max() >= self.problem.V:
            raise BadTokens(f"actions are {array.min()}..{array.max()}; tokens are 0..{self.problem.V - 1}")
        return array

    def _check_turn(self) -> None:
        if not self._started:
            raise BadValue("no episode has started; call reset() first")
        if self._idle is not None and self.autoreset_mode is AutoresetMode.DISABLED:
            raise BadValue(
                f"copies {np.flatnonzero(self._idle).tolist()} have ended, and nothing resets them by itself "
                f'(autoreset_mode="Disabled"); call reset(options={{"reset_mask": terminated | truncated}}) first'
            )

    def _write(self, actions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], Flags]:
        """Tokens [n, T] and positions [n] after the actions were written, and which copies ended by this step [n]."""
        tokens, position = self._tokens.copy(), self._position + 1
        live = None if self._idle is None else ~self._idle
        if live is None:
            tokens[self._copies, self._position] = actions
        else:  # only in NEXT_STEP: this is the step that resets the copies that have ended
            tokens[live, self._position[live]] = actions[live]
            tokens[~live], position[~live] = self.problem.V, 0
        # A sequence ends at the horizon or with the end token, whichever comes first.
        done = position == self.problem.T
        if self.problem.end is not None:
            done |= actions == self.problem.end
        return tokens, position, done if live is None else done & live

    def _next_state(self, grammar: Automaton, actions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The grammar's states [n] after the actions; 0 for a copy that this step resets, whose action may be anything."""
        if self._idle is None:
            return grammar.step(self._state, actions)
        return np.where(self._idle, 0, grammar.step(self._state, np.where(self._idle, 0, actions)))

    def _masks(
        self, tokens: NDArray[np.int64], position: NDArray[np.int64], state: NDArray[np.int64]
    ) -> NDArray[np.int8]:
        """The action mask [n, V] of every copy."""
        if self._grammar is None:
            return action_masks(self.problem, tokens, position)
        return self._grammar.mask.take(state, axis=0)

    def _observe(self) -> Observation:
        return {"tokens": self._tokens.copy(), "position": self._position.copy()}

    def _told(self, unevaluated: Flags, withheld: NDArray[np.int64] | None) -> dict[str, Any]:
        """What the infos of the copies that ended hold beside the mask, in the form of Gymnasium's vector environments."""
        told: dict[str, Any] = {}
        if self._refused:
            told |= {"unevaluated": unevaluated.copy(), "_unevaluated": unevaluated.copy()}
        if withheld is not None and len(withheld):
            flags = np.zeros(self.num_envs, bool)
            flags[withheld] = True
            told |= {"withheld": flags, "_withheld": flags.copy()}
        return told

    def _end(
        self,
        tokens: NDArray[np.int64],
        position: NDArray[np.int64],
        masks: NDArray[np.int8],
        ended: NDArray[np.int64],
        done: Flags,
        told: dict[str, Any],
    ) -> dict[str, Any]:
        """Reset the copies that ended, in place, and give what Gymnasium's infos say of them in SAME_STEP."""
        observations = np.empty(self.num_envs, object)  # None in each
        rows = zip(ended.tolist(), tokens.take(ended, axis=0), position.take(ended), strict=True)
        for k, row, length in rows:
            observations[k] = {"tokens": row, "position": length}
        last = np.zeros_like(masks)
        last[ended] = masks.take(ended, axis=0)
        final = {"action_mask": last, "_action_mask": done.copy(), **told}
        tokens[ended], position[ended], masks[ended] = self.problem.V, 0, self._first
        return {
            "final_obs": observations,
            "_final_obs": done.copy(),
            "final_info": final,
            "_final_info": done.copy(),
            **{key: told[key] for key in ("unevaluated", "_unevaluated") if key in told},
        }


def some(flags: Flags) -> Flags | None:
    """The flags, or None if all of them are False."""
    return flags if flags.any() else None


def make_vector_env(
    task: str,
    num_envs: int = 1,
    *,
    budget: int | None = None,
    feedback: Feedback = "full",
    ledger: str | Path | None = None,
    render_mode: str | None = None,
    autoreset_mode: str | AutoresetMode = AutoresetMode.SAME_STEP,
) -> GenerationVectorEnv:
    """What `gym.make_vec` calls: it makes one environment whose copies share one oracle and one budget."""
    made = TASKS[task]
    oracle = Oracle(made, budget=budget, feedback=feedback, ledger=ledger)
    return GenerationVectorEnv(
        made.problem, oracle, num_envs, render_mode, autoreset_mode=autoreset_mode, owns_oracle=True
    )
