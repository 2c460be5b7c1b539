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

    # No __dict__: assigning a misspelt or read-only name raises instead of quietly shadowing the meter.
    __slots__ = (
        "__weakref__",
        "_binding",
        "_budget",
        "_closed",
        "_feedback",
        "_home",
        "_ledger",
        "_meter",
        "_path",
        "_problem",
        "_task",
    )

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
        if ledger is not None and not isinstance(ledger, str | os.PathLike):
            raise BadValue(f"ledger is {ledger!r}; it is the path of a file, or None to keep it in memory")
        self._path = None if ledger is None else Path(ledger)
        self._binding = dict(binding or {})
        self._ledger: Ledger | None = None
        self._closed = False
        self._home = (os.getpid(), threading.current_thread())
        # (questions answered, the sequences in them, sequences of a question not yet answered): one tuple, replaced
        # as one, so that an interrupt finds it before or after a change and never in between.
        self._meter = (0, 0, 0)

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
        """Sequences asked so far (NRE), an open question's included."""
        _, answered, pending = self._meter
        return answered + pending

    @property
    def left(self) -> int:
        """Sequences that may still be asked."""
        return self._budget - self.count

    @property
    def open(self) -> int:
        """Sequences of a question that was interrupted here before its answer: charged, and to be asked again first."""
        return self._meter[2]

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
        ask = self._ask(ledger, clean)
        number, answered, pending = self._meter
        if ask.open:
            ask = self._evaluate(ledger, number, clean)
        self._meter = (number + 1, answered + pending, 0)
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
            header = self._header()
            self._ledger = Ledger.in_memory(header) if self._path is None else Ledger.open(self._path, header)
        return self._ledger

    def _header(self) -> dict[str, Any]:
        """What the ledger's first line binds; `judges` only where the task has some."""
        versions = self._task.judge_versions()
        return {
            "task": self._problem.id,
            "digest": self._task.digest,
            "vocabulary": self._problem.V,
            "horizon": self._problem.T,
            "budget": self._budget,
            "feedback": self._feedback,
            "version": __version__,
            **({"judges": versions} if versions else {}),
            **self._binding,
        }

    def _ask(self, ledger: Ledger, tokens: Tokens) -> Ask:
        """The next question, charged: the one that the ledger holds already, or a new line in it."""
        number, answered, pending = self._meter
        if number < len(ledger.asks):
            ask = ledger.asks[number]
            if ask.n != len(tokens) or ask.packed != ledger.pack(tokens):
                if pending:
                    raise OpenQuestion(
                        f"question {number} ({ask.n} sequences) was interrupted before its answer; "
                        f"ask it again first, it is charged once"
                    )
                raise ReplayDiverged(_divergence(ledger, number, tokens, self._problem))
            self._meter = (number, answered, ask.n)
            return ask
        self._meter = (number, answered, 0)  # a question that never reached the ledger was never asked
        if len(tokens) > self.left:
            raise BudgetExhausted(len(tokens), self.left, self._budget)
        self._meter = (number, answered, len(tokens))
        try:
            return ledger.ask(tokens)
        except BaseException:
            if len(ledger.asks) == number:  # else the line was stored, and what failed came after it
                self._meter = (number, answered, 0)
            raise

    def _evaluate(self, ledger: Ledger, number: int, tokens: Tokens) -> Ask:
        """Ask the reward for the rows that have no answer yet, and record what comes."""
        rows = np.flatnonzero(ledger.asks[number].rewards < 0)
        result: Any = self._task.reward(tokens[rows])
        if hasattr(result, "__next__"):
            for part in result:
                start, stop, rewards = _check_part(part, len(rows))
                if not (ledger.asks[number].rewards[rows[start:stop]] < 0).all():
                    raise BadReward(f"the reward answered some of rows {start}..{stop - 1} a second time")
                self._record(ledger, rows[start:stop], rewards)
        else:
            self._record(ledger, rows, result)
        if ledger.asks[number].open:
            missing = int((ledger.asks[number].rewards < 0).sum())
            raise BadReward(f"the reward left {missing} of {len(rows)} sequences unanswered; they stay open")
        return ledger.asks[number]

    def _record(self, ledger: Ledger, rows: NDArray[np.int64], rewards: Any) -> None:
        """Check the rewards of these rows and write them down, one line for each run of neighbouring rows."""
        threshold = self._task.threshold
        values = _check_rewards(rewards, len(rows), threshold)
        success = values == 1 if threshold is None else values >= threshold
        whole = rows[-1] - rows[0] == len(rows) - 1  # rows rise, and nearly always without a gap
        breaks = [] if whole else (np.flatnonzero(np.diff(rows) != 1) + 1).tolist()
        for low, high in zip([0, *breaks], [*breaks, len(rows)], strict=True):
            real = None if threshold is None else values[low:high]
            ledger.answer(int(rows[low]), success[low:high].astype(np.int8), real)


def _check_part(part: Any, n: int) -> tuple[int, int, Any]:
    """One piece of an answer to n rows; BadReward unless it is (first row, row after the last, their rewards)."""
    if not isinstance(part, tuple) or len(part) != 3:
        raise BadReward(f"the reward answered {part!r} as a part; a part is (first row, row after the last, rewards)")
    start, stop, rewards = part
    whole = all(isinstance(row, int | np.integer) and not isinstance(row, bool) for row in (start, stop))
    if not whole or not 0 <= start < stop <= n:
        raise BadReward(f"the reward answered rows {start!r}..{stop!r} of {n}; a part is one row or more of 0..{n}")
    return int(start), int(stop), rewards


def _check_rewards(rewards: Any, n: int, threshold: float | None) -> NDArray[np.float64]:
    """The rewards of n rows as float64 [n]; BadReward unless each row has one that decides it."""
    try:
        values = np.asarray(rewards)
        if values.dtype.kind not in "biufO":
            raise TypeError(f"{values.dtype} is not a number")
        values = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise BadReward(f"the reward answered a {type(rewards).__name__}, not {n} numbers: {error}") from error
    if values.shape != (n,):
        raise BadReward(f"the reward answered shape {list(values.shape)} to {n} sequences")
    undecided = np.isnan(values) if threshold is not None else (values != 0) & (values != 1)  # NaN is neither
    if undecided.any():
        if np.isnan(values).any():
            raise BadReward("the reward answered NaN; it must decide every sequence")
        raise BadReward(f"the reward answered {values[undecided][0]}; give 0 or 1, or give the Task a threshold")
    return values


def _divergence(ledger: Ledger, number: int, tokens: Tokens, problem: Problem) -> str:
    """What the ledger holds as this question and what was asked instead, up to the first row that differs."""
    held = ledger.tokens(ledger.asks[number])
    where = "they agree as far as both go"
    for row, (old, new) in enumerate(zip(held, tokens, strict=False)):
        if not np.array_equal(old, new):
            where = f"its row {row} is {problem.decode(old[None])[0]!r}, asked {problem.decode(new[None])[0]!r}"
            break
    return (
        f"question {number} is not the one in the ledger {ledger.path or ''}: it holds {len(held)} sequences, "
        f"{len(tokens)} were asked; {where}. Replay needs the same package, agent, seed, processor kind, threads and kernel"
    )
