"""Oracle: the only thing that grants reward, and the one meter of what it costs.

One rule: every sequence asked counts 1, repeats, malformed sequences and known successes included. A batch that does
not fit in what is left is refused whole. There is no reset, no setter and no second meter; an oracle belongs to the
process and thread that made it, and any other use raises. Each question is in the ledger before it is evaluated, each
answer before it is given, so a run that was killed goes on by asking the same questions again: the ledger answers.

Python cannot hide an object from its own process: code that goes looking for the reward function finds it. The meter
makes the honest path the only easy one, and the ledger makes the honest path checkable (`banel replay`); to keep the
reward out of the agent's process altogether, run with `--isolate`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args

import numpy as np
from numpy.typing import NDArray

from banel_envs.chain import Ask
from banel_envs.errors import (
    BadReward,
    BadValue,
    BudgetExhausted,
    OpenQuestion,
    OracleClosed,
    OracleMoved,
    ReplayDiverged,
)
from banel_envs.ledger import Ledger
from banel_envs.problem import Problem, Tokens, check_budget
from banel_envs.task import Task
from banel_envs.version import __version__

Feedback = Literal["full", "failures"]


class Oracle:
    """Rewards for sequences, until the budget is spent.

    Args:
        task: what is asked about.
        budget: NRE granted; the task's own by default.
        feedback: "full" returns every reward; "failures" withholds successes (NaN): the paper's regime. Whoever is
            told which failed can infer the rest, so withholding is a rule, not a wall: drop withheld rows before
            anything reads them (`banel_agents.base.ask` does).
        ledger: a file to record into, or to resume from; in memory by default. It is opened at the first question.
        binding: what else the ledger's first line binds (agent, config, seed).

    Raises:
        BadValue: a budget that is not a whole number of at least 1, an unknown feedback.
    """

    __slots__ = ("__pending", "__weakref__", "_binding", "_budget", "_closed", "_done", "_feedback", "_home", "_ledger", "_path", "_problem", "_task")

    def __init__(
        self,
        task: Task,
        *,
        budget: int | None = None,
        feedback: Feedback = "full",
        ledger: str | Path | None = None,
        binding: Mapping[str, Any] | None = None,
    ) -> None:
        if feedback not in get_args(Feedback):
            raise BadValue(f"feedback is {feedback!r}; it is one of {', '.join(get_args(Feedback))}")
        self._task = task
        self._problem = task.problem
        self._budget = task.problem.budget if budget is None else check_budget(budget)
        self._feedback: Feedback = feedback
        self._path = None if ledger is None else Path(ledger)
        self._binding = dict(binding or {})
        self._ledger: Ledger | None = None
        self._closed = False
        self._home = (os.getpid(), threading.current_thread())
        self._done = (0, 0)  # questions answered in this process, and the sequences in them
        self.__pending = 0  # sequences of a question asked in this process and not answered

    @property
    def problem(self) -> Problem:
        """The public half of the task."""
        return self._problem

    @property
    def budget(self) -> int:
        """Sequences that may be asked in all."""
        return self._budget

    @property
    def count(self) -> int:
        """Sequences asked so far (NRE), an unanswered question's included."""
        return self._done[1] + self.__pending

    @property
    def left(self) -> int:
        """Sequences that may still be asked."""
        return self._budget - self.count

    @property
    def feedback(self) -> Feedback:
        """What is told: "full", or "failures" with successes withheld."""
        return self._feedback

    @property
    def ledger(self) -> Ledger:
        """The record of every question and answer, for whoever checks the run; agents have no use for it."""
        self._check_home()
        return self._open()

    def __call__(self, tokens: object) -> NDArray[np.float32]:
        """Rewards of sequences [n, T]: float32 [n], 0 failed, 1 success, NaN withheld.

        Raises:
            BadTokens: not sequences of this problem; nothing is charged.
            BudgetExhausted: n is more than what is left; nothing is evaluated or charged.
            OracleMoved: called from another process or thread than the one that made it.
            OpenQuestion: an earlier question was interrupted and has to be asked again first.
            ReplayDiverged: resuming from a ledger, this is not the question it holds.
        """
        self._check_home()
        clean = self._problem.check_tokens(tokens)
        if len(clean) == 0:
            return np.empty(0, np.float32)
        ledger = self._open()
        number, spent = self._done
        if number < len(ledger.asks):
            ask = ledger.asks[number]
            self._check_same(ask, clean, number)
        else:
            if len(clean) > self.left:
                raise BudgetExhausted(len(clean), self.left, self._budget)
            ask = ledger.ask(clean)
        self.__pending = ask.n
        if ask.open:
            ask = self._evaluate(ledger, number, clean)
        self._done, self.__pending = (number + 1, spent + ask.n), 0
        rewards = ask.rewards.astype(np.float32)
        if self._feedback == "failures":
            rewards[rewards == 1] = np.nan
        return rewards

    def close(self) -> None:
        """Release the ledger; every later question raises OracleClosed."""
        self._check_home()
        self._closed = True
        if self._ledger is not None:
            self._ledger.close()

    def __copy__(self) -> NoReturn:
        raise OracleMoved("an oracle cannot be copied: share the one, or make another with its own budget and ledger")

    def __deepcopy__(self, memo: object) -> NoReturn:
        self.__copy__()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise OracleMoved(
            "an oracle cannot be pickled or sent to another process: ask in the process that made it, "
            "or use GenerationVectorEnv for many copies in one process"
        )

    def _check_home(self) -> None:
        pid, thread = self._home
        if os.getpid() != pid or threading.current_thread() is not thread:
            raise OracleMoved(
                "an oracle answers only in the process and thread that made it: nothing was charged; "
                "gather the sequences there and ask them as one batch"
            )

    def _open(self) -> Ledger:
        if self._closed:
            raise OracleClosed("this oracle was closed; make another, with the same ledger to go on where it was")
        if self._ledger is None:
            header = {
                "task": self._problem.id,
                "digest": self._task.digest,
                "vocabulary": self._problem.V,
                "horizon": self._problem.T,
                "budget": self._budget,
                "feedback": self._feedback,
                "version": __version__,
                **self._binding,
            }
            self._ledger = Ledger.in_memory(header) if self._path is None else Ledger.open(self._path, header)
        return self._ledger

    def _check_same(self, ask: Ask, tokens: Tokens, number: int) -> None:
        ledger = self._open()
        if ask.n == len(tokens) and ask.packed == ledger.pack(tokens):
            return
        if self.__pending:
            raise OpenQuestion(
                f"question {number} ({ask.n} sequences) was interrupted before its answer; ask it again first, "
                f"it is charged once"
            )
        held = ledger.tokens(ask)
        row = next((i for i, (a, b) in enumerate(zip(held, tokens, strict=False)) if not np.array_equal(a, b)), None)
        where = f"its row {row} is {self._problem.decode(held[row : row + 1])[0]!r}, asked {self._problem.decode(tokens[row : row + 1])[0]!r}" if row is not None else "they differ in length"
        raise ReplayDiverged(
            f"question {number} is not the one in the ledger {ledger.path or ''}: it holds {ask.n} sequences, "
            f"{len(tokens)} were asked; {where}. Replay needs the same package, agent, seed, processor kind and threads"
        )

    def _evaluate(self, ledger: Ledger, number: int, tokens: Tokens) -> Ask:
        """Ask the reward for the rows that have no answer yet, and record what comes."""
        rows = np.flatnonzero(ledger.asks[number].rewards < 0)
        result: Any = self._task.reward(tokens[rows])
        if hasattr(result, "__next__"):
            for start, stop, rewards in result:
                if not 0 <= start < stop <= len(rows):
                    raise BadReward(f"the reward answered rows {start}..{stop} of {len(rows)}")
                self._record(ledger, rows[start:stop], rewards)
        else:
            self._record(ledger, rows, result)
        if ledger.asks[number].open:
            missing = int((ledger.asks[number].rewards < 0).sum())
            raise BadReward(f"the reward left {missing} of {len(rows)} sequences unanswered; they stay open")
        return ledger.asks[number]

    def _record(self, ledger: Ledger, rows: NDArray[np.int64], rewards: Any) -> None:
        threshold = self._task.threshold
        values = np.asarray(rewards, np.float64)
        if values.shape != rows.shape:
            raise BadReward(f"the reward answered shape {list(values.shape)} to {len(rows)} sequences")
        if np.isnan(values).any():
            raise BadReward("the reward answered NaN; it must decide every sequence")
        if threshold is None and not np.isin(values, (0, 1)).all():
            odd = values[~np.isin(values, (0, 1))][0]
            raise BadReward(f"the reward answered {odd}; give 0 or 1, or give the Task a threshold")
        success = values == 1 if threshold is None else values >= threshold
        for run in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows) != 1) + 1):  # neighbouring rows
            real = None if threshold is None else values[run]
            ledger.answer(int(rows[run[0]]), success[run].astype(np.int8), real)
