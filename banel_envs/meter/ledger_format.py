"""The format of a ledger's lines: how they are packed, hashed and verified.

Everything here is a pure function of bytes. ledger.py and ledger_store.py deal with files.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banel_envs.errors import LedgerCorrupt
from banel_envs.files import strict_json
from banel_envs.files.visible import shown
from banel_envs.problem import MOST_BUDGET, Tokens

SCHEMA = 1
ERROR = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,79}")  # the name of an exception's class
MOST_HEADER = 2**16  # bytes of the header; the longest one of the committed runs has about 700
# These limits keep the product of sizes small enough to compute with. Memory is bounded otherwise: a question takes no
# more than its line in the file holds.
MOST_VOCABULARY, MOST_HORIZON = 2**31, 2**24
_NUMBER, _BASE64 = rb"(0|[1-9][0-9]{0,17})", rb'"([^"]*)"'
_ASK = re.compile(rb'\{"ask":%b,"n":%b,"tokens":%b' % (_NUMBER, _NUMBER, _BASE64))
_ANSWER = re.compile(
    rb'\{"answer":%b,"rows":\[%b,%b\],"rewards":%b(?:,"values":%b)?(?:,"types":%b)?(?:,"error":"(\w*)")?'
    % (*[_NUMBER] * 3, *[_BASE64] * 3)
)
TYPED = "typed"  # the feedback whose ledgers hold the types of failures
TYPE_BITS = 4
MARK = b',"sha":"'
UNANSWERED = b"\xff"  # the byte of a reward -1
SUFFIX = len(MARK) + 64 + 2  # ,"sha":"<64 hex digits>"}


@dataclass
class Ask:
    """One question and what is known of its answer."""

    n: int  # how many sequences it asks
    packed: str  # their tokens, in the form that the file has
    rewards: NDArray[np.int8]  # [n]: 1 success, 0 failure, -1 not answered
    values: NDArray[np.float64] | None = None  # [n]: real rewards, where the task has a threshold; NaN for an error
    errors: dict[int, str] = field(default_factory=dict)  # row -> error, for failures because the reward raised
    types: NDArray[np.int8] | None = None  # [n]: why each failed, where that is told; 0 for a success or an error

    @property
    def open(self) -> bool:
        """Whether a sequence has no answer yet."""
        return UNANSWERED in self.rewards.tobytes()

    def told(self, withhold: bool) -> NDArray[np.float32]:
        """The rewards [n] of an answered question as an oracle tells them: 0, 1, or NaN for a success that is withheld."""
        rewards = self.rewards.astype(np.float32)
        if withhold:
            rewards[rewards == 1] = np.nan
        return rewards

    def expect(self, start: int, stop: int) -> None:
        """ValueError unless rows start, ..., stop - 1 exist and none of them is answered."""
        if not 0 <= start < stop <= self.n or self.rewards[start:stop].max() >= 0:
            raise ValueError(f"rows {start}..{stop} of {self.n} are answered already or do not exist")

    def take(
        self,
        start: int,
        rewards: NDArray[np.int8],
        values: NDArray[np.float64] | None,
        error: str | None = None,
        types: NDArray[np.int8] | None = None,
    ) -> None:
        """Store the answers to rows start, start + 1, ...; `expect` has allowed them."""
        stop = start + len(rewards)
        self.rewards[start:stop] = rewards
        if values is not None:
            if self.values is None:
                self.values = np.full(self.n, np.nan)
            self.values[start:stop] = values
        if types is not None:
            if self.types is None:
                self.types = np.zeros(self.n, np.int8)
            self.types[start:stop] = types
        if error is not None:
            self.errors[start] = error


@dataclass
class Events:
    """The content of a ledger whose lines were verified."""

    header: dict[str, Any] = field(default_factory=dict)
    head: str = ""  # the SHA-256 that the last line holds
    lines: int = 0
    asks: list[Ask] = field(default_factory=list)
    rows: int = 0  # sequences of all questions that were read
    size: int = 0  # bytes of all whole lines; bytes after them are a line that a crash cut off


def token_bits(vocabulary: int) -> int:
    """How many bits a token of 0..V-1 takes: ceil(log2 V)."""
    return (vocabulary - 1).bit_length()


def pack_tokens(tokens: Tokens, vocabulary: int) -> str:
    """Tokens [n, T] as base64, with ceil(log2 V) bits for each token."""
    bits = token_bits(vocabulary)
    if bits <= 8:
        planes = _planes(bits).take(tokens, axis=0)
    else:
        planes = (tokens.reshape(-1, 1) >> np.arange(bits)[::-1] & 1).astype(np.uint8)
    return binascii.b2a_base64(np.packbits(planes).tobytes(), newline=False).decode()


@cache
def _planes(bits: int) -> NDArray[np.uint8]:
    """The bits of every number that has so many, the highest first: [2 ** bits, bits]."""
    return (np.arange(2**bits)[:, None] >> np.arange(bits)[::-1] & 1).astype(np.uint8)


def unpack_tokens(packed: str, n: int, horizon: int, vocabulary: int) -> Tokens:
    """The inverse of pack_tokens: [n, T]."""
    bits = token_bits(vocabulary)
    flat = np.unpackbits(np.frombuffer(base64.b64decode(packed), np.uint8), count=n * horizon * bits)
    weights = 1 << np.arange(bits, dtype=np.int64)[::-1]
    tokens: Tokens = flat.reshape(n, horizon, bits) @ weights
    return tokens


def header_body(header: Mapping[str, Any]) -> str:
    """The header's line without its hash; ValueError for a NaN or an infinity, TypeError for what JSON cannot hold."""
    return json.dumps({"ledger": SCHEMA, **header}, separators=(",", ":"), allow_nan=False)[:-1]


def ask_body(index: int, ask: Ask) -> str:
    """A question's line without its hash."""
    return f'{{"ask":{index},"n":{ask.n},"tokens":"{ask.packed}"'


def answer_body(
    index: int,
    start: int,
    rewards: NDArray[np.int8],
    values: NDArray[np.float64] | None,
    error: str | None = None,
    types: NDArray[np.int8] | None = None,
) -> str:
    """An answer's line without its hash."""
    bits = binascii.b2a_base64(np.packbits(rewards.astype(np.uint8)).tobytes(), newline=False).decode()
    body = f'{{"answer":{index},"rows":[{start},{start + len(rewards)}],"rewards":"{bits}"'
    if values is not None:
        body += f',"values":"{base64.b64encode(values.astype("<f8").tobytes()).decode()}"'
    if types is not None:
        body += f',"types":"{pack_tokens(types[:, None].astype(np.int64), 1 << TYPE_BITS)}"'
    if error is not None:
        body += f',"error":"{error}"'
    return body


def check_types(rewards: NDArray[np.int8], types: NDArray[np.int8] | None, error: str | None, typed: bool) -> None:
    """Raise ValueError unless these may be an answer's types.

    They stand in the ledgers of the feedback `typed` and in no others. Each failure has one, a success has 0. An answer with an
    error has none, as the error says why it failed.
    """
    if (types is not None) != (typed and error is None):
        raise ValueError(f"it has {'no ' if types is None else ''}types, and its feedback or its error says otherwise")
    if types is not None and (types.shape != rewards.shape or ((types == 0) != (rewards == 1)).any()):
        raise ValueError("each failure has a type of 1 or more, and each success has 0")
    if types is not None and (types.min() < 0 or types.max() >= 1 << TYPE_BITS):
        raise ValueError(f"a type is {types.max()}; it is 0..{(1 << TYPE_BITS) - 1}")


def check_error(rewards: NDArray[np.int8], values: NDArray[np.float64] | None, error: Any) -> None:
    """Raise ValueError unless this may be an answer's error.

    It is the name of an exception, and the answer is one failure without a value.
    """
    if error is None:
        return
    if not isinstance(error, str) or not ERROR.fullmatch(error) or rewards.tolist() != [0] or values is not None:
        raise ValueError(f"the error {str(error)[:40]!r} is not the name of what the reward raised on one failed row")


def seal(head: str, body: str) -> tuple[str, bytes]:
    """The new head, and the whole line: the body, SHA-256(old head + body), and a newline."""
    raw = body.encode()
    sha = hashlib.sha256(head.encode() + raw).hexdigest()
    return sha, raw + MARK + sha.encode() + b'"}\n'


def parse(content: bytes, path: Path | str) -> Events:
    """Verify every whole line of a ledger.

    The last line may be cut off, if the run was killed while it was written. It is then not part of the content.

    Raises:
        LedgerCorrupt: a line is not what was written.
    """
    events = Events()
    while events.size < len(content):
        newline = content.find(b"\n", events.size)
        end = len(content) if newline < 0 else newline
        line = content[events.size : end]
        whole = line[-2:] == b'"}' and line[-SUFFIX:-66] == MARK
        if newline < 0 and not whole:
            if not _is_torn(line, events):
                raise LedgerCorrupt(f"{path}: line {events.lines + 1} is damaged")
            break
        body = line[:-SUFFIX]
        sha = hashlib.sha256(events.head.encode() + body).hexdigest()
        if not whole or line[-66:-2] != sha.encode():
            raise LedgerCorrupt(
                f"{path}: line {events.lines + 1} is not what was written: "
                f"its hash does not follow from the line before"
            )
        try:
            _apply(events, body)
        except (KeyError, ValueError, TypeError, IndexError, RecursionError) as error:
            raise LedgerCorrupt(f"{path}: line {events.lines + 1} is not a ledger event: {error}") from error
        events.head = sha
        events.lines += 1
        events.size = end + (newline >= 0)
    return events


def _is_torn(line: bytes, events: Events) -> bool:
    """Whether a last line without a newline can be the beginning of the line that a ledger would write next."""
    if MARK in line and len(line.split(MARK, 1)[1]) >= 66:
        return False  # this is a whole line with something after it, which no crash leaves
    if not events.lines:
        starts = [b'{"ledger":']
    else:
        asked = len(events.asks)
        starts = [f'{{"ask":{asked},"n":'.encode(), f'{{"answer":{asked - 1},"rows":['.encode()]
    return any(line.startswith(start) or start.startswith(line) for start in starts)


def _apply(events: Events, body: bytes) -> None:
    """Add the content of one line whose hash is right. A built-in error is raised if this module would not write it here.

    Right hashes show that the lines are in order. They do not show that the lines are honest: whoever writes a ledger by
    hand can compute any hash. So nothing in a line is believed before it is checked, and sizes are checked first. There
    is only one way to write a question or an answer. So these lines are not read as JSON: a line that does not match the
    pattern is refused.
    """
    if not events.lines:
        _apply_header(events, body)
    elif match := _ASK.fullmatch(body):
        _apply_ask(events, *match.groups())
    elif match := _ANSWER.fullmatch(body):
        _apply_answer(events, *match.groups())
    else:
        raise ValueError("it is not written as a ledger writes it")


def _apply_header(events: Events, body: bytes) -> None:
    check_header_size(body)
    header: dict[str, Any] = strict_json.loads(body + b"}")
    if header.pop("ledger") != SCHEMA:
        raise ValueError(f"not a ledger of schema {SCHEMA}")
    for name, least, most in (("vocabulary", 2, MOST_VOCABULARY), ("horizon", 1, MOST_HORIZON)):
        if type(header[name]) is not int or not least <= header[name] <= most:
            raise ValueError(f"no token sequences have the {name} {shown(header[name])}; it is {least} to {most:,}")
    if header_body(header).encode() != body:
        raise ValueError("it is not written as a ledger writes it")
    events.header = header


def check_header_size(body: bytes | str) -> None:
    """Raise ValueError if a header is longer than any run needs."""
    if len(body) > MOST_HEADER:
        raise ValueError(f"the first line has {len(body):,} characters; it may have {MOST_HEADER:,}")


def _apply_ask(events: Events, index: bytes, rows: bytes, packed: bytes) -> None:
    asks, n = events.asks, int(rows)
    if int(index) != len(asks) or (asks and asks[-1].open):
        raise ValueError(f"question {int(index)} out of order")
    events.rows += n
    if events.rows > MOST_BUDGET:
        raise ValueError(f"{events.rows:,} sequences are asked; no budget is above {MOST_BUDGET:,}")
    size = n * events.header["horizon"] * token_bits(events.header["vocabulary"])
    if n < 1:
        raise ValueError("it asks nothing")
    _unpacked("tokens", packed, size)
    asks.append(Ask(n, packed.decode(), np.full(n, -1, np.int8)))


def _apply_answer(
    events: Events,
    index: bytes,
    first: bytes,
    end: bytes,
    packed: bytes,
    real: bytes | None,
    why: bytes | None,
    raised: bytes | None,
) -> None:
    asks, start, stop = events.asks, int(first), int(end)
    if int(index) != len(asks) - 1:
        raise ValueError(f"answer to question {int(index)}, which is not the last one")
    asks[-1].expect(start, stop)
    bits = np.frombuffer(_unpacked("rewards", packed, stop - start), np.uint8)
    rewards = np.unpackbits(bits, count=stop - start).astype(np.int8)
    values = None if real is None else np.frombuffer(_unpacked("values", real, 64 * (stop - start)), "<f8")
    error = None if raised is None else raised.decode()
    check_error(rewards, values, error)
    types = None
    if why is not None:
        _unpacked("types", why, TYPE_BITS * len(rewards))
        types = unpack_tokens(why.decode(), len(rewards), 1, 1 << TYPE_BITS)[:, 0].astype(np.int8)
    check_types(rewards, types, error, events.header.get("feedback") == TYPED)
    asks[-1].take(start, rewards, values, error, types)


def _unpacked(name: str, packed: bytes, bits: int) -> bytes:
    """So many bits out of base64. ValueError if `pack_tokens` would write these bits in another way.

    The last byte and the last letters of base64 have unused bits. They must be zero: otherwise two different lines would
    mean the same.
    """
    size = (bits + 7) // 8
    content = binascii.a2b_base64(packed, strict_mode=True) if len(packed) == (size + 2) // 3 * 4 else b""
    last = content[len(content) // 3 * 3 :] or content[-3:]
    if (
        len(content) != size
        or (size and content[-1] & ((1 << -bits % 8) - 1))
        or binascii.b2a_base64(last, newline=False) != packed[-4:]  # only the last four letters have unused bits
    ):
        raise ValueError(f"its {name} are not {bits:,} bits in base64")
    return content
