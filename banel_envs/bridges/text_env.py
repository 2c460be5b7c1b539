"""TextEnv: a task as a Gymnasium environment of one step an episode, for programs that write whole texts.

The observation is the question, the action is the whole answer as a text, and the step that judges it ends the episode.
`GenerationEnv` is the environment for programs that choose token by token.
"""

from __future__ import annotations

import string
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from banel_envs.bridges.desk.asker import Asker, OneByOne
from banel_envs.bridges.texts import question_of, row_of
from banel_envs.errors import BadValue
from banel_envs.names import shown
from banel_envs.problem import Problem

LONGEST = 50  # characters of a token, where tokens have no printed forms; string.printable has twice as many


class TextEnv(gym.Env[str, str]):
    """Asks at a desk; each step is an evaluation, repeats too.

    The reward is 1.0 for a success and 0.0 for a failure. A withheld success has the reward 0.0 and `info["withheld"]`. A text
    that is no sequence of the problem has the reward 0.0 and `info["unwritten"]`, and is not charged. Such texts may come for
    ever, since they spend nothing: a loop that waits for the budget to be spent should count them and stop.

    Where the problem has an `encoder`, any text may be written, and `action_space` is what its samples are drawn of: printable
    ASCII, at most LONGEST characters a token. Where its vocabulary is a number and it has none, texts cannot be read.

    Args:
        problem: the public half of the task that the desk's oracle judges.
        desk: a Desk, or a DeskClient.
        question: what is observed; by default `banel_envs.bridges.texts.question_of(problem)`: the problem's prompt, the words
            that an answer is made of, and an example of the form.
        name: begins the keys; see `OneByOne`.

    Raises:
        BadValue: the problem's tokens have no printed forms, and it has no encoder.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (as Gymnasium declares it)

    def __init__(self, problem: Problem, desk: Asker, question: str | None = None, name: str | None = None) -> None:
        self.problem, self.question = problem, question_of(problem) if question is None else question
        words = _writable(problem)
        longest = problem.T * max(map(len, words))
        self.observation_space = spaces.Text(
            max(len(self.question), 1), min_length=0, charset=_letters([self.question])
        )
        self.action_space = spaces.Text(longest, min_length=0, charset=_letters(words))
        self._ask = OneByOne(desk, name)
        self._asked = True  # the episode has ended, or none has begun

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Begin an episode: the question. Nothing is drawn from the seed."""
        super().reset(seed=seed)
        self._asked = False
        return self.question, {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Judge an answer, which ends the episode.

        Raises:
            BadValue: the action is no text, or the episode has ended; nothing is charged.
            BudgetExhausted: nothing is left.
            BanelError: as for Desk.ask. The episode goes on, and the same text again is its retry.
        """
        if not isinstance(action, str):
            raise BadValue(f"the action is {shown(action)}; it is the whole answer as a text")
        if self._asked:
            raise BadValue("the episode has ended, since an answer ends it; call reset() before the next")
        row = row_of(self.problem, action)
        told = 0.0 if row is None else self._ask(row)
        self._asked = True
        info = {"unwritten": True} if row is None else {"withheld": True} if np.isnan(told) else {}
        return self.question, 0.0 if np.isnan(told) else told, True, False, info


def _writable(problem: Problem) -> list[str]:
    """Texts that one token may stand for; of a problem that takes any text, one that is as long as most, of all of ASCII."""
    if problem.encoder is not None:
        return [string.printable[:LONGEST], string.printable[LONGEST:]]
    return [word for index, word in enumerate(problem.words) if index != problem.end]


def _letters(texts: list[str]) -> str:
    """Every character of the texts, once; a space where there is none, since a space of texts needs one."""
    return "".join(sorted(set("".join(texts)))) or " "
