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
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, final, get_args

import numpy as np
from numpy.typing import NDArray

from banel_envs.errors import (
    BadValue,
    BudgetExhausted,
    OpenQuestion,
    OracleBusy,
    OracleClosed,
    OracleMoved,
    OracleSubclassed,
    ReplayDiverged,
)
from banel_envs.meter.answers import Answer, answers
from banel_envs.meter.empty_questions import EmptyQuestions
from banel_envs.meter.ledger import Ledger, divergence
from banel_envs.meter.ledger_format import Ask
from banel_envs.problem import Problem, Tokens, check_budget
from banel_envs.task import Task
from banel_envs.version import BITS, __version__

Feedback = Literal["full", "failures", "typed"]
Kind = TypeVar("Kind")
_STAND_INS: set[type] = set()
BEGIN_ANEW = (
    ". To begin anew instead, move that file away or name another (`banel run`: another --out; with --inherit and the "
    "old run's folder, what it paid for is answered for nothing)"
)


@final
class Oracle:
    """Rewards for sequences, until the budget is spent.

    Args:
        task: what is asked about.
        budget: NRE granted; the task's own by default.
        feedback: "full" returns every reward; "failures" withholds successes (NaN): the paper's regime. Whoever is
            told which failed can infer the rest, so withholding is a rule, not a wall: drop withheld rows before
            anything reads them (`banel_agents.base.ask` does). "typed" withholds them too, and `typed` tells why each
            failure failed.
        ledger: a file to record into, or to resume from; in memory by default. It is opened at the first question.
        binding: what else the ledger's first line binds (agent, config, seed).

    Raises:
        BadValue: a budget that is not a whole number of at least 1, an unknown feedback, or "typed" on a task that tells no
            types.
    """

    # No __dict__: assigning a misspelt or read-only name raises instead of quietly shadowing the meter.
    __slots__ = (
        "__weakref__",
        "_answering",
        "_binding",
        "_budget",
        "_closed",
        "_empty",
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
        if feedback == "typed" and task.failure_type is None:
            raise BadValue(
                f"feedback is 'typed', and here {task.problem.id} does not say why a sequence failed; use 'failures', or a "
                f"Task with a failure_type"
            )
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
        self._answering = False  # whether the reward is being asked at this moment
        self._empty = EmptyQuestions()

    def __init_subclass__(cls, **_: Any) -> NoReturn:
        raise OracleSubclassed(
            f"{cls.__name__} inherits from Oracle, whose count, left and answers are not to be overridden: put what is "
            f"to be added into the Task's reward, or hold an oracle and call it"
        )

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
    def errors(self) -> int:
        """Sequences so far that count as failures because the reward raised on them (`Task.on_error="failure"`)."""
        self._check_home()
        number, _, pending = self._meter
        asks = [] if self._ledger is None else self._ledger.asks[: number + (pending > 0)]
        return sum(len(ask.errors) for ask in asks)

    @property
    def feedback(self) -> Feedback:
        """What is told: "full"; "failures", successes being withheld; or "typed", the same with the types of failures."""
        return self._feedback

    @property
    def ledger(self) -> Ledger:
        """The record of every question and its true answer, for whoever checks the run.

        An agent has no use for it, and under "failures" it is not to look: code in this process can read here, and in
        the ledger's file, which of its sequences were successes. The meter does not prevent that. `banel run --isolate`
        does on Linux: there the agent's process holds no oracle, and the system refuses it the files of the run
        (banel_leaderboard.running.isolation_wall says how far that goes).
        """
        self._check_home()
        return self._open()

    def __call__(self, tokens: object) -> NDArray[np.float32]:
        """Rewards of sequences [n, T]: float32 [n], 0 failed, 1 success, NaN withheld.

        Raises:
            BadTokens: not sequences of this problem; nothing is charged.
            BudgetExhausted: n is more than what is left; nothing is evaluated or charged.
            OracleMoved: called from another process or thread than the one that made it.
            OracleBusy: called by the reward that is being asked; nothing is charged, the question goes on.
            OpenQuestion: an earlier question was interrupted and has to be asked again first.
            ReplayDiverged: resuming from a ledger, this is not the question it holds.
            NothingAsked: n was 0 more than 10,000 times in a row; one such question is free, its answer an empty array.
        """
        return self._told(tokens)[0]

    def typed(self, tokens: object) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        """The same question under the feedback `typed`: the rewards [n], and why each sequence failed, int8 [n].

        A type k is `problem.failure_types[k - 1]`. It is 0 where none is told: for a withheld success, and for a failure that is
        an error of the reward.

        Raises:
            BadValue: the feedback is another one; nothing is charged.
            BanelError: as for a call of the oracle.
        """
        if self._feedback != "typed":
            raise BadValue(f"types are told under the feedback 'typed', and this oracle's is {self._feedback!r}")
        rewards, ask = self._told(tokens)
        types = np.zeros(len(rewards), np.int8) if ask is None or ask.types is None else ask.types.copy()
        return rewards, types

    def _told(self, tokens: object) -> tuple[NDArray[np.float32], Ask | None]:
        """The rewards of sequences [n, T] as the feedback tells them, and the question; None where nothing was asked."""
        self._check_home()
        clean = self._problem.check_tokens(tokens)
        self._empty.note(len(clean), self.count, self._budget)
        if len(clean) == 0:
            return np.empty(0, np.float32), None
        ledger = self._open()
        ask = self._ask(ledger, clean)
        number, answered, pending = self._meter
        if ask.open:
            ask = self._evaluate(ledger, number, clean)
        self._meter = (number + 1, answered + pending, 0)
        return ask.told(withhold=self._feedback != "full"), ask

    def close(self) -> None:
        """Release the ledger; every later question raises OracleClosed. The reward itself cannot close its oracle."""
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
        if self._answering:
            raise OracleBusy(
                "the reward used the oracle that is asking it: nothing was charged, and the question stays open until "
                "the reward has answered; compute the answer without the oracle"
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
            "bits": BITS,
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
                raise ReplayDiverged(divergence(ledger, number, tokens, self._problem), BEGIN_ANEW)
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
        """Ask the reward for the rows that have no answer yet, and record each piece before the next is evaluated."""
        ask, typed = ledger.asks[number], self._feedback == "typed"
        try:
            self._answering = True
            with closing(
                answers(self._task, tokens, np.flatnonzero(ask.rewards < 0), ask.errors, typed=typed)
            ) as pieces:
                for answer in pieces:
                    self._record(ledger, answer)
        finally:
            self._answering = False
        return ledger.asks[number]

    def _record(self, ledger: Ledger, answer: Answer) -> None:
        """Write an answer down, one line for each run of neighbouring rows."""
        rows, real = answer.rows, self._task.threshold is not None and answer.error is None
        whole = rows[-1] - rows[0] == len(rows) - 1  # rows rise, and nearly always without a gap
        breaks = [] if whole else (np.flatnonzero(np.diff(rows) != 1) + 1).tolist()
        for low, high in zip([0, *breaks], [*breaks, len(rows)], strict=True):
            values = answer.values[low:high] if real else None
            types = None if answer.types is None else answer.types[low:high]
            ledger.answer(int(rows[low]), answer.success[low:high].astype(np.int8), values, answer.error, types)


def stands_in(kind: type[Kind]) -> type[Kind]:
    """Mark a class whose objects an env takes for an Oracle: the agent's side of `--isolate`, its meter elsewhere."""
    _STAND_INS.add(kind)
    return kind


def check_meter(oracle: object, *, stand_ins: bool = False) -> None:
    """BadValue unless this is an Oracle and nothing else: what counts must not be another class's say.

    Args:
        oracle: what is to be asked.
        stand_ins: whether a class marked by `stands_in` will do.
    """
    if type(oracle) is not Oracle and not (stand_ins and type(oracle) in _STAND_INS):
        raise BadValue(
            f"the oracle is a {type(oracle).__name__}; it must be a banel_envs.Oracle itself, whose count nobody else "
            f"keeps: put what is to be added into the Task's reward, or around the oracle"
        )
