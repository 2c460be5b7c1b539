"""Every error this package raises on purpose: typed, and naming the value, the limit and the way out."""

from __future__ import annotations

from typing import Self


class BanelError(Exception):
    """Base of all errors raised on purpose; the command line prints its message in one line and exits with 2."""


class BadValue(BanelError, ValueError):
    """An argument is outside what is allowed."""


class BadTokens(BanelError, ValueError):
    """An array is not a batch of token sequences of this problem; nothing was charged."""


class BadPolicy(BanelError):
    """What a policy answers is no probability (NaN, infinite, summing to another number than 1, or not what it draws)."""

    def of(self, where: str) -> Self:
        """The same complaint, saying whose policy it is and of which NRE."""
        return type(self)(f"{where}: {self}")


class PolicyChanged(BadPolicy):
    """A policy was changed after it was yielded; a yield is a snapshot."""


class UnknownName(BanelError, LookupError):
    """No task, agent or suite has this name; the message lists those that exist."""


class MissingExtra(BanelError, ImportError):
    """A part was used whose optional dependency is not installed; the message names the extra."""


class AssetError(BanelError):
    """A shipped file is missing or not the one this version was released with."""


class FileRefused(BanelError):
    """A file is not one that is read: a link, a pipe, a device, a folder, too large, or not readable."""


class FileMissing(FileRefused):
    """There is no such file."""


class BadJson(BanelError, ValueError):
    """A JSON text has more than one meaning: a key twice, NaN, too deep, half a character."""


class ModelMissing(BanelError):
    """A language model is not there or cannot be read; the message says where it is looked for."""


class NotJson(BadJson):
    """A text is not JSON at all."""


class FrameBroken(BanelError):
    """Another process ended in the middle of a conversation, or sent what is no part of one."""


class BudgetExhausted(BanelError):
    """A batch does not fit in what is left of the budget; none of it was evaluated or charged."""

    def __init__(self, asked: int, left: int, budget: int) -> None:
        super().__init__(
            f"{asked} sequences asked, {left} of {budget} evaluations left: "
            f"nothing was evaluated; ask at most oracle.left at a time"
        )
        self.asked, self.left, self.budget = asked, left, budget

    # Exceptions are pickled by their arguments, which are not the message here, when a process sends one to another.
    def __reduce__(self) -> tuple[type[BudgetExhausted], tuple[int, int, int]]:
        return type(self), (self.asked, self.left, self.budget)


class NothingAsked(BanelError):
    """Very many questions in a row had no sequence in them, which costs nothing: a loop of them would never end."""


class OracleMoved(BanelError):
    """An oracle was copied, pickled, forked or called from a thread that did not make it; nothing was charged."""


class OracleBusy(BanelError):
    """A reward used the very oracle that is asking it; nothing was charged."""


class OracleSubclassed(BanelError, TypeError):
    """A class inherits from Oracle; the meter cannot be overridden."""


class OracleClosed(BanelError):
    """The oracle, or the environment that owned it, was closed."""


class OpenQuestion(BanelError):
    """A question was asked and not yet answered; it must be asked again first, and is charged once."""


class BadReward(BanelError):
    """A reward function answered something that is not one reward a sequence; the question stays open."""


class AnswersPending(BanelError):
    """The answers of an external oracle have not arrived; run again when they have."""


class KeyReused(BanelError, ValueError):
    """A desk knows the key, and other sequences were handed in under it; nothing was charged."""


class DeskClosed(BanelError):
    """A desk was closed before a batch had its turn; nothing was charged."""


class DeskTimeout(BanelError, TimeoutError):
    """A desk did not answer in the time given; the message says whether the batch was withdrawn."""


class DeskUnreachable(BanelError, ConnectionError):
    """No desk answers at an address, or the one that does refuses the secret; ask again with the same key."""


class DeskFailed(BanelError):
    """The oracle of a desk in another process raised an error that is none of this package's; the message names it."""


class ContractBroken(BanelError):
    """A task, a policy or an agent breaks its contract; the message says what it did."""


class LedgerError(BanelError):
    """Base of what can go wrong with a ledger file."""


class LedgerCorrupt(LedgerError):
    """A whole line of a ledger is not what was written."""


class LedgerMismatch(LedgerError):
    """A ledger belongs to another run."""


class JudgesDiffer(LedgerMismatch):
    """A ledger's answers were judged by other versions of libraries than those installed here."""


class LedgerLocked(LedgerError):
    """Another process is writing this ledger."""


class LedgerWriteError(LedgerError, OSError):
    """A ledger line could not be stored (disk full, folder removed, read-only); the ledger is valid up to it."""


class ReplayDiverged(LedgerError):
    """A run that was replayed asked something else than its ledger holds.

    Args:
        found: what differs.
        way_out: what whoever meant to run, and not to check, can do.
    """

    def __init__(self, found: str, way_out: str = "") -> None:
        super().__init__(found + way_out)
        self.found, self.way_out = found, way_out

    def __reduce__(self) -> tuple[type[ReplayDiverged], tuple[str, str]]:
        return type(self), (self.found, self.way_out)


class RewardNotAsked(UserWarning):
    """check_task asked a paid reward nothing, so nothing of it was checked; the message says how to let it ask."""


class SeveralBudgets(UserWarning):
    """Several environments were made together that each have a budget of their own; the message names what shares one."""
