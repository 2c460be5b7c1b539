"""Every error this package raises on purpose: typed, and naming the value, the limit and the way out."""

from __future__ import annotations


class BanelError(Exception):
    """Base of all errors raised on purpose; the command line prints its message in one line and exits with 2."""


class BadValue(BanelError, ValueError):
    """An argument is outside what is allowed."""


class BadTokens(BanelError, ValueError):
    """An array is not a batch of token sequences of this problem; nothing was charged."""


class UnknownName(BanelError, LookupError):
    """No task, agent or suite has this name; the message lists those that exist."""


class MissingExtra(BanelError, ImportError):
    """A part was used whose optional dependency is not installed; the message names the extra."""


class AssetError(BanelError):
    """A shipped file is missing or not the one this version was released with."""


class BudgetExhausted(BanelError):
    """A batch does not fit in what is left of the budget; none of it was evaluated or charged."""

    def __init__(self, asked: int, left: int, budget: int) -> None:
        super().__init__(
            f"{asked} sequences asked, {left} of {budget} evaluations left: "
            f"nothing was evaluated; ask at most oracle.left at a time"
        )
        self.asked, self.left, self.budget = asked, left, budget

    def __reduce__(self) -> tuple[type[BudgetExhausted], tuple[int, int, int]]:
        return type(self), (self.asked, self.left, self.budget)


class OracleMoved(BanelError):
    """An oracle was copied, pickled, forked or called from a thread that did not make it; nothing was charged."""


class OracleClosed(BanelError):
    """The oracle, or the environment that owned it, was closed."""


class OpenQuestion(BanelError):
    """A question was asked and not yet answered; it must be asked again first, and is charged once."""


class BadReward(BanelError):
    """A reward function answered something that is not one reward a sequence; the question stays open."""


class AnswersPending(BanelError):
    """The answers of an external oracle have not arrived; run again when they have."""


class LedgerError(BanelError):
    """Base of what can go wrong with a ledger file."""


class LedgerCorrupt(LedgerError):
    """A whole line of a ledger is not what was written."""


class LedgerMismatch(LedgerError):
    """A ledger belongs to another run."""


class LedgerLocked(LedgerError):
    """Another process is writing this ledger."""


class LedgerWriteError(LedgerError, OSError):
    """A ledger line could not be stored (disk full, folder removed, read-only); the ledger is valid up to it."""


class ReplayDiverged(LedgerError):
    """A replayed run asked something else than the ledger holds."""


class SeveralBudgets(UserWarning):
    """Several environments were made together that each have a budget of their own; the message names what shares one."""
