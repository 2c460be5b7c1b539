"""TRL: a reward function for its trainers that asks a desk, and a callback that ends training at the budget.

Written for TRL 1.16 (`GRPOTrainer(..., reward_funcs=reward, callbacks=[stop_at_budget(reward)])`), whose reward functions get
`completions`, `completion_ids` and `trainer_state` and return a float or None for each completion. TRL takes None for a reward
that says nothing, and then counts it as 0; withheld successes arrive as None.

Every batch has a key made of the name, the process's rank, the trainer's step, the call within the step and the sequences. A
run that is resumed from a checkpoint, with the same seed and name at a desk that knows the keys, writes the same completions
again and is answered for nothing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banel_envs.bridges.desk.asker import Asker
from banel_envs.bridges.desk.keys import digest
from banel_envs.bridges.texts import row_of, row_of_ids
from banel_envs.errors import BadValue, MissingExtra
from banel_envs.problem import Problem, Tokens

Read = Callable[[str, list[int]], Tokens | None]
"""A completion's text and ids to a sequence [T], or None where no sequence of the problem is meant."""


def by_text(problem: Problem) -> Read:
    """Reads a completion by its text, without the white space around it."""
    return lambda text, ids: row_of(problem, text.strip())


def by_ids(problem: Problem) -> Read:
    """Reads a completion by its ids, for a model whose vocabulary is the problem's."""
    return lambda text, ids: row_of_ids(problem, ids)


class MeteredReward:
    """A reward function of TRL that asks at a desk.

    A completion that is no sequence of the problem scores 0.0 for nothing: anybody can see that it is none. All others are one
    batch of `Desk.ask`, whose errors end the training: `BudgetExhausted` where the batch does not fit.

    Args:
        desk: a Desk, or a DeskClient where the trainer runs in several processes.
        problem: the public half of the task that the desk's oracle judges.
        read: how a completion is read; `by_text(problem)` by default.
        name: begins every key, at most 80 characters; one for each training run.

    Raises:
        BadValue: the name is empty or too long.
    """

    def __init__(self, desk: Asker, problem: Problem, read: Read | None = None, name: str = "trl") -> None:
        if not 1 <= len(name) <= 80:
            raise BadValue(f"the name is {name!r}; it has 1 to 80 characters")
        self.desk, self.problem, self.name = desk, problem, name
        self.read = read or by_text(problem)
        self.largest = 0  # completions in the largest batch so far
        self.asked = 0  # sequences so far, those of a resumed run that were answered for nothing included
        self.charged = False  # whether the last batch was charged
        self.unwritten = 0  # completions so far that are no sequence of the problem
        self.__name__ = name  # TRL's name for its logs
        self._step, self._calls = -1, 0
        self._lock = threading.Lock()

    def __call__(
        self,
        prompts: list[Any],
        completions: list[Any],
        completion_ids: list[list[int]] | None = None,
        trainer_state: Any = None,
        **_: Any,
    ) -> list[float | None]:
        """The reward of each completion, None where it is withheld."""
        ids = completion_ids or [[] for _ in completions]
        rows = [self.read(_text(said), list(of)) for said, of in zip(completions, ids, strict=True)]
        written = [index for index, row in enumerate(rows) if row is not None]
        self.largest = max(self.largest, len(rows))
        self.unwritten += len(rows) - len(written)
        rewards: list[float | None] = [0.0] * len(rows)
        if written:
            batch = np.stack([row for row in rows if row is not None])
            told = self._asked(batch, int(getattr(trainer_state, "global_step", 0)))
            for index, reward in zip(written, told.tolist(), strict=True):
                rewards[index] = None if np.isnan(reward) else reward
        return rewards

    def _asked(self, batch: Tokens, step: int) -> NDArray[np.float32]:
        """The rewards of the completions that are sequences. A call that raised is not counted, so a retry has its key."""
        with self._lock:
            if step != self._step:
                self._step, self._calls = step, 0
            rank = os.environ.get("RANK", "0")
            key = f"{self.name} rank {rank} step {step} call {self._calls} {digest(batch)[:16]}"
            before = self.desk.left
            rewards = self.desk.ask(batch, key)
            self.charged = self.desk.left < before
            self.asked += len(batch)
            self._calls += 1
        return rewards


def _text(completion: Any) -> str:
    """The text of a completion, which is a text or a conversation of messages."""
    if isinstance(completion, str):
        return completion
    return "".join(str(message.get("content") or "") for message in completion)


def stop_at_budget(reward: MeteredReward) -> Any:
    """A callback of transformers that ends training before a step whose batch would not fit in what is left.

    Without it, `train()` ends with BudgetExhausted at that step. What it leaves is less than a batch of all processes. A resumed
    run that is answered for nothing goes on until it has asked the whole budget itself; a checkpoint holds how much it had asked
    by then. Where it shares the desk with other runs, it may end with BudgetExhausted instead.

    Raises:
        MissingExtra: transformers is not installed.
    """
    try:
        from transformers import TrainerCallback
        from transformers.trainer_callback import ExportableState
    except ImportError as error:
        raise MissingExtra(
            "the callback needs transformers, which comes with TRL: pip install 'banel-envs[trl]'"
        ) from error

    name = "StopAtBudget"

    def kept(self: Any) -> dict[str, Any]:
        return {"args": {}, "attributes": {"asked": reward.asked}}

    def on_train_begin(self: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
        # What was asked before the checkpoint is not asked again, and counts all the same.
        of_checkpoint = (state.stateful_callbacks or {}).get(name) if state.global_step else None
        if isinstance(of_checkpoint, dict):
            reward.asked = max(reward.asked, int(of_checkpoint["attributes"]["asked"]))

    def on_step_end(self: Any, args: Any, state: Any, control: Any, **_: Any) -> Any:
        need = reward.largest * args.world_size
        own = reward.desk.budget - reward.asked * args.world_size
        if own < need or (reward.charged and reward.desk.left < need):
            control.should_training_stop = True
        return control

    does = {"state": kept, "on_train_begin": on_train_begin, "on_step_end": on_step_end}
    return type(name, (TrainerCallback, ExportableState), {**does, "__doc__": "Ends training at the budget."})()
