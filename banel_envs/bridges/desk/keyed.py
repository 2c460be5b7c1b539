"""KeyedOracle: an oracle whose questions have keys. A batch is charged once, however often it is asked under its key.

It lives in the thread of its oracle; a Desk shares it among threads. `Desk` states the rules that it keeps.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from banel_envs.bridges.desk.keys import Entry, KeyFile, digest
from banel_envs.errors import BadValue, KeyReused, OpenQuestion, OracleBusy
from banel_envs.meter.ledger_format import Ask
from banel_envs.meter.oracle import Oracle, check_meter
from banel_envs.problem import Tokens


@dataclass(frozen=True, eq=False)
class Reply:
    """The answer to a batch of n sequences. Its arrays cannot be changed, since the reply may be given several times."""

    rewards: NDArray[np.float32]  # [n]: 0 failed, 1 success, NaN withheld
    types: NDArray[np.int8] | None  # [n]: why each failed, as `Oracle.typed` tells it; None under other feedbacks

    def __post_init__(self) -> None:
        for array in (self.rewards, self.types):
            if array is not None:
                array.flags.writeable = False


class KeyedOracle:
    """Asks an oracle, each batch under its key.

    Args:
        oracle: the meter.
        keys: a file that keeps the keys of the oracle's ledger. With it the ledger is gone through first.

    Raises:
        BadValue: it is no Oracle, or keys are to be kept of an oracle that has been asked already.
        LedgerCorrupt: the file of keys is not what was written.
    """

    def __init__(self, oracle: Oracle, keys: str | Path | None = None) -> None:
        check_meter(oracle)
        self.oracle = oracle
        self._answering = False
        self._asked: dict[str, str] = {}  # key -> SHA-256 of the sequences that were charged under it
        self._replies: dict[str, Reply] = {}
        self._open: tuple[Tokens, Entry | None] | None = None  # charged, and not answered because the reward raised
        self._keys: KeyFile | None = None
        if keys is not None:
            if oracle.count:
                raise BadValue(
                    f"the oracle was asked {oracle.count} sequences already; keys are kept from the first one on"
                )
            ledger = oracle.ledger  # opened, and so locked, before the file beside it is read
            self._keys = KeyFile(Path(keys))
            self._take_up(list(ledger.asks))

    def settle(self, tokens: Tokens, entry: Entry) -> Reply:
        """The reply to a batch [n, T]: the one that is kept under its key, or the oracle's. Raises what Desk.ask does."""
        if self._answering:
            raise OracleBusy(
                "the reward asked the desk that is asking it: nothing was charged; compute the answer without it"
            )
        held = self._asked.get(entry.key)
        if held is not None and held != entry.sha256:
            raise KeyReused(
                f"the key {entry.key!r} was used for another batch; nothing was charged: repeat exactly the sequences that were "
                f"handed in under it, or take a new key"
            )
        if entry.key in self._replies:
            return self._replies[entry.key]
        if self._open is not None and self._open[1] != entry:
            self._finish(*self._open)
        return self._charge(tokens, entry)

    def _finish(self, tokens: Tokens, entry: Entry | None) -> None:
        """Ask again what the reward raised on; OpenQuestion where it raises again."""
        try:
            self._charge(tokens, entry)
        except Exception as error:
            name = "that the ledger held" if entry is None else repr(entry.key)
            raise OpenQuestion(
                f"the batch {name} is charged and was not answered ({type(error).__name__}: {error}); it comes first, and "
                f"nothing was charged for this one"
            ) from error

    def _charge(self, tokens: Tokens, entry: Entry | None) -> Reply:
        """Ask the oracle, and remember the key as soon as the batch is charged."""
        oracle, before = self.oracle, self.oracle.count
        charged = self._open is not None  # already, so its line stands in the file of keys
        if self._keys is not None and entry is not None and not charged and len(tokens):
            self._keys.note(len(oracle.ledger.asks), entry)
        try:
            self._answering = True
            reply = self._told(tokens)
        except BaseException:
            self._answering = False  # the ledger is looked at in what follows
            if charged or oracle.count > before:
                self._charged(tokens, entry)
            raise
        finally:
            self._answering = False
        self._open = None
        if entry is not None and len(tokens):  # an empty batch is answered without a question
            self._asked[entry.key], self._replies[entry.key] = entry.sha256, reply
        return reply

    def _told(self, tokens: Tokens) -> Reply:
        if len(tokens) == 0:  # clients may ask empty batches as often as they wish: that is no loop of one agent
            typed = self.oracle.feedback == "typed"
            return Reply(np.empty(0, np.float32), np.empty(0, np.int8) if typed else None)
        if self.oracle.feedback == "typed":
            return Reply(*self.oracle.typed(tokens))
        return Reply(self.oracle(tokens), None)

    def _charged(self, tokens: Tokens, entry: Entry | None) -> None:
        """After an error: the batch is charged, so its key is used, and its question is open or has just been answered."""
        if entry is not None:
            self._asked[entry.key] = entry.sha256
        if self.oracle.open:
            self._open = (tokens, entry)
            return
        self._open = None
        if entry is not None:  # an interrupt struck between the answer and its return, so the ledger has the answer
            self._replies[entry.key] = self._from_ledger(self.oracle.ledger.asks[-1])

    def _from_ledger(self, ask: Ask) -> Reply:
        typed = self.oracle.feedback == "typed"
        types = (np.zeros(ask.n, np.int8) if ask.types is None else ask.types.copy()) if typed else None
        return Reply(ask.told(withhold=self.oracle.feedback != "full"), types)

    def _take_up(self, asks: list[Ask]) -> None:
        """Go through what the ledger holds, so that each known key has its reply; the last question may be open."""
        entries = {} if self._keys is None else self._keys.entries
        for number, ask in enumerate(asks):
            tokens = self.oracle.ledger.tokens(ask)
            entry = entries.get(number)
            if entry is not None and entry.sha256 != digest(tokens):
                entry = None  # it was noted for a batch that never reached the ledger
            self._open = (tokens, entry)
            # A reward that raises again leaves its question open, and the next batch meets the error.
            with contextlib.suppress(Exception) if ask.open else contextlib.nullcontext():
                self._charge(tokens, entry)
