"""packed: the form in which a submission is handed in, few files of which one is read in review.

A packed submission is a folder with one folder a task, `<namespace>/<Name>-v<k>/`, called a part, which holds nothing but

    records.jsonl             one line a run (`Line`): where it stands in the part, its pieces below, run.json and record.json
    ledgers-000.xz, ...       the ledgers of the runs, one behind the other in the order of the lines, in one xz stream
    policies-000.safetensors  the final policies: the bytes of each file, once, as a tensor named by their SHA-256

Both ways are exact: what is unpacked has the bytes of what was packed, and the same runs give the same packed bytes. A ledger is
kept without its hashes where they follow from its lines, as they do unless somebody changed them; they are computed again.
Whoever hands a packed submission in may have written anything into it. Sizes are stated in records.jsonl and added up
before anything is unpacked, and what comes out of a stream is held against them as it comes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError

from banel_envs.errors import BadJson, BadValue, FileRefused, NotJson
from banel_envs.files import safe_files, strict_json
from banel_envs.files.visible import shown, visible
from banel_envs.meter import ledger_format
from banel_leaderboard.records.field_limits import MOST_NAME, Sha256
from banel_leaderboard.records.record import RecordError, RunRecord, Strict
from banel_leaderboard.records.run_folder import LINES

PACKED = 1  # the number of this form
MOST_FILE = 10_000_000  # bytes of a packed file
MOST_BYTES = 64_000_000  # of a packed submission; 2,000 runs of 7,500 evaluations have 57 MB
MOST_FILES = 64  # of a packed submission: two a task, and room for policies
MOST_UNPACKED = (
    500_000_000  # bytes that a packed submission may have when it is unpacked; the committed board has 31 million
)
MOST_RUNS = 10_000  # of a part
MOST_LINE = safe_files.RECORD + safe_files.STATUS + 2**12  # bytes of a line
STEP = r"[A-Za-z0-9_][A-Za-z0-9_.+=-]{0,199}"  # a folder on the way from a part to a run
RUN = rf"{STEP}(?:/{STEP}){{0,5}}"

Size = Annotated[int, Field(ge=0, le=MOST_UNPACKED)]


class LedgerPiece(Strict):
    """Where a run's ledger is: after those of the lines before it that name the same file."""

    file: Annotated[str, StringConstraints(pattern=r"^ledgers-[0-9]{3}\.xz$")]
    packed: Size  # bytes that it has in the stream, once that is decompressed
    bytes: Size  # bytes of ledger.jsonl: as many where it stands there as it is, more where its hashes were left out
    sha256: Sha256  # of ledger.jsonl


class PolicyPiece(Strict):
    """Where a run's final policy is: the tensor of this name."""

    file: Annotated[str, StringConstraints(pattern=r"^policies-[0-9]{3}\.safetensors$")]
    bytes: Size
    sha256: Sha256


class Line(Strict):
    """One run."""

    packed: Literal[1]
    run: Annotated[str, StringConstraints(pattern=f"^{RUN}$")]  # its folder below the part
    ledger: LedgerPiece
    policy: PolicyPiece | None
    status: dict[str, Any] | str | None  # run.json: its JSON, or its text where that is laid out in another way
    record: dict[str, Any] | str  # record.json, likewise; its numbers are written as they were


def check_total(files: int, size: int, what: str) -> None:
    """BadValue if a submission has more files or bytes than may be handed in; `what` says which, and up to where."""
    if files > MOST_FILES:
        raise BadValue(f"{what} has {files} files; a submission has at most {MOST_FILES}: hand in fewer tasks at once")
    if size > MOST_BYTES:
        raise BadValue(
            f"{what} has {size:,} bytes; a submission has at most {MOST_BYTES:,}: hand in fewer tasks at once, "
            f"or leave the policies out (--without-policies), which come out again by replaying"
        )


# JSON files: laid out for a folder, tight in a line


_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\],:]|[^\s{}\[\],:"]++')


def tight(text: str) -> str:
    """JSON without the spaces and line breaks that mean nothing."""
    return "".join(match[0] for match in _TOKEN.finditer(text))


def laid_out(text: str, most: int) -> bytes:
    """JSON as record.json and run.json are written: one value a line, each level one space further in.

    Raises:
        FileRefused: that has more than `most` bytes.
    """
    out: list[str] = []
    depth = size = 0
    opened = False
    for match in _TOKEN.finditer(text):
        token = match[0]
        closes = token in ("}", "]")
        depth -= closes
        if opened != closes:  # a bracket and its first value, or the last value and its bracket
            out.append("\n" + " " * depth)
        opened = token in ("{", "[")
        depth += opened
        out.append(token + (" " if token == ":" else "\n" + " " * depth if token == "," else ""))
        size += len(token) + depth * (token in ",{[}]")  # at least; the exact size is asked below
        if size > 2 * most:
            break
    content = ("".join(out) + "\n").encode()
    if len(content) > most:
        raise FileRefused(f"a file of a run has more than {most:,} bytes; so many are read")
    return content


def record_value(content: bytes) -> str:
    """A record.json as it stands in a line: tight where `laid_out` brings it back, else as one text; BadJson if it is no JSON."""
    strict_json.loads(content)
    text = content.decode()
    value = tight(text)
    return value if value.startswith("{") and laid_out(value, safe_files.RECORD) == content else json.dumps(text)


def status_value(content: bytes) -> str:
    """A run.json, likewise; NotJson only where it is not UTF-8, as a damaged one says nothing and harms nothing."""
    try:
        value = _dumped(strict_json.loads(content))
        if value.startswith("{") and laid_out(value, safe_files.STATUS) == content:
            return value
    except (BadJson, FileRefused):
        pass
    try:
        return json.dumps(content.decode())
    except UnicodeDecodeError as error:
        raise NotJson(f"it is not UTF-8: {error}") from error


def compose(line: dict[str, Any], status: str | None, record: str) -> bytes:
    """A line: its first fields, then run.json and record.json as `status_value` and `record_value` made them."""
    start = _dumped(line)[:-1]
    return f'{start},"status":{status or "null"},"record":{record}}}\n'.encode()


def _dumped(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


# Reading records.jsonl


class Packed:
    """A line that was read, and the bytes of its JSON files."""

    def __init__(self, path: Path, number: int, content: bytes) -> None:
        where = f"{path}, line {number}"
        try:
            if len(content) > MOST_LINE:
                raise FileRefused(f"it has {len(content):,} bytes; at most {MOST_LINE:,} of a line are read")
            raw = strict_json.loads(content)
            self.line = Line.model_validate(raw)
            first = {name: raw[name] for name in ("packed", "run", "ledger", "policy")}
            status = None if raw["status"] is None else _dumped(raw["status"])
            start = compose(first, status, "")[:-2]
            if not content.startswith(start):
                raise FileRefused("it is not written as `banel pack` writes it")
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False)[0]
            field = visible(".".join(map(str, found["loc"])), MOST_NAME)
            raise RecordError(f"{where}: {field}: {visible(found['msg'])}, not {shown(found['input'])}") from error
        except (BadJson, FileRefused) as error:
            raise RecordError(f"{where}: {error}") from error
        self._record, self._status, self._where = content[len(start) : -1], status, where

    @property
    def run(self) -> str:
        """Where the run stands in its part."""
        return self.line.run

    def record(self) -> bytes:
        """record.json; RecordError if it has too many bytes."""
        return self._json(self.line.record, self._record.decode(), safe_files.RECORD)

    def status(self) -> bytes | None:
        """run.json, None if there is none; RecordError likewise."""
        return None if self._status is None else self._json(self.line.status, self._status, safe_files.STATUS)

    def _json(self, value: Any, text: str, most: int) -> bytes:
        try:
            return value.encode() if isinstance(value, str) else laid_out(text, most)
        except FileRefused as error:
            raise RecordError(f"{self._where}: {error}") from error


def read_lines(part: Path) -> list[Packed]:
    """The runs of a part, in order.

    Raises:
        FileRefused: records.jsonl is missing, no regular file or too large.
        RecordError: it is not what `banel pack` writes: a line has other fields, a key twice or a size beyond the limits; a
            run stands twice, or in the folder of another one.
    """
    path = part / LINES
    content = safe_files.read(path, MOST_FILE, below=part)
    if not content.endswith(b"\n"):
        raise RecordError(f"{path} is empty or cut: its last line has no end; pack the runs again")
    if (count := content.count(b"\n")) > MOST_RUNS:
        raise RecordError(f"{path} has {count:,} lines; at most {MOST_RUNS:,} are read")
    lines = [Packed(path, number, line) for number, line in enumerate(content[:-1].split(b"\n"), 1)]
    for before, after in pairwise(lines):
        if before.run >= after.run:
            raise RecordError(f"{path}: the run {after.run} stands twice, or behind {before.run}; lines are in order")
    _check_apart(path, [line.run for line in lines])
    for state, size in {
        "unpacked": sum(p.line.ledger.bytes + (p.line.policy.bytes if p.line.policy else 0) for p in lines),
        "decompressed": sum(p.line.ledger.packed for p in lines),
    }.items():
        if size > MOST_UNPACKED:
            raise RecordError(f"{path} states {size:,} bytes {state}; a submission has at most {MOST_UNPACKED:,}")
    return lines


def _check_apart(path: Path, runs: Sequence[str]) -> None:
    """RecordError if two runs share a folder; also where large and small letters are the same."""
    names = {run.casefold(): run for run in runs}
    if len(names) < len(runs):
        raise RecordError(f"{path}: two runs differ only in large and small letters; name them apart")
    for name, run in names.items():
        steps = name.split("/")
        for k in range(1, len(steps)):
            if "/".join(steps[:k]) in names:
                raise RecordError(f"{path}: the run {run} stands in the folder of another run; put it beside it")


def records(part: Path) -> Iterator[RunRecord]:
    """The records of a part that are valid, without its ledgers; errors as for `read_lines`."""
    for line in read_lines(part):
        try:
            yield RunRecord.parse(line.record(), part / line.run)
        except RecordError:
            continue  # it is named when the board reads it


# Ledgers and policies


def without_hashes(content: bytes) -> bytes:
    """A ledger as it stands in a stream: its lines without their hashes, or as it is where they do not follow."""
    lines = content.split(b"\n")
    bare = b"".join(line[: -ledger_format.SUFFIX] + b"\n" for line in lines[:-1])
    return bare if len(bare) < len(content) and b"".join(with_hashes([bare])) == content else content


def with_hashes(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The inverse, piece by piece: every line sealed, see ledger_format.seal."""
    digest = hashlib.sha256()
    for piece in pieces:
        out: list[bytes] = []
        for k, part in enumerate(piece.split(b"\n")):
            if k:
                head = digest.hexdigest().encode()
                out.append(ledger_format.MARK + head + b'"}\n')
                digest = hashlib.sha256(head)
            digest.update(part)
            out.append(part)
        yield b"".join(out)


def policies_header(policies: Iterable[tuple[str, int]]) -> bytes:
    """The start of a safetensors file of byte tensors with these names and sizes, one behind the other."""
    header: dict[str, Any] = {}
    start = 0
    for name, size in policies:
        header[name] = {"dtype": "U8", "shape": [size], "data_offsets": [start, start + size]}
        start += size
    text = _dumped(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
