"""OpenEnv: a task as an environment that is served over HTTP and WebSocket, one text an episode, behind a desk.

Written for OpenEnv (github.com/meta-pytorch/OpenEnv; packages `openenv` and `openenv-core`), and run with its versions 0.2.1 and
0.10.0. Its server makes an environment for each session, and all of them ask at the one desk, so they share a budget. An
action has a `text` and may have a `key`: the same answer under the same key is charged once, also from another session after a
connection broke, and, where the desk has a ledger in a file, from another run of the server. Without a key each answer is an
evaluation, repeats too.

Past the budget a step raises BudgetExhausted, which the server sends on as an error: the client raises it as RuntimeError. Every
observation says how many evaluations are left, so that a client can end before.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from banel_envs.bridges.desk.asker import Asker, OneByOne
from banel_envs.bridges.texts import question_of, row_of
from banel_envs.errors import BadValue, MissingExtra
from banel_envs.problem import Problem, Tokens

MOST_SESSIONS = 64


def text_environment(problem: Problem, desk: Asker, *, question: str | None = None, name: str = "openenv") -> type[Any]:
    """A task as a class of OpenEnv environments, whose objects share the desk and may be used in several threads.

    An action is `{"text": ..., "key": ...}`, where the key may be left out. A step judges the text and ends the episode; only the
    same key again is answered after it. The observation has

    - `question`: what is asked;
    - `reward`: 1.0 for a success, 0.0 for a failure, None before the step and for a success that is withheld;
    - `done`: whether the episode has ended;
    - `withheld` and `unwritten`: whether a success is withheld; whether the text is no sequence of the problem, and cost nothing;
    - `left`: evaluations that are left for all.

    Args:
        problem: the public half of the task that the desk's oracle judges.
        desk: a Desk, or a DeskClient.
        question: what is observed; by default the problem's prompt, its words and an example of the form.
        name: begins the keys of the desk. A server that gives the name of its former run, at a desk that knows the keys, answers
            their answers for nothing.

    Raises:
        MissingExtra: OpenEnv is not installed.
    """
    made = _classes()
    asked_for = question_of(problem) if question is None else question
    ask = _asking(desk, name)

    class TextEnvironment(made.Environment):  # type: ignore[misc, name-defined]
        SUPPORTS_CONCURRENT_SESSIONS = True

        def __init__(self) -> None:
            super().__init__()
            self._episode: str | None = None
            self._answered: str | None = None  # the key of this episode's answer, "" where it had none

        def reset(self, seed: int | None = None, episode_id: str | None = None, **_: Any) -> Any:
            self._episode, self._answered = episode_id, None
            return self._seen(reward=None, done=False)

        def step(self, action: Any, timeout_s: float | None = None, **_: Any) -> Any:
            key = action.key or ""
            _check_open(self._answered, key)
            row = row_of(problem, action.text)
            told = 0.0 if row is None else ask(row, key)
            self._answered = key
            reward = None if np.isnan(told) else told
            return self._seen(reward=reward, done=True, withheld=reward is None, unwritten=row is None)

        @property
        def state(self) -> Any:
            done = self._answered is not None
            return made.State(episode_id=self._episode, step_count=int(done), budget=desk.budget, left=desk.left)

        def get_metadata(self) -> Any:
            return made.EnvironmentMetadata(name=problem.id, description=asked_for)

        def _seen(self, **told: Any) -> Any:
            return made.Seen(question=asked_for, left=desk.left, **told)

    TextEnvironment.__doc__ = f"{problem.id}: one text an episode, judged at a desk."
    return TextEnvironment


def text_app(problem: Problem, desk: Asker, *, question: str | None = None, name: str = "openenv") -> Any:
    """A task as OpenEnv's FastAPI application, for uvicorn; the arguments are those of `text_environment`.

    Up to 64 sessions are open at once. Where uvicorn runs several workers, give each a DeskClient.

    Raises:
        MissingExtra: OpenEnv is not installed.
    """
    made = _classes()
    environment = text_environment(problem, desk, question=question, name=name)
    return made.create_fastapi_app(environment, made.Answer, made.Seen, max_concurrent_envs=MOST_SESSIONS)


def _asking(desk: Asker, name: str) -> Callable[[Tokens, str], float]:
    """Asks a sequence [T] under a client's key, or as one more where the key is empty: its reward, NaN where it is withheld."""
    one_by_one = OneByOne(desk)

    def ask(row: Tokens, key: str) -> float:
        return float(desk.ask(row[None], f"{name} {key}")[0]) if key else one_by_one(row)

    return ask


def _check_open(answered: str | None, key: str) -> None:
    """BadValue where the episode has ended, unless the answer that ended it comes again under its key."""
    if answered is not None and (not key or key != answered):
        raise BadValue(
            "the episode has ended, since an answer ends it; reset before the next, or repeat its key for a retry"
        )


@cache
def _classes() -> SimpleNamespace:
    """What is used of OpenEnv, and its action and observation with our fields."""
    try:
        from openenv.core.env_server import Action, Environment, Observation, State, create_fastapi_app
        from openenv.core.env_server.types import EnvironmentMetadata
    except ImportError as error:
        raise MissingExtra("OpenEnv is not installed: pip install 'banel-envs[openenv]'") from error

    class Answer(Action):  # type: ignore[misc]
        """A whole answer as a text, and a key that names it where the same answer may come again."""

        text: str
        key: str | None = None

    class Seen(Observation):  # type: ignore[misc]
        """What is asked, what the answer was told, and what is left of the budget."""

        question: str
        left: int
        withheld: bool = False
        unwritten: bool = False

    used = {"Environment": Environment, "State": State, "EnvironmentMetadata": EnvironmentMetadata}
    return SimpleNamespace(Answer=Answer, Seen=Seen, create_fastapi_app=create_fastapi_app, **used)
